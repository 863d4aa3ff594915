"""What a run would do, without reading a weight: parameters, memory, arithmetic, batches, data.

Here: the plan of a run (or of one stage).
Elsewhere: memory (budget.py), parameter counts (model/meta.py), operations a token (flops.py), showing it
(cli/plan.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from shardkit import Mixture, open_loader
from trainer.budget import MemoryPlan, plan_memory, rows_of
from trainer.checks import check_data, check_settings, data_warnings, device_warnings, short_warnings
from trainer.data.reading import loader_fields
from trainer.data.sources import choose_sources, open_data
from trainer.flops import count_step
from trainer.losses.distil import DistilLoss
from trainer.losses.table import Loss, make_loss
from trainer.model.meta import Shape, open_meta, shape_of
from trainer.objective import teacher_spec
from trainer.setting import check_length, reading_of
from trainer.spec import DataSpec, RunSpec


class PartPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the model: its parameters, how many of them train, bytes of its weights."""

    name: str
    trained: int
    frozen: int
    weight_bytes: int


class SourcePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset: samples that the run's filter takes, its share of what is read at the first step."""

    url: str
    version: str
    samples: int
    weight: float


class DataPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is read: datasets, samples of an epoch (held-out ones among them), epochs; none with packs."""

    sources: tuple[SourcePlan, ...]
    samples: int
    epochs: float | None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A run, or one stage of it, as it would be trained.

    `batch_tokens` are the most that a step takes, text and media together. `flops_per_token` counts forward and
    backward; `flops_per_image` and `_per_window` (of sound) the encoder, forward only where it is frozen, and its
    connector; each with the forward passes that the loss asks of a reference or teacher. `processes` share the steps.
    """

    name: str
    loss: str
    steps: int
    batch_size: int
    accumulate: int
    batch_tokens: int
    device: str
    dtype: str
    where: str
    parts: tuple[PartPlan, ...]
    trained: int
    frozen: int
    memory: MemoryPlan
    flops_per_token: float
    flops_per_image: float
    flops_per_window: float
    arithmetic: str
    data: DataPlan | None
    processes: int = 1
    warnings: tuple[str, ...] = ()


def plan_run(spec: RunSpec, data: str | Sequence[str], ranks: int = 1) -> Plan:
    """The plan of a run without stages; data are opened (their manifests are read) where any are given or named.

    Raises SpecError where a model's sizes are not known without a network or the run could not be trained, what the
    store raises for its data.
    """
    return plan_runs((spec,), data, ranks)[0]


def plan_runs(runs: Sequence[RunSpec], data: str | Sequence[str], ranks: int = 1) -> list[Plan]:
    """The plans of the stages of one run, which have one model, for so many processes; see `plan_run`."""
    for run in runs:
        check_settings(run, ranks)
    model = open_meta(runs[0])
    as_made = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    plans = []
    for run in runs:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(as_made[name])
        check_length(model, run)
        plans.append(_plan(run, shape_of(model, run), data, ranks))
    return plans


def _plan(spec: RunSpec, shape: Shape, data: str | Sequence[str], ranks: int) -> Plan:
    arithmetic = count_step(shape.model, _loss(spec), pieces=spec.speed.loss_chunk > 0)
    counted = (arithmetic, *arithmetic.beside)
    parts = _parts(shape)
    row = spec.data.pack.tokens if spec.data.pack else spec.data.max_tokens
    reads = bool(data or spec.data.datasets)
    return Plan(
        name=spec.name,
        loss=spec.loss.name,
        steps=spec.steps,
        batch_size=spec.batch_size,
        accumulate=spec.accumulate,
        batch_tokens=spec.batch_size * rows_of(spec) * row,
        device=spec.device,
        dtype=spec.dtype,
        where=spec.data.where or "",
        parts=parts,
        trained=sum(part.trained for part in parts),
        frozen=sum(part.frozen for part in parts),
        memory=plan_memory(spec, shape, ranks),
        processes=ranks,
        flops_per_token=sum(each.per_token for each in counted),
        flops_per_image=sum(each.per_image for each in counted),
        flops_per_window=sum(each.per_window for each in counted),
        arithmetic=arithmetic.formula(),
        data=_data(spec, data) if reads else None,
        warnings=(*device_warnings(spec), *short_warnings(spec), *(data_warnings(spec, data) if reads else ())),
    )


def _loss(spec: RunSpec) -> Loss:
    """The loss of a run, its teacher on the meta device."""
    loss = make_loss(spec.loss)
    if isinstance(loss, DistilLoss):
        loss.teacher = open_meta(teacher_spec(spec))
    return loss


def _parts(shape: Shape) -> tuple[PartPlan, ...]:
    return tuple(
        PartPlan(
            name=name,
            trained=sum(weight.number for weight in weights if weight.trains),
            frozen=sum(weight.number for weight in weights if not weight.trains),
            weight_bytes=round(sum(weight.number * weight.bytes_each for weight in weights)),
        )
        for name, weights in shape.parts.items()
    )


def _data(spec: RunSpec, data: str | Sequence[str]) -> DataPlan:
    check_data(spec, data)
    opened = open_data(choose_sources(data, spec.data))
    reading = reading_of(spec)
    datasets = opened.datasets if isinstance(opened, Mixture) else (opened,)
    counts = [_live(dataset, spec) for dataset in datasets]
    weights = _shares(choose_sources(data, spec.data), counts, spec.data)
    samples = sum(counts)
    # packs hold as many samples as fit, which only reading tells
    epochs = None if spec.data.pack or not samples else spec.steps * spec.batch_size / samples
    open_loader(opened, **loader_fields(reading, isinstance(opened, Mixture)))  # refuses what a run would be refused
    sources = tuple(
        SourcePlan(url=dataset.url, version=dataset.version, samples=count, weight=weight)
        for dataset, count, weight in zip(datasets, counts, weights, strict=True)
    )
    return DataPlan(sources=sources, samples=samples, epochs=epochs)


def _live(dataset: Any, spec: RunSpec) -> int:
    """Samples of a dataset that the run's filter takes."""
    return len(open_loader(dataset, batch_size=1, where=spec.data.where, on_damage=spec.data.on_damage))


def _shares(sources: Sequence[Any], counts: Sequence[int], spec: DataSpec) -> list[float]:
    """The share of each dataset at the first step: by weights, else by size under the mix's temperature."""
    given = [source.weight for source in sources]
    if any(weight is not None for weight in given) and not (spec.mix and spec.mix.temperature):
        weights = [1.0 if weight is None else weight for weight in given]
    else:
        power = 1.0 / spec.mix.temperature if spec.mix and spec.mix.temperature else 1.0
        weights = [float(count) ** power for count in counts]
    total = sum(weights)
    return [weight / total if total else 0.0 for weight in weights]
