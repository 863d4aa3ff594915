"""Rows in the schemas in which public datasets are published: true names and types of columns, invented contents.

Here: the door: rows by a dataset's id, how a source reads them, and what each becomes.
Elsewhere: the rows (a file a family), reading them through the real sources (tests/records/test_published.py).
"""

from __future__ import annotations

from typing import Any

from tests.records.published import audio, benchmarks, chat, code, preference, video, vision
from tests.records.published.shape import Published

PUBLISHED: dict[str, Published] = {
    one.name: one for family in (code, chat, preference, vision, audio, video, benchmarks) for one in family.DATASETS
}
"""Datasets by their id on the hub; one that is read in two ways has a second name behind `#`."""


def published_rows(name: str) -> list[dict[str, Any]]:
    """A few rows of a dataset, as a file of it holds them: media are {bytes, path} or bytes."""
    return PUBLISHED[name].rows()
