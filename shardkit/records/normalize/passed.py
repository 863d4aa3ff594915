"""Samples of a dataset of ours, passed on as they are.

Here: from the members of a stored sample to a draft that says the same.
Elsewhere: reading shards (sources.shards), storing kept media (media.prepare), other normalisers (table.py).
"""

from __future__ import annotations

from shardkit.errors import Refused
from shardkit.records.normalize.columns import Columns, Content
from shardkit.records.row import Draft, Kept, Member
from shardkit.records.sample import decode_sample, member_names
from shardkit.spec import SourceSpec


def from_sample(row: Columns) -> Content:
    """A stored sample: its record in the blob `json`, its media in blobs by their names. Raises Refused (`schema`)."""
    blobs = row.row.blobs
    record = blobs.get(row.column("json"))
    if record is None:
        raise Refused("missing-field", f"{row.column('json')}: wanted the record of a stored sample")
    sample = decode_sample(record)
    missing = [name for name in member_names(sample) if name not in blobs]
    if missing:
        raise Refused("no-media", f"the record names {missing[0]}, which is not there")
    kept = tuple(Member(name=name, data=blobs[name]) for name in member_names(sample))
    return Content(messages=sample.messages, preference=sample.preference, passed=sample, kept=kept)


def pass_on(content: Content, spec: SourceSpec, taken_from: dict[str, str]) -> Draft:
    """The draft of a finished sample. What the spec names (domain, category, licence) replaces what it had.

    `taken_from` is the version (`revision`) and the sample's place in it (`position`), as all provenance has them.
    Where the sample came from first stays with it as `origin_source`, `origin_revision` and `origin_position`.
    """
    sample = content.passed
    assert sample is not None
    had = sample.provenance
    origin = {"origin_source": sample.source}
    origin |= {f"origin_{name}": had[name] for name in ("revision", "position") if name in had}
    return Draft(
        id=sample.id,
        messages=sample.messages,
        preference=sample.preference,
        kept=Kept(modalities=sample.modalities, members=content.kept),
        domain=spec.domain or sample.domain,
        category=spec.category or sample.category,
        source=spec.name,
        licence=spec.licence or sample.licence,
        repetition_style=sample.repetition_style,
        provenance={**origin, **had, **taken_from},
    )
