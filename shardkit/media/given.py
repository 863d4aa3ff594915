"""A conversation and the files given with it as a sample in its stored form, without a dataset around it.

Here: what a question to a trained model needs, so that it gets its media exactly as a build would have stored them.
Elsewhere: the stored form itself (prepare.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shardkit.errors import Refused, SpecError
from shardkit.media.prepare import prepare
from shardkit.records.row import Draft, Modality, RawMedium
from shardkit.records.sample import Message, Sample
from shardkit.spec import Limits, MediaOptions

TYPES: dict[Modality, str] = {"image": "photo", "audio": "sound", "video": "footage"}


def prepare_sample(
    messages: Sequence[Message], media: Mapping[Modality, Sequence[tuple[str, bytes]]]
) -> tuple[Sample, dict[str, bytes]]:
    """The sample, and its members by name, of messages and of named files' bytes by modality (image, audio, video).

    As a build with default options and limits stores them: images upright, sound mono at 16 kHz, eight frames of a
    video and its sound track. Raises SpecError naming the file that is no such medium.
    """
    named = [(name, RawMedium(modality=kind, type=TYPES[kind], data=data))
             for kind in TYPES for name, data in media.get(kind, ())]  # fmt: skip
    try:
        made = _prepare(messages, tuple(medium for _, medium in named))
    except Refused as refused:
        raise SpecError(_blame(named) or f"the conversation cannot be prepared: {refused}") from None
    return made


def _prepare(messages: Sequence[Message], media: tuple[RawMedium, ...]) -> tuple[Sample, dict[str, bytes]]:
    draft = Draft(id="given", messages=tuple(messages), media=media, domain="given", category="given", source="given")
    made = prepare(draft, MediaOptions(), Limits())
    return made.sample, {member.name: member.data for member in made.members}


def _blame(named: Sequence[tuple[str, RawMedium]]) -> str:
    """What is wrong with the first file that does not prepare alone."""
    for name, medium in named:
        try:
            _prepare((), (medium,))
        except Refused as refused:
            return f"{name}: not {medium.modality} that is read here ({refused})"
    return ""
