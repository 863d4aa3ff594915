"""What flows through a lane before it is stored: raw rows, drafts with raw media, finished samples with members.

Here: the structs only.
Elsewhere: who makes them: sources (Row), records.normalize (Draft), media (Member), build (Prepared).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shardkit.records.sample import Message, Modalities, Preference, Sample

Modality = Literal["image", "audio", "video"]
Cursor = dict[str, int | str]
"""How far a lane has come in its source: small, JSON-safe, opaque to everyone but the source that made it."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One raw record of a source with its bytes.

    `position` says where it lies in the source, stably and without any location of this machine
    (`text/gsm8k.jsonl:17`, `src/app.py`, `42`). `fields` is the only open-ended dict in the system: it ends at
    the normaliser. `blobs` holds media bytes by field name.
    """

    position: str
    fields: dict[str, Any]
    blobs: dict[str, bytes] = {}

    @property
    def size_bytes(self) -> int:
        """Bytes that the row occupies in a queue: its blobs and its texts, in UTF-8 at most 4 a character."""
        size = 512 + sum(map(len, self.blobs.values()))
        for value in self.fields.values():
            if isinstance(value, (str, bytes)):
                size += len(value)
            elif isinstance(value, (list, dict)):
                size += _nested_bytes(value)
        return size


def _nested_bytes(value: list[Any] | dict[str, Any]) -> int:
    """About the bytes of a value within a row; without recursion, rows may nest as they like."""
    size, inner = 0, [value]
    for here in inner:
        size += 64
        for entry in here.values() if isinstance(here, dict) else here:
            kind = type(entry)
            if kind is str or kind is bytes:
                size += 16 + len(entry)
            elif kind is dict or kind is list:
                inner.append(entry)
    return size


class RawMedium(msgspec.Struct, frozen=True, kw_only=True):
    """One medium as it came, not yet decoded or checked. `type` is one of the modality's types in sample.py."""

    modality: Modality
    type: str
    data: bytes
    description: str = ""
    language: str = ""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Media in their stored form, from a dataset of ours: they are checked and stored again as they are."""

    modalities: Modalities
    members: tuple[Member, ...]


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A normalised row: its messages are final, its media are still raw.

    `media` are in the order of their marks within each modality. Empty `messages` mean unlabelled. `kept` in place of
    `media` are media that a dataset of ours had stored.
    """

    id: str
    messages: tuple[Message, ...] = ()
    preference: Preference | None = None
    media: tuple[RawMedium, ...] = ()
    domain: str
    category: str
    source: str
    licence: str = ""
    repetition_style: str = ""
    provenance: dict[str, str] = {}
    kept: Kept | None = None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a sample other than KEY.json: its name within the sample (`image0.png`) and its bytes."""

    name: str
    data: bytes


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A finished sample with its members in stored order (see `member_names`); ready for a shard."""

    sample: Sample
    members: tuple[Member, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of all members and of the record's texts, and an estimate for the rest."""
        texts = sum(len(message.content) for message in self.sample.messages)
        if self.sample.preference is not None:
            texts += len(self.sample.preference.chosen) + len(self.sample.preference.rejected)
        return 1024 + texts + sum(len(member.data) for member in self.members)
