"""Files of one name as a row: what their extensions say they are.

Here: members gathered up to a limit, from members to fields and blobs.
Elsewhere: which files are of one name: neighbours in a tar (tar_files.py), in a listing (archives.stems).
"""

from __future__ import annotations

from typing import Any

from shardkit.errors import Refused
from shardkit.records.row import Row
from shardkit.sources.base import BadRow
from shardkit.sources.strict_json import parse_object

TEXTS = frozenset(
    (
        "txt",
        "text",
        "caption",
        "transcript",
        "cls",
        "label",
        "md",
        "html",
        "css",
        "js",
        "py",
        "srt",
        "vtt",
        "csv",
        "xml",
    )
)
"""Extensions of members that are text; all but these and json stay bytes, whatever is in them."""


class Members:
    """The members of one sample by their extensions, while they come. `refusal`: why it can be no row."""

    def __init__(self, name: str, limit: int) -> None:
        self.name, self.refusal = name, ""
        self.members: dict[str, bytes] = {}
        self._limit, self._bytes = limit, 0

    def room_for(self, size: int) -> bool:
        """Count a member of so many bytes; whether it is to be read: beyond the limit none is."""
        self._bytes += size
        if self._bytes > self._limit:
            self.refusal = f"members of more than {self._limit} bytes"
            self.members.clear()
        return not self.refusal


def row_of_members(sample: Members, position: str, choices: list[str]) -> Row | BadRow:
    """The row of a sample; of `choices` such as `jpg;png` each is whichever of its members there is."""
    if sample.refusal:
        return BadRow(position=position, reason="too-big", detail=sample.refusal)
    try:
        fields = _fields(sample)
    except Refused as refused:
        return BadRow(position=position, reason=refused.reason, detail=refused.detail)
    blobs = {name: data for name, data in sample.members.items() if name.rpartition(".")[2] not in TEXTS}
    for choice in choices:
        there = next((name for name in choice.split(";") if name in sample.members), "")
        if there in blobs:
            blobs[choice] = blobs[there]
        elif there in fields:
            fields[choice] = fields[there]
    return Row(position=position, fields=fields, blobs=blobs)


def _fields(sample: Members) -> dict[str, Any]:
    """The fields of its json, with its texts by extension. Raises Refused (not JSON, not UTF-8)."""
    fields: dict[str, Any] = {"__key__": sample.name}
    for name, data in sample.members.items():
        extension = name.rpartition(".")[2]
        if name == "json":
            fields |= parse_object(data)
        elif extension in TEXTS:
            try:
                fields[name] = data.decode("utf-8-sig")
            except UnicodeDecodeError:
                raise Refused("not-utf8", name) from None
    return fields
