"""The table of normalisers and the door to it.

Here: which normalisers there are, their roles, options and modalities; checking a spec; from a row to a draft.
Elsewhere: what each does (text.py, media.py).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shardkit.errors import Refused, SpecError
from shardkit.records.normalize import media, text
from shardkit.records.normalize.columns import MEDIA_TYPES, Columns, Content, Options, checked_text
from shardkit.records.normalize.passed import from_sample, pass_on
from shardkit.records.normalize.sidecar import from_sidecar
from shardkit.records.row import Draft, Modality, Row
from shardkit.spec import Limits, SourceSpec

ALL_MEDIA: tuple[Modality, ...] = ("image", "audio", "video")
COMMON_ROLES = ("id", "category")
"""Roles that every normaliser knows, read only where `columns` maps them."""


class Normalizer(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table. `roles` are the columns it reads, `modalities` those that it may take from a row.

    `options` are its options with their defaults, whose types are those wanted.
    """

    make: Callable[[Columns], Content]
    roles: tuple[str, ...]
    modalities: tuple[Modality, ...] = ()
    options: Options = {}


NORMALIZERS: dict[str, Normalizer] = {
    "messages": Normalizer(
        make=text.from_messages,
        roles=("messages", *ALL_MEDIA),
        modalities=ALL_MEDIA,
        options={"marks": False},
    ),
    "question_answer": Normalizer(
        make=text.from_question_answer,
        roles=("question", "answer", *ALL_MEDIA),
        modalities=ALL_MEDIA,
        options={"marks": False},
    ),
    "preference": Normalizer(make=text.from_preference, roles=("prompt", "chosen", "rejected", "completion", "label")),
    "prompt_completion": Normalizer(make=text.from_prompt_completion, roles=("prompt", "completion")),
    "plain_text": Normalizer(make=text.from_plain_text, roles=("text",)),
    "repository_file": Normalizer(make=text.from_repository_file, roles=("text", "path", "licence_file")),
    "transcript": Normalizer(
        make=media.from_transcript,
        roles=("audio", "text"),
        modalities=("audio",),
        options={"instruction": ""},
    ),
    "screenshot_to_code": Normalizer(
        make=media.from_screenshot_to_code,
        roles=("image", "code"),
        modalities=("image",),
        options={"instruction": "Write the HTML and CSS of this page."},
    ),
    "caption": Normalizer(
        make=media.from_caption,
        roles=("image", "video", "text"),
        modalities=("image", "video"),
        options={"instruction": ""},
    ),
    "sample": Normalizer(make=from_sample, roles=("json",)),
    "sidecar": Normalizer(
        make=from_sidecar,
        roles=("text", *ALL_MEDIA),
        modalities=ALL_MEDIA,
        options={"instruction": ""},
    ),
    "unlabelled": Normalizer(make=media.from_unlabelled, roles=ALL_MEDIA, modalities=ALL_MEDIA),
}
"""Normalisers by the name that a spec gives. A new one is a function and a row here."""


def normalize(row: Row, spec: SourceSpec, revision: str, limits: Limits | None = None) -> Draft:
    """The draft of a row: final messages, raw media. A pure function of its arguments.

    `revision` is the source's, as pinned. Raises Refused: a field is absent or of another type, text is empty, not
    UTF-8 or too long, roles are impossible, media are absent.
    """
    entry = NORMALIZERS[spec.normalizer]
    columns = Columns(row, spec, {**entry.options, **spec.options})
    content = entry.make(columns)
    _check_length(content, limits or Limits())
    if content.passed is not None:
        return pass_on(content.passed, content.kept, spec, revision)
    return Draft(
        id=_identifier(columns),
        messages=content.messages,
        preference=content.preference,
        media=content.media,
        domain=spec.domain or spec.name,
        category=columns.text("category") if "category" in spec.columns else spec.category or spec.normalizer,
        source=spec.name,
        licence=spec.licence,
        provenance={"revision": revision, "position": checked_text(row.position, "position"), **content.provenance},
    )


def check_normalizer(spec: SourceSpec) -> None:
    """Raises SpecError where a source names a normaliser, role, option or media type that does not exist."""
    entry = NORMALIZERS.get(spec.normalizer)
    if entry is None:
        raise SpecError(f"source {spec.name}: no normalizer {spec.normalizer!r}; there are: {', '.join(NORMALIZERS)}")
    where = f"source {spec.name}, normalizer {spec.normalizer}"
    roles = (*entry.roles, *COMMON_ROLES)
    for role in spec.columns:
        if role not in roles:
            raise SpecError(f"{where}: columns maps {role!r}, which it does not read; it reads: {', '.join(roles)}")
    for name, value in spec.options.items():
        if name not in entry.options:
            known = ", ".join(entry.options) or "none"
            raise SpecError(f"{where}: no option {name!r}; there are: {known}")
        wanted = type(entry.options[name])
        if type(value) is not wanted:
            raise SpecError(f"{where}: option {name} is {value!r}; it must be of type {wanted.__name__}")
    _check_media_type(spec, entry, where)


def possible_modalities(spec: SourceSpec) -> tuple[Modality, ...]:
    """The modalities that samples of a source may have; the tools for them are part of its lanes' toolchain."""
    if spec.text_alone:
        return ()
    return NORMALIZERS[spec.normalizer].modalities


def columns_read(spec: SourceSpec) -> tuple[str, ...]:
    """Names of the columns that a source's normaliser may read; a columnar source needs no others."""
    roles = (*NORMALIZERS[spec.normalizer].roles, *(role for role in COMMON_ROLES if role in spec.columns))
    return tuple(spec.columns.get(role, role) for role in roles)


def _check_media_type(spec: SourceSpec, entry: Normalizer, where: str) -> None:
    allowed = [name for modality in entry.modalities for name in MEDIA_TYPES[modality]]
    if spec.media_type and spec.media_type not in allowed:
        known = f"there are: {', '.join(allowed)}" if allowed else "leave it out, it takes no media"
        raise SpecError(f"{where}: no media_type {spec.media_type!r}; {known}")


def _check_length(content: Content, limits: Limits) -> None:
    characters = sum(len(message.content) for message in content.messages)
    if content.preference is not None:
        characters += len(content.preference.chosen) + len(content.preference.rejected)
    if characters > limits.text_characters:
        raise Refused("too-long", f"{characters} characters, at most {limits.text_characters}")


def _identifier(columns: Columns) -> str:
    """The row's own id where `columns` maps one, else the source and the row's position in it."""
    if "id" not in columns.spec.columns:
        return f"{columns.spec.name}/{checked_text(columns.row.position, 'position')}"
    value = columns.value("id")
    return str(value) if type(value) is int else columns.text("id")
