"""What a published dataset is to the tests.

Here: the struct, and media small enough to write down.
Elsewhere: the datasets (a file a family).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from tests.media.making import clip, encoded, picture
from tests.media.making import sound as sound_of

Rows = list[dict[str, Any]]


class Published(NamedTuple):
    """One dataset, or one way to read it.

    `spec` are the fields of its source beside the place, `becomes` what comes out in order: the messages of a sample as
    `role: content`, then `chosen: …` and `rejected: …`, or `refused: reason`, or `passed: count`. `suffix` is how it is
    published; columns within jsonl.gz are read as jsonl.
    """

    name: str
    rows: Callable[[], Rows]
    spec: dict[str, Any]
    becomes: list[list[str]]
    suffix: str = "parquet"


@lru_cache
def image(number: int) -> dict[str, Any]:
    """A small picture, another one for each number."""
    return {"bytes": encoded(picture(16 + number, 16), "PNG"), "path": f"{number}.png"}


@lru_cache
def sound(number: int = 0) -> dict[str, Any]:
    """A quarter of a second of sound."""
    return {"bytes": sound_of("WAV", seconds=0.25 + number / 16), "path": f"{number}.wav"}


@lru_cache
def film() -> bytes:
    """A short film."""
    return clip()
