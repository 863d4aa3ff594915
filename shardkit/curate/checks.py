"""Is this sample good? Every check of one sample that is stored, and samples of whatever is validated.

Here: the checks, walking through a dataset or through plain JSON lines.
Elsewhere: rules (records.rules), adding up (validate.py).
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shardkit.curate.plain import plain_spec
from shardkit.errors import Refused, ShardDamaged
from shardkit.media.prepare import CHECK_PIXELS, check_member, prepare
from shardkit.read.dataset import Dataset
from shardkit.read.item import Item
from shardkit.read.shapes import modality_of
from shardkit.records.key import sample_key
from shardkit.records.marks import MARKS, count_marks
from shardkit.records.normalize import normalize
from shardkit.records.normalize.columns import DEFAULT_TYPES
from shardkit.records.normalize.dialogue import check_roles
from shardkit.records.row import Draft, Member, RawMedium
from shardkit.records.rules import break_of
from shardkit.records.sample import Sample, media_types, member_names
from shardkit.sources.base import BadRow, Passed
from shardkit.sources.plain import Plain
from shardkit.spec import Limits, MediaOptions, PlainSource, Rules

ANY_SIZE = Limits(image_pixels=CHECK_PIXELS, audio_seconds=1e9, video_seconds=1e9, video_frames=1 << 40)
"""How large media may be that a dataset holds already: as they like, bombs apart."""


class Checked(NamedTuple):
    """A sample and its first fault: a reason of errors.REASONS and a detail; empty where it is good."""

    key: str
    sample: Sample | None
    size: int
    reason: str = ""
    detail: str = ""


def check_dataset(dataset: Dataset, rules: Rules) -> Iterator[Checked]:
    """Every live sample of a dataset in stored order. Raises ShardDamaged where bytes are not what was stored."""
    ours = not any(entry.url for entry in dataset.manifest.shards)
    for item in dataset:
        size = sum(len(data) for data in item.members.values())
        try:
            sample = item.sample
        except ShardDamaged as error:
            yield Checked(item.key, None, size, "schema", str(error))
            continue
        except Refused as refused:
            yield Checked(item.key, None, size, refused.reason, refused.detail)
            continue
        fault = _fault(sample, item, rules, ours)
        yield Checked(item.key, sample, size, *(() if fault is None else (fault.reason, fault.detail)))


def check_plain(path: Path, rules: Rules) -> Iterator[Checked]:
    """Every row of plain JSON lines in order; nothing is written beside them. Raises SpecError (no file)."""
    (spec,) = plain_spec(path).sources
    assert isinstance(spec, PlainSource), "it is the spec of plain lines"
    source, limits = Plain(spec, Limits()), Limits()
    with tempfile.TemporaryDirectory(prefix="shardkit-validate-") as folder:
        revision = source.pin(Path(folder)).revision
        for step in source.rows(Path(folder), 0, 1, None):
            row = step.row
            if isinstance(row, Passed):
                continue
            if isinstance(row, BadRow):
                yield Checked(row.position, None, 0, row.reason, row.detail)
                continue
            try:
                made = prepare(normalize(row, spec, revision, limits), spec.media, limits)
            except Refused as refused:
                yield Checked(row.position, None, row.size_bytes, refused.reason, refused.detail)
                continue
            fault = break_of(made.sample, media_types(made.sample.modalities), rules)
            key = sample_key(made.sample, made.members)
            yield Checked(key, made.sample, made.size_bytes, *(() if fault is None else (fault.reason, fault.detail)))


def _fault(sample: Sample, item: Item, rules: Rules, ours: bool) -> Refused | None:
    """The first thing wrong with a stored sample, if anything is."""
    try:
        if ours:
            _check_members(sample, item)
            _check_messages(sample)
        else:
            _check_media(item)
    except Refused as refused:
        return refused
    return break_of(sample, media_types(sample.modalities), rules)


def _check_members(sample: Sample, item: Item) -> None:
    """Members are those that the record names, decode wholly, and have the key."""
    there = tuple(name for name in item.members if name != "json")
    if there != member_names(sample):
        found, wanted = (", ".join(names) or "none" for names in (there, member_names(sample)))
        raise Refused("schema", f"members are {found}; the record names {wanted}")
    members = [Member(name=name, data=bytes(item.members[name])) for name in there]
    for member in members:
        check_member(member.name, member.data)
    if sample_key(sample, members) != item.key:
        raise Refused("schema", "the key is not that of the content")


def _check_media(item: Item) -> None:
    """Every medium of a sample that others made is one that a build could take."""
    for name, data in item.members.items():
        modality = modality_of(name)
        if modality is not None:
            medium = RawMedium(modality=modality, type=DEFAULT_TYPES[modality], data=bytes(data))
            draft = Draft(id=item.key, media=(medium,), domain="", category="", source="")
            try:
                prepare(draft, MediaOptions(), ANY_SIZE)
            except Refused as refused:
                raise Refused(refused.reason, f"{name}: {refused.detail}") from None


def _check_messages(sample: Sample) -> None:
    """Roles follow one another, there is something to learn, and every medium that is marked is there."""
    if sample.messages:
        check_roles(sample.messages, "user" if sample.preference else "assistant")
    if sample.messages and not any(message.content.strip() for message in sample.messages):
        raise Refused("empty-text", "no message has any text")
    marks: Counter[str] = Counter()
    for message in sample.messages:
        marks.update(count_marks(message.content))
    for modality in MARKS:
        there = len(getattr(sample.modalities, modality))
        if sample.messages and marks[modality] != there:
            raise Refused("schema", f"{marks[modality]} marks of {modality} in the text, {there} in the record")
