"""A row seen through the roles of its normaliser: checked text, blobs, options.

Here: finding a role's column, refusing what is absent, of another type or not text.
Elsewhere: what the roles mean (text.py, media.py), which there are (table.py).
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from shardkit.errors import Refused
from shardkit.records.row import Member, Modality, RawMedium, Row
from shardkit.records.sample import AudioType, ImageType, Message, Preference, Sample, VideoType
from shardkit.spec import SourceSpec

MEDIA_TYPES: dict[Modality, tuple[str, ...]] = {
    "image": get_args(ImageType),
    "audio": get_args(AudioType),
    "video": get_args(VideoType),
}
DEFAULT_TYPES: dict[Modality, str] = {"image": "screenshot", "audio": "speech", "video": "screencast"}
Options = dict[str, str | int | float | bool]


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a normaliser makes of a row; the rest of the draft comes from the source's spec."""

    messages: tuple[Message, ...] = ()
    preference: Preference | None = None
    media: tuple[RawMedium, ...] = ()
    provenance: dict[str, str] = {}
    passed: Sample | None = None
    """A finished sample with its `kept` members, passed on: what the row's spec does not say stays as it was."""
    kept: tuple[Member, ...] = ()


class Columns(msgspec.Struct, frozen=True):
    """One row and its source's spec. `options` are the normaliser's defaults with the spec's over them."""

    row: Row
    spec: SourceSpec
    options: Options

    def value(self, role: str) -> Any:
        """The value of a role's column, or None where the row has no such field."""
        return self.row.fields.get(self.column(role))

    def column(self, role: str) -> str:
        """The name of a role's column: as `columns` maps it, else the role's own name."""
        return self.spec.columns.get(role, role)

    def text(self, role: str) -> str:
        """Text that must be there and not be blank; raises Refused (`missing-field`, `empty-text`, `not-utf8`)."""
        value = self.value(role)
        if not isinstance(value, str):
            raise Refused("missing-field", f"{self.column(role)}: found {_kind(value)}, wanted text")
        if not value.strip():
            raise Refused("empty-text", self.column(role))
        return checked_text(value, self.column(role))

    def medium(self, modality: Modality) -> tuple[RawMedium, ...]:
        """The media of one modality, as many as the row has: the column's blob, or blobs `column.0`, `column.1`, …"""
        name = self.column(modality)
        found = [self.row.blobs[name]] if name in self.row.blobs else []
        while name not in self.row.blobs and (blob := self.row.blobs.get(f"{name}.{len(found)}")) is not None:
            found.append(blob)
        given = self.spec.media_type
        kind = given if given in MEDIA_TYPES[modality] else DEFAULT_TYPES[modality]
        return tuple(
            RawMedium(modality=modality, type=kind, data=blob, language=self._language(modality)) for blob in found
        )

    def media(self, *modalities: Modality) -> tuple[RawMedium, ...]:
        """The media of several modalities, one after the other."""
        return tuple(medium for modality in modalities for medium in self.medium(modality))

    def required_media(self, *modalities: Modality) -> tuple[RawMedium, ...]:
        """As `media`, of which there must be one at least; raises Refused (`no-media`)."""
        found = self.media(*modalities)
        if not found:
            raise Refused("no-media", f"wanted {' or '.join(self.column(modality) for modality in modalities)}")
        return found

    def _language(self, modality: Modality) -> str:
        return self.spec.language if modality == "audio" else ""


def checked_text(text: str, name: str) -> str:
    """The text itself; raises Refused (`not-utf8`) for NUL and lone surrogates."""
    if "\0" in text:
        raise Refused("not-utf8", f"{name}: NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused("not-utf8", f"{name}: lone surrogate") from None
    return text


def _kind(value: Any) -> str:
    kinds = {
        type(None): "nothing",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return kinds.get(type(value), "another type")
