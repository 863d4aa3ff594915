"""A validation as a static page.

Here: writing the page.
Elsewhere: what was found (curate.validate), the template (validation.html.j2).
"""

from __future__ import annotations

from pathlib import Path

from shardkit.curate.validate import Validation


def write_validation(found: Validation, path: Path) -> Path:
    """Write one self-contained HTML file to `path` and give the path back. Raises OSError."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("shardkit", "report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("validation.html.j2").render(found=found)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path
