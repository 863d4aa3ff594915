"""What a run would do, without reading a weight: parameters, memory, arithmetic, batches, data.

Here: the plan of a run (or of one stage), the formulas of its estimates.
Elsewhere: parameter counts (model/meta.py), operations a token (flops.py), showing it (cli/plan.py).

The estimate of memory, for one device of a run that is not sharded:
    weights       bytes of every parameter in the type that it is loaded in
    gradients     as many as the trained weights
    optimizer     two moments of AdamW for every trained weight, in its type
    activations   layers x tokens x width x 34 bytes in half precision (Korthikanti 2022, without the scores, which
                  fused attention does not keep), twice that in float32: of the language model, of encoders that train,
                  of connectors at their encoder's width; logits tokens x vocabulary x 8 bytes (and their gradient)
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
from trainer.model.meta import Shape, open_shape
from trainer.run import reading_of
from trainer.spec import DataSpec, RunSpec

MEMORY = (
    "weights + gradients + AdamW's two moments + activations (34 half-precision values a layer, token and width; "
    "logits in float32 with their gradient), on one device, not sharded, without the allocator's slack"
)
KEPT_VALUES = 34
"""Bytes a layer, token and unit of width that a transformer keeps for its backward pass in half precision."""


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
    shape = open_shape(spec)
    arithmetic = count_model(shape.model)
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
    each = KEPT_VALUES * (1 if spec.dtype == "bfloat16" else 2)
    kept = tokens * shape.layers * shape.width * each + tokens * shape.vocabulary * 8
    for sense in shape.senses:
        items = rows * sense.items
        encoder = items * sense.length * sense.layers * sense.width * each if sense.trains else 0
        kept += encoder + items * (sense.latents + sense.length) * sense.depth * sense.width * each
    return kept


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
