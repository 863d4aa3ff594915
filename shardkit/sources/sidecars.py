"""Media and the texts beside them: files of one stem belong together.

Here: grouping a listing by stems, what a sidecar says.
Elsewhere: reading the files (files.py), what the rows mean (records.normalize.sidecar).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from shardkit.errors import Refused
from shardkit.sources.listing import Entry
from shardkit.sources.strict_json import parse_object

TEXTS = (b".txt", b".caption", b".srt")
JSON = b".json"
SIDECAR_BYTES = 16 << 20
TIMING = re.compile(r"\d+:\d\d:\d\d[,.]\d+\s*-->\s*\d+:\d\d:\d\d[,.]\d+.*")


class Beside(NamedTuple):
    """A medium's number in the listing, its entry, and those of its sidecars by suffix."""

    number: int
    entry: Entry
    sidecars: dict[bytes, Entry]


def with_sidecars(entries: Iterable[Entry], is_medium: Any) -> Iterator[Beside]:
    """The media of a listing with what lies beside each, in the listing's order.

    Paths are sorted, so files whose names agree up to their first dot follow one another: only those are held.
    """
    for _, group in groupby(enumerate(entries), key=lambda numbered: _beginning(numbered[1].path)):
        files = list(group)
        beside: dict[bytes, dict[bytes, Entry]] = {}
        for _, entry in files:
            stem, suffix = _split(entry.path)
            if suffix in (*TEXTS, JSON):
                beside.setdefault(stem, {})[suffix] = entry
        for index, entry in files:
            stem, suffix = _split(entry.path)
            if is_medium(entry):
                yield Beside(index, entry, beside.get(stem, {}))


def fields_of(sidecars: dict[bytes, bytes]) -> dict[str, Any]:
    """The fields of a json sidecar, and the text of the others as `text`. Raises Refused."""
    fields = parse_object(sidecars[JSON]) if JSON in sidecars else {}
    suffix = next((suffix for suffix in TEXTS if suffix in sidecars), None)
    if suffix is None:
        return fields
    try:
        text = sidecars[suffix].decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused("not-utf8", f"the file {suffix.decode()} beside it") from None
    return {**fields, "text": subtitle_words(text) if suffix == b".srt" else text.strip()}


def subtitle_words(text: str) -> str:
    """What is said in subtitles (SRT), a line a cue, without numbers, times and tags."""
    cues = re.split(r"\n\s*\n", text.replace("\r\n", "\n").strip())
    said = []
    for cue in cues:
        lines = [line.strip() for line in cue.split("\n")]
        at = next((at for at, line in enumerate(lines) if TIMING.fullmatch(line)), -1)
        words = " ".join(line for line in lines[at + 1 :] if line)
        said.append(re.sub(r"</?[a-zA-Z][^<>]*>|\{\\[^{}]*\}", "", words))
    return "\n".join(line for line in said if line)


def _split(path: bytes) -> tuple[bytes, bytes]:
    """A path without its suffix, and the suffix in lower case."""
    name = path.rpartition(b"/")[2]
    suffix = b"." + name.rpartition(b".")[2] if b"." in name[1:] else b""
    return path[: len(path) - len(suffix)], suffix.lower()


def _beginning(path: bytes) -> bytes:
    folder, slash, name = path.rpartition(b"/")
    return folder + slash + name[:1] + name[1:].partition(b".")[0]
