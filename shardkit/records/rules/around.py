"""What stands around a sample's texts: id, category, licence, provenance, descriptions of media.

Here: these as texts, and redacting them.
Elsewhere: rules (apply.py), patterns (patterns.py).

Secrets are looked for in all of it; personal data only in what a row says freely, not in names and numbers by which
things are found again: one in ten numbers of sixteen digits has the check digit of a card.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from shardkit.records.row import Draft, Kept
from shardkit.records.rules.patterns import Finding, redact
from shardkit.records.sample import Modalities, Sample

PLACES = ("revision", "position", "group", "origin_source", "origin_revision", "origin_position")
"""Fields of provenance that name things."""

Find = Callable[[str], list[Finding]]


class Around(Protocol):
    """A draft or a finished sample, as far as it is looked at here."""

    @property
    def id(self) -> str:
        """The row's own name."""
        ...

    @property
    def category(self) -> str:
        """Its category."""
        ...

    @property
    def licence(self) -> str:
        """The licence's identifier."""
        ...

    @property
    def provenance(self) -> Mapping[str, str]:
        """Where it comes from, and what its row said besides."""
        ...


def said_around(sample: Around) -> list[str]:
    """What a row says freely beside its texts: descriptions of media, provenance that is no place."""
    said = [text for name, text in sample.provenance.items() if name not in PLACES]
    if isinstance(sample, Draft):
        said += [medium.description for medium in sample.media if medium.description]
        return [*said, *_descriptions(sample.kept.modalities)] if sample.kept else said
    return [*said, *_descriptions(sample.modalities)] if isinstance(sample, Sample) else said


def names_around(sample: Around) -> list[str]:
    """Names by which a sample is found, and where it lay."""
    places = [text for name, text in sample.provenance.items() if name in PLACES]
    return [sample.id, sample.category, sample.licence, *places]


def redact_around(draft: Draft, find: Find, *, names: bool) -> Draft:
    """The draft with what is found in it hidden; in its names too where `names` says so."""
    if not find("\n".join([*said_around(draft), *(names_around(draft) if names else ())])):
        return draft

    def hide(text: str) -> str:
        return redact(text, find(text))

    media = tuple(msgspec.structs.replace(medium, description=hide(medium.description)) for medium in draft.media)
    provenance = {name: hide(text) if names or name not in PLACES else text for name, text in draft.provenance.items()}
    kept = draft.kept and Kept(modalities=_hidden(draft.kept.modalities, hide), members=draft.kept.members)
    draft = msgspec.structs.replace(draft, media=media, provenance=provenance, kept=kept)
    if not names:
        return draft
    return msgspec.structs.replace(draft, id=hide(draft.id), category=hide(draft.category), licence=hide(draft.licence))


def _descriptions(media: Modalities) -> list[str]:
    images = [image.description for image in media.image if image.description]
    return [*images, *(video.description for video in media.video if video.description)]


def _hidden(media: Modalities, hide: Callable[[str], str]) -> Modalities:
    image = tuple(msgspec.structs.replace(one, description=hide(one.description)) for one in media.image)
    video = tuple(msgspec.structs.replace(one, description=hide(one.description)) for one in media.video)
    return msgspec.structs.replace(media, image=image, video=video)
