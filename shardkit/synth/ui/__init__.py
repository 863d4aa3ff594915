"""User interfaces as data: what is on a page, painting it, its HTML and CSS, and questions about it."""
