"""A row seen through the roles of its normaliser: checked text, blobs, options.

Here: finding a role's column, refusing what is absent, of another type or not text.
Elsewhere: what the roles mean (chat.py and its neighbours), which there are (table.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import msgspec

from shardkit.errors import Refused
from shardkit.records.marks import escape_marks
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
ROWS = "rows"
"""The field in which a gathered row holds the rows that it was made of (sources.gather)."""


class Content(NamedTuple):
    """What a normaliser makes of a row; the rest of the draft comes from the source's spec."""

    messages: tuple[Message, ...] = ()
    preference: Preference | None = None
    media: tuple[RawMedium, ...] = ()
    provenance: Mapping[str, str] = {}
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
        return field(self.row.fields, self.spec.columns.get(role, role))

    def column(self, role: str) -> str:
        """The name of a role's column: as `columns` maps it, else the role's own name."""
        return self.spec.columns.get(role, role)

    def text(self, role: str) -> str:
        """Text that must be there and not be blank; raises Refused (`missing-field`, `empty-text`, `not-utf8`)."""
        name = self.spec.columns.get(role, role)
        value = field(self.row.fields, name)
        if not isinstance(value, str):
            raise Refused("missing-field", f"{name}: found {kind_of(value)}, wanted text")
        if not value or value.isspace():
            raise Refused("empty-text", name)
        return checked_text(value, name)

    def said(self, role: str) -> str:
        """As `text`, with its marks escaped, or left where the option `marks` says that they are meant."""
        text = self.text(role)
        return text if self.options.get("marks") else escape_marks(text)

    def optional(self, role: str) -> str:
        """As `said`, or an empty text where the column is absent, null or blank."""
        value = self.value(role)
        return "" if value is None or (isinstance(value, str) and not value.strip()) else self.said(role)

    def list_of(self, role: str) -> list[Any]:
        """A list that must be there and hold something; raises Refused (`missing-field`)."""
        value = self.value(role)
        if not isinstance(value, list) or not value:
            found = "an empty list" if isinstance(value, list) else kind_of(value)
            raise Refused("missing-field", f"{self.column(role)}: found {found}, wanted a list")
        return value

    def gathered(self) -> list[Columns]:
        """The rows that this one was gathered from; itself where the source does not gather."""
        return self.parts(ROWS) if self.spec.gather else [self]

    def parts(self, name: str) -> list[Columns]:
        """Rows within this one: the objects in the list `name`; raises Refused (`missing-field`)."""
        inner = self.row.fields.get(name)
        if not isinstance(inner, list) or not inner or not all(isinstance(fields, dict) for fields in inner):
            raise Refused("missing-field", f"{name}: wanted a list of rows; say `gather` in the source")
        return [Columns(Row(position=self.row.position, fields=fields), self.spec, self.options) for fields in inner]

    def medium(self, modality: Modality, role: str = "") -> tuple[RawMedium, ...]:
        """The media of one modality, as many as the row has: the column's blob, or blobs `column.0`, `column.1`, …"""
        blobs, name = self.row.blobs, self.column(role or modality)
        found = [blobs[name]] if name in blobs else []
        while name not in blobs and (blob := blobs.get(f"{name}.{len(found)}")) is not None:
            found.append(blob)
        given = self.spec.media_type
        kind = given if given in MEDIA_TYPES[modality] else DEFAULT_TYPES[modality]
        language = self.spec.language if modality == "audio" else ""
        return tuple(RawMedium(modality=modality, type=kind, data=blob, language=language) for blob in found)

    def media(self, *modalities: Modality) -> tuple[RawMedium, ...]:
        """The media of several modalities, one after the other."""
        if not self.row.blobs:
            return ()
        return tuple(medium for modality in modalities for medium in self.medium(modality))

    def required_media(self, *modalities: Modality) -> tuple[RawMedium, ...]:
        """As `media`, of which there must be one at least; raises Refused (`no-media`)."""
        found = self.media(*modalities)
        if not found:
            raise Refused("no-media", f"wanted {' or '.join(self.column(modality) for modality in modalities)}")
        return found


def field(fields: Mapping[str, Any], name: str) -> Any:
    """The field `name`, or, where there is none, the one that `a.b.c` leads to through objects; None: there is none."""
    value = fields.get(name)
    if value is not None or "." not in name:
        return value
    here: Any = fields
    for part in name.split("."):
        if not isinstance(here, dict):  # an abstract class takes five times as long to ask
            return None
        here = here.get(part)
    return here


def checked_text(text: str, name: str) -> str:
    """The text itself; raises Refused (`not-utf8`) for NUL and lone surrogates."""
    if "\0" in text:
        raise Refused("not-utf8", f"{name}: NUL")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Refused("not-utf8", f"{name}: lone surrogate") from None
    return text


def is_plain(text: str) -> bool:
    """Whether a text needs neither checks nor escapes, which most do not; a name for it need not even be made."""
    return text.isascii() and "<|" not in text and "\0" not in text and bool(text) and not text.isspace()


def escaped(value: Any, name: str, marks: bool = False) -> str:
    """Text found inside of a column: checked as `Columns.text` does, marks escaped unless they are meant."""
    if not isinstance(value, str):
        raise Refused("missing-field", f"{name}: found {kind_of(value)}, wanted text")
    if not value or value.isspace():
        raise Refused("empty-text", name)
    checked_text(value, name)
    return value if marks or "<|" not in value else escape_marks(value)


def kind_of(value: Any) -> str:
    """What a value is, in words for the details of refusals."""
    kinds = {
        type(None): "nothing",
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
    }
    return kinds.get(type(value), "another type")
