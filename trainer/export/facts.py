"""What a model card says of a run and its data, gathered from the checkpoint, the run's folder and the manifests.

Here: gathering; what cannot be reached is said to be missing.
Elsewhere: the card's text (card.py, card.md.j2).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import msgspec

from shardkit import Dataset, ShardkitError, SpecError, open_dataset, scrub
from trainer.data.sources import choose_sources
from trainer.export.find import Trained, stored_parts
from trainer.folder import HELD_OUT
from trainer.model.omni import Omni
from trainer.records import strict_json
from trainer.spec import EncoderSpec

NON_COMMERCIAL = ("nc", "noncommercial", "non-commercial")
SHARE_ALIKE = ("sa", "gpl", "lgpl", "agpl", "copyleft", "odbl", "mpl")
NO_DERIVATIVES = ("nd", "noderivatives", "no-derivatives")


class SourceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One source of a dataset: its samples in this version, its licences, where the rows came from."""

    name: str
    samples: int
    licences: tuple[str, ...]
    revision: str


class DatasetFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One dataset at the version trained on; `missing` says what of it is not known, and why."""

    version: str
    url: str = ""
    name: str = ""
    samples: int = 0
    by_modality: dict[str, int] = {}
    sources: tuple[SourceFacts, ...] = ()
    missing: str = ""


class CardFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All that a model card says. `bases` are (part, what it began as, whether it trained)."""

    name: str
    description: str
    step: int
    samples: int
    tokens: int
    trained: str
    bases: tuple[tuple[str, str, str], ...]
    parameters: int
    datasets: tuple[DatasetFacts, ...]
    licences: tuple[tuple[str, int, str], ...]
    held_out: dict[str, dict[str, Any]]
    spec: str
    max_tokens: int
    senses: tuple[str, ...]


def card_facts(trained: Trained, data: Sequence[str], model: Omni) -> CardFacts:
    """The facts of a checkpoint; datasets are read from `data`, else from where the run's spec has them."""
    spec, progress = trained.spec, trained.progress
    datasets = data_facts(trained, data)
    senses = (("images", spec.model.vision), ("sound", spec.model.audio))
    return CardFacts(
        name=spec.name,
        description=spec.description,
        step=progress.step,
        samples=progress.samples,
        tokens=progress.tokens,
        trained=str(spec.model.language.train),
        bases=_bases(trained),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        datasets=datasets,
        licences=summarise_licences(datasets),
        held_out=_held_out(trained),
        spec=strict_json(progress.spec, indent=1, sort_keys=True),
        max_tokens=spec.data.max_tokens,
        senses=tuple(name for name, part in senses if part),
    )


def data_facts(trained: Trained, data: Sequence[str]) -> tuple[DatasetFacts, ...]:
    """Every dataset version of a checkpoint, with its sources where its manifest can be read.

    Raises SpecError where `data` are not as many as the versions.
    """
    versions = trained.progress.version.split("+")
    try:
        urls = [source.url for source in choose_sources(list(data), trained.spec.data)]
    except SpecError:
        urls = []
    if data and len(urls) != len(versions):
        raise SpecError(f"--data names {len(urls)} datasets, the checkpoint was trained on {len(versions)}")
    return tuple(_dataset(version, url or "") for version, url in zip_longest(versions, urls[: len(versions)]))


def summarise_licences(datasets: Sequence[DatasetFacts]) -> tuple[tuple[str, int, str], ...]:
    """Every licence with the samples of the sources that name it, and what its name says of use; by name."""
    counts: dict[str, int] = {}
    for source in (source for dataset in datasets for source in dataset.sources):
        for licence in source.licences or ("",):
            counts[licence] = counts.get(licence, 0) + source.samples
    return tuple((name, count, flags_of(name)) for name, count in sorted(counts.items()))


def flags_of(licence: str) -> str:
    """What a licence's name says: share-alike, non-commercial, no derivatives; a name is no legal advice."""
    words = licence.lower().replace("_", "-").replace(" ", "-").split("-")
    words = [*words, *(word.rstrip("v0123456789.") for word in words), licence.lower()]
    found = (
        ("non-commercial", NON_COMMERCIAL),
        ("share-alike", SHARE_ALIKE),
        ("no derivatives", NO_DERIVATIVES),
    )
    flags = [flag for flag, names in found if any(name in words for name in names)]
    return ", ".join(flags) if licence else "not given: ask the source"


def _dataset(version: str, url: str) -> DatasetFacts:
    if not url:
        return DatasetFacts(
            version=version,
            missing="the run's spec names no dataset and none was given; export again with --data URL for its sources",
        )
    try:
        opened = open_dataset(url, version=version)
    except (ShardkitError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        missing = f"this version cannot be read there ({reason}); export again with --data URL for its sources"
        return DatasetFacts(version=version, url=scrub(url), missing=missing)
    return _from_manifest(opened, scrub(url))


def _from_manifest(dataset: Dataset, url: str) -> DatasetFacts:
    manifest = dataset.manifest
    planned = {source.name: source for source in manifest.plan.sources}
    licences: dict[str, set[str]] = {}
    for shard in manifest.shards:
        licences.setdefault(shard.source, set()).update(shard.licences)
    return DatasetFacts(
        version=dataset.version,
        url=url,
        name=manifest.name,
        samples=manifest.totals.samples,
        by_modality=dict(sorted(manifest.totals.by_modality.items())),
        sources=tuple(
            SourceFacts(
                name=name,
                samples=count,
                licences=tuple(sorted(licences.get(name, ()))),
                revision=planned[name].revision if name in planned else "",
            )
            for name, count in sorted(manifest.totals.by_source.items())
        ),
    )


def _bases(trained: Trained) -> tuple[tuple[str, str, str], ...]:
    model, stored = trained.spec.model, stored_parts(trained)

    def is_trained(name: str, part: EncoderSpec) -> bool:
        """Of pretrained ones the checkpoint tells, earlier stages included; random ones are in it always."""
        chosen = trained.spec.trainable
        return name in stored if part.pretrained else part.trainable if chosen is None else name in chosen

    parts: tuple[tuple[str, EncoderSpec | None], ...] = (("vision", model.vision), ("audio", model.audio))
    rows = [("language", model.language.pretrained or _made(model.language.config), str(model.language.train))]
    rows += [
        (name, part.pretrained or _made(part.config), "trained" if is_trained(name, part) else "frozen")
        for name, part in parts
        if part
    ]
    return tuple(rows)


def _made(config: dict[str, Any]) -> str:
    return f"random weights ({', '.join(f'{name} {value}' for name, value in sorted(config.items()))})"


def _held_out(trained: Trained) -> dict[str, dict[str, Any]]:
    """The run's held-out figures before, at its newest evaluation and after it; none where it has none."""
    try:
        found = json.loads((trained.folder / HELD_OUT).read_bytes())
    except (OSError, ValueError):
        return {}
    return {name: figures for name, figures in found.items() if isinstance(figures, dict) and "loss" in figures}
