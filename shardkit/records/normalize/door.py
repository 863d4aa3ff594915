"""The door to the normalisers: from a row and its source's spec to a draft.

Here: finding the normaliser, what all drafts have, checking that a spec asks for what there is.
Elsewhere: the table (table.py), what each normaliser does (chat.py and its neighbours).
"""

from __future__ import annotations

import msgspec

from shardkit.errors import Refused, SpecError
from shardkit.records.normalize.columns import MEDIA_TYPES, Columns, Content, Options, checked_text
from shardkit.records.normalize.passed import pass_on
from shardkit.records.normalize.table import NORMALIZERS, Gathers, Normalizer
from shardkit.records.normalize.tree import TREE_ROLES
from shardkit.records.row import Draft, Modality, Row
from shardkit.spec import Limits, SourceSpec

COMMON_ROLES = ("id", "category", "licence", "group")
"""Roles that every normaliser knows, read only where `columns` maps them.

`group` names what the row is a part of (a film, a speaker, a project): a split keeps it on one side.
"""

GATHERS: dict[Gathers, str] = {
    "": "rows as they are",
    "by": "rows that belong together (gather: {by: COLUMN})",
    "tree": "trees of messages (gather: {tree: true})",
    "siblings": "replies within trees (gather: {tree: true, siblings: true})",
}

_DEFAULT_LIMITS = Limits()


class Way(msgspec.Struct, frozen=True):
    """A spec with what is found for it once, not for each row: its normaliser, and that one's options under its own."""

    spec: SourceSpec
    entry: Normalizer
    options: Options
    category: str


_ways: dict[int, Way] = {}
"""Ways by the identity of their spec, which they hold: so no other spec can have it."""


def normalize(row: Row, spec: SourceSpec, revision: str, limits: Limits | None = None) -> Draft:
    """The draft of a row: final messages, raw media. A pure function of its arguments.

    `revision` is the source's, as pinned. The licence is the row's own where `columns` maps `licence` to a column that
    has one, else the source's. Raises Refused: a field is absent or of another type, text is empty, not UTF-8 or too
    long, roles are impossible, media are absent, no answer is preferred.
    """
    way = _way(spec)
    columns = Columns(row, spec, way.options)
    content = way.entry.make(columns)
    _check_length(content, (limits or _DEFAULT_LIMITS).text_characters)
    position = checked_text(row.position, "position")
    if content.passed is not None:
        return pass_on(content, spec, {"revision": revision, "position": position})
    named = spec.columns
    return Draft(
        id=_identifier(columns) if "id" in named else f"{spec.name}/{position}",
        messages=content.messages,
        preference=content.preference,
        media=content.media,
        domain=spec.domain or spec.name,
        category=columns.text("category") if "category" in named else way.category,
        source=spec.name,
        licence=_licence(columns) if "licence" in named else spec.licence,
        provenance={"revision": revision, "position": position, **_group(columns), **content.provenance},
    )


def check_normalizer(spec: SourceSpec) -> None:
    """Raises SpecError where a source names a normaliser, role, option or media type that does not exist."""
    entry = NORMALIZERS.get(spec.normalizer)
    if entry is None:
        raise SpecError(f"source {spec.name}: no normalizer {spec.normalizer!r}; there are: {', '.join(NORMALIZERS)}")
    where = f"source {spec.name}, normalizer {spec.normalizer}"
    roles = (*entry.roles, *_tree_roles(spec), *COMMON_ROLES)
    for role in spec.columns:
        if role not in roles:
            raise SpecError(f"{where}: columns maps {role!r}, which it does not read; it reads: {', '.join(roles)}")
    _check_options(spec, entry, where)
    _check_media_type(spec, entry, where)
    found = _gathered(spec)
    if found not in entry.gathers:
        raise SpecError(
            f"{where}: found {GATHERS[found]}; it takes {' or '.join(GATHERS[way] for way in entry.gathers)}"
        )


