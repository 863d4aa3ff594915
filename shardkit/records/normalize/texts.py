"""Only the texts of rows, without their media: what decontamination compares.

Here: a source as it is read for its texts alone, the turns of its rows.
Elsewhere: whole drafts (door.py), marks in their texts (records.marks), what is done with the texts (curate).
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from shardkit.errors import SpecError
from shardkit.records.normalize.door import normalize
from shardkit.records.normalize.pictures import NUMBERED
from shardkit.records.normalize.table import NORMALIZERS
from shardkit.records.row import Draft, Row
from shardkit.spec import SourceSpec

MEDIA_ROLES = frozenset({"image", "audio", "video", *NUMBERED})
LEFT_OUT = "media-left-out"
"""In place of every column of media: no row has such a column, so that readers of columns fetch none of theirs."""

S = TypeVar("S", bound=SourceSpec)


def only_texts(spec: S) -> S:
    """A source whose media are not read and whose texts are the rows' own: nothing that a normaliser adds to them.

    Raises SpecError where its normaliser reads nothing but media.
    """
    entry = NORMALIZERS[spec.normalizer]
    if set(entry.roles) <= MEDIA_ROLES:
        raise SpecError(f"source {spec.name}: its normalizer {spec.normalizer} reads media and no text")
    left_out = {role: LEFT_OUT for role in entry.roles if role in MEDIA_ROLES}
    silent = {"instruction": ""} if "instruction" in entry.options else {}
    return msgspec.structs.replace(
        spec, columns={**spec.columns, **left_out}, options={**spec.options, **silent}, rules=None
    )


def said_in(row: Row, spec: SourceSpec, revision: str) -> Draft:
    """The draft of a row of a source that `only_texts` gave: empty media stand where it may have some.

    A pure function of its arguments. Raises Refused as `normalize` does.
    """
    return normalize(msgspec.structs.replace(row, blobs={LEFT_OUT: b""}), spec, revision)
