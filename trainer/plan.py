"""What a run would do, without reading a weight: parameters, memory, arithmetic, batches, data.

Here: the plan of a run (or of one stage), the formulas of its estimates.
Elsewhere: parameter counts (model/meta.py), operations a token (flops.py), showing it (cli/plan.py).

The estimate of memory, for one device of a run that is not sharded:
    weights       4 bytes of what trains; frozen ones 2 in half precision, in four bits (QLoRA) a half and their scales
    gradients     as many as the trained weights
    optimizer     two moments of AdamW for every trained weight, 4 bytes each
    activations   what the backward pass is kept: of every token in a layer 2 bytes x (11 x width + 4 x the width of a
                  gated feed-forward, 2 x of a plain one), twice that in float32; no scores, which fused attention makes
                  anew; with model.checkpointing a layer keeps its input only, but for the one at work. Of the language
                  model and of encoders that train; of connectors for their latents, and 4 x width of every vector that
                  they attend to. Logits: tokens (of speed.loss_chunk at once) x vocabulary x 8 bytes, gradient too
Not counted: the allocator's slack, kernels' workspace, the framework itself (on CUDA about 1 GB).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from shardkit import Mixture, open_loader
from trainer.data.reading import loader_fields
from trainer.data.sources import choose_sources, open_data
from trainer.flops import count_model
from trainer.model.meta import Shape, open_meta, shape_of
from trainer.setting import reading_of
from trainer.spec import DataSpec, RunSpec

MEMORY = (
    "weights + gradients + AdamW's two moments + activations (a layer and token keep 11 x width + 4 x feed-forward "
    "values, 2 x where it is not gated; logits in float32 with their gradient), full rows with an image and a window "
    "each, or what data.pack allows; one device, not sharded, without the allocator's slack"
)


class PartPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the model: its parameters, how many of them train, bytes of its weights."""

    name: str
    trained: int
    frozen: int
    weight_bytes: int


class MemoryPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes on one device; see the module."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    formula: str = MEMORY

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimizer + self.activations


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
    connector.
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


def plan_run(spec: RunSpec, data: str | Sequence[str]) -> Plan:
    """The plan of a run without stages; data are opened (their manifests are read) where any are given or named.

    Raises SpecError where a model's sizes are not known without a network, what the store raises for its data.
    """
    return plan_runs((spec,), data)[0]


def plan_runs(runs: Sequence[RunSpec], data: str | Sequence[str]) -> list[Plan]:
    """The plans of the stages of one run, which have one model; see `plan_run`."""
    model = open_meta(runs[0])
    as_made = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    plans = []
    for run in runs:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(as_made[name])
        plans.append(_plan(run, shape_of(model, run), data))
    return plans


def _plan(spec: RunSpec, shape: Shape, data: str | Sequence[str]) -> Plan:
    arithmetic = count_model(shape.model, pieces=spec.speed.loss_chunk > 0)
    parts = _parts(shape)
    row = spec.data.pack.tokens if spec.data.pack else spec.data.max_tokens
    return Plan(
        name=spec.name,
        loss=spec.loss.name,
        steps=spec.steps,
        batch_size=spec.batch_size,
        accumulate=spec.accumulate,
        batch_tokens=spec.batch_size * row,
        device=spec.device,
        dtype=spec.dtype,
        where=spec.data.where or "",
        parts=parts,
        trained=sum(part.trained for part in parts),
        frozen=sum(part.frozen for part in parts),
        memory=_memory(spec, shape),
        flops_per_token=arithmetic.per_token,
        flops_per_image=arithmetic.per_image,
        flops_per_window=arithmetic.per_window,
        arithmetic=arithmetic.formula(),
        data=_data(spec, data) if data or spec.data.datasets else None,
    )


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


def _memory(spec: RunSpec, shape: Shape) -> MemoryPlan:
    weights = [weight for part in shape.parts.values() for weight in part]
    trained = round(sum(weight.number * weight.bytes_each for weight in weights if weight.trains))
    return MemoryPlan(
        weights=round(sum(weight.number * weight.bytes_each for weight in weights)),
        gradients=trained,
        optimizer=2 * trained,
        activations=_activations(spec, shape),
    )


def _activations(spec: RunSpec, shape: Shape) -> int:
    rows = spec.batch_size // spec.accumulate
    tokens = rows * (spec.data.pack.tokens if spec.data.pack else spec.data.max_tokens)
    each = 2 if spec.dtype == "bfloat16" else 4
    at_once = min(tokens, spec.speed.loss_chunk or tokens)
    kept = (
        tokens * _kept_by_layers(shape.layers, shape.width, shape.kept_values, spec) * each
        + at_once * shape.vocabulary * 8
    )
    for sense in shape.senses:
        items = rows * sense.items
        layers = _kept_by_layers(sense.layers, sense.width, sense.kept_values, spec)
        encoder = sense.length * layers if sense.trains else 0
        connector = sense.depth * sense.width * (sense.latents * (11 + 2 * 4) + sense.length * 4)
        kept += items * (encoder + connector) * each
    return kept


def _kept_by_layers(layers: int, width: int, values: int, spec: RunSpec) -> int:
    """Values of a token that a stack of layers keeps: recomputed ones their input only, but for the one at work."""
    return layers * width + values if spec.model.checkpointing else layers * values


def _data(spec: RunSpec, data: str | Sequence[str]) -> DataPlan:
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