def possible_modalities(spec: SourceSpec) -> tuple[Modality, ...]:
    """The modalities that samples of a source may have; the tools for them are part of its lanes' toolchain."""
    if spec.text_alone:
        return ()
    return NORMALIZERS[spec.normalizer].modalities


def columns_read(spec: SourceSpec) -> tuple[str, ...]:
    """Names of the columns that a source's normaliser may read; a columnar source needs no others."""
    common = (role for role in COMMON_ROLES if role in spec.columns)
    roles = (*NORMALIZERS[spec.normalizer].roles, *_tree_roles(spec), *common)
    keys = spec.gather.keys if spec.gather else ()
    return (*(spec.columns.get(role, role) for role in roles), *keys, *spec.where, *spec.unless, *spec.joined_columns)


def _way(spec: SourceSpec) -> Way:
    way = _ways.get(id(spec))
    if way is None or way.spec is not spec:
        entry = NORMALIZERS[spec.normalizer]
        if len(_ways) >= 1024:
            _ways.clear()
        way = Way(spec, entry, {**entry.options, **spec.options}, spec.category or spec.normalizer)
        _ways[id(spec)] = way
    return way


def _gathered(spec: SourceSpec) -> Gathers:
    gather = spec.gather
    if gather is None:
        return ""
    return "siblings" if gather.siblings else "tree" if gather.tree else "by"


def _tree_roles(spec: SourceSpec) -> tuple[str, ...]:
    return TREE_ROLES if spec.gather and spec.gather.tree else ()


def _check_options(spec: SourceSpec, entry: Normalizer, where: str) -> None:
    for name, value in spec.options.items():
        if name not in entry.options:
            known = ", ".join(entry.options) or "none"
            raise SpecError(f"{where}: no option {name!r}; there are: {known}")
        wanted = type(entry.options[name])
        if type(value) is not wanted:
            raise SpecError(f"{where}: option {name} is {value!r}; it must be of type {wanted.__name__}")
        if name in entry.choices and value not in entry.choices[name]:
            raise SpecError(f"{where}: option {name} is {value!r}; it may be: {', '.join(entry.choices[name])}")


def _check_media_type(spec: SourceSpec, entry: Normalizer, where: str) -> None:
    allowed = [name for modality in entry.modalities for name in MEDIA_TYPES[modality]]
    if spec.media_type and spec.media_type not in allowed:
        known = f"there are: {', '.join(allowed)}" if allowed else "leave it out, it takes no media"
        raise SpecError(f"{where}: no media_type {spec.media_type!r}; {known}")


def _check_length(content: Content, limit: int) -> None:
    characters = 0
    for message in content.messages:
        characters += len(message.content)
    if content.preference is not None:
        characters += len(content.preference.chosen) + len(content.preference.rejected)
    if characters > limit:
        raise Refused("too-long", f"{characters} characters, at most {limit}")


def _identifier(columns: Columns) -> str:
    """The row's own id where `columns` maps one."""
    value = columns.value("id")
    return str(value) if type(value) is int else columns.text("id")


def _group(columns: Columns) -> dict[str, str]:
    """What a split keeps together with the row, where `columns` maps it and the row says it."""
    value = columns.value("group") if "group" in columns.spec.columns else None
    if value is None or value == "":
        return {}
    return {"group": str(value) if type(value) is int else columns.text("group")}


def _licence(columns: Columns) -> str:
    """The row's own licence, or the source's where the row names none; of several all, as a list in one text."""
    value = columns.value("licence")
    named = [entry for entry in value if entry] if isinstance(value, list) else [value] if value else []
    if not all(isinstance(entry, str) for entry in named):
        raise Refused("missing-field", f"{columns.column('licence')}: wanted text")
    texts = [checked_text(entry.strip(), columns.column("licence")) for entry in named if entry.strip()]
    return ", ".join(texts) or columns.spec.licence
