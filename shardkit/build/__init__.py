"""Building: from a spec through a plan and its lanes to a published version."""
