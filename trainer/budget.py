"""The memory that a run takes on one device, estimated from its model's shape alone.

Here: the estimate and its formula.
Elsewhere: shapes (model/meta.py), what layers and connectors keep (model/kept.py), the plan around it (plan.py).

    weights       4 bytes of what trains; frozen ones 2 in half precision, in four bits (QLoRA) a half and their scales
    gradients     as many as the trained weights
    optimizer     two moments of AdamW for every trained weight, 4 bytes each; of adamw8bit 1 byte each and 4 for every
                  256, but 4 each in tensors of less than 4,096
    reference     the trained weights once more for a loss that compares with the run's beginning; all of a teacher's,
                  which is not cut up
    gathered      cut up by fsdp, each of N processes holds an N-th of all these but the teacher; what is outside of the
                  language model's layers is whole during a step, with its gradients, and so are two of the layers
    activations   what the backward pass is kept, for the rows of one pass: of every token in a layer 2 bytes x (11 x
                  width + 4 x the width of a gated feed-forward, 2 x of a plain one), twice that in float32; no scores,
                  which fused attention makes anew; with model.checkpointing a layer keeps its input only, but for the
                  one at work. Of the language model and of encoders that train; of connectors what their kind keeps.
                  Logits: tokens (of speed.loss_chunk at once) x vocabulary x 8 bytes, gradient too; beside a teacher 20
Not counted: the allocator's slack, kernels' workspace, the framework itself (on CUDA about 1 GB).
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch

from trainer.distributed.parallel import kind_of, layers_of
from trainer.losses.preference import REFERENCED
from trainer.model.meta import Shape, open_meta, weights_of
from trainer.objective import teacher_spec
from trainer.spec import PREFERENCES, RunSpec

MEMORY = (
    "weights + gradients + {moments} + activations (a layer and token keep 11 x width + 4 x feed-forward values, 2 x "
    "where it is not gated; logits in float32 with their gradient), full rows with an image and a window each, or what "
    "data.pack allows; {spread}, without the allocator's slack"
)
SMALL = 4096
"""Numbers of a tensor under which 8-bit optimizers keep moments of 4 bytes."""
BLOCK = 256
"""Numbers of an 8-bit moment that share a scale."""


class MemoryPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes on one device; see the module. `reference` holds a teacher, too."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    reference: int = 0
    gathered: int = 0
    formula: str = MEMORY

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.reference + self.gathered


def plan_memory(spec: RunSpec, shape: Shape, ranks: int = 1) -> MemoryPlan:
    """The estimate for each of so many processes. Raises SpecError where a teacher's sizes are not known."""
    model = shape.model
    quantised = spec.model.language.train == "qlora"
    kind = "none" if ranks == 1 else kind_of(spec.parallel, on_gpu=spec.device != "cpu", quantised=quantised)
    share = ranks if kind == "fsdp" else 1
    weights = list(weights_of(model, spec))
    trained = sum(weight.numel() * each for _, weight, each in weights if weight.requires_grad)
    kept = trained if spec.loss.name in REFERENCED else 0.0
    return MemoryPlan(
        weights=round(sum(weight.numel() * each for _, weight, each in weights) / share),
        gradients=round(trained / share),
        optimizer=round(sum(_moments(weight, spec) for _, weight, _ in weights if weight.requires_grad) / share),
        activations=_activations(spec, shape, ranks),
        reference=round(kept / share + _teacher(spec)),
        gathered=round(_gathered(model, weights) * (1 - 1 / share)) if share > 1 else 0,
        formula=_formula(spec, kind, ranks),
    )


def rows_of(spec: RunSpec) -> int:
    """Rows that a sample becomes: answers that are compared are two."""
    return 2 if spec.loss.name in PREFERENCES else 1


def _formula(spec: RunSpec, kind: str, ranks: int) -> str:
    moments = "AdamW's two moments" + (" in 8 bits" if spec.optimizer.kind == "adamw8bit" else "")
    if spec.loss.name in REFERENCED:
        moments += " + the reference's copy of what trains"
    if spec.loss.distil:
        moments += " + the teacher"
    spread = {
        "none": "one device, not sharded",
        "ddp": f"one of {ranks} devices, each with the whole model",
        "fsdp": f"one of {ranks} devices, the model cut up over them; gathered is what is whole during a step",
    }
    return MEMORY.format(moments=moments, spread=spread[kind])


def _moments(weight: torch.Tensor, spec: RunSpec) -> float:
    number = weight.numel()
    if spec.optimizer.kind != "adamw8bit" or number < SMALL:
        return 8.0 * number
    return 2.0 * (number + 4 * -(-number // BLOCK))


def _teacher(spec: RunSpec) -> float:
    """Bytes of a teacher, all of it frozen."""
    if spec.loss.distil is None:
        return 0.0
    own = teacher_spec(spec)
    numbers = sum(parameter.numel() for parameter in open_meta(own).parameters())
    return numbers * (4.0 if spec.dtype == "float32" else 2.0)


def _gathered(model: Any, weights: list[tuple[str, torch.nn.Parameter, float]]) -> float:
    """Bytes that fsdp makes whole: all but the language model's layers, with gradients, and two of those layers."""
    layers = layers_of(getattr(model, "language", model))
    within = {id(weight) for layer in layers for weight in layer.parameters()}
    outside = [(weight, each) for _, weight, each in weights if id(weight) not in within]
    sizes = {id(weight): weight.numel() * each for _, weight, each in weights}
    largest = max((sum(sizes[id(weight)] for weight in layer.parameters()) for layer in layers), default=0.0)
    whole = sum(weight.numel() * each * (2 if weight.requires_grad else 1) for weight, each in outside)
    return whole + 2 * largest


def _activations(spec: RunSpec, shape: Shape, ranks: int) -> int:
    rows = spec.batch_size // spec.accumulate // ranks * rows_of(spec)
    rows = rows if spec.micro_batch == "auto" else min(rows, max(spec.micro_batch, rows_of(spec)))
    tokens = rows * (spec.data.pack.tokens if spec.data.pack else spec.data.max_tokens)
    each = 4 if spec.dtype == "float32" else 2
    at_once = min(tokens, spec.speed.loss_chunk or tokens)
    logits = at_once * shape.vocabulary * (20 if spec.loss.distil else 8)
    kept = tokens * _kept_by_layers(shape.layers, shape.width, shape.kept_values, spec) * each + logits
    for sense in shape.senses:
        layers = _kept_by_layers(sense.layers, sense.width, sense.kept_values, spec)
        encoder = sense.length * layers if sense.trains else 0
        kept += rows * sense.items * (encoder + sense.connector_values) * each
    return kept


def _kept_by_layers(layers: int, width: int, values: int, spec: RunSpec) -> int:
    """Values of a token that a stack of layers keeps: recomputed ones their input only, but for the one at work."""
    return layers * width + values if spec.model.checkpointing else layers * values
