"""The arithmetic of a step: how many floating-point operations the model's own formula takes, and the device's peak.

Here: counting a model once and what its loss computes besides, a step's batches, the formula as text, peaks of devices.
Elsewhere: dividing by the time (figures.py), memory and plans (plan.py).

A multiply and an add are two operations. Counted is what the loss needs and no more: the model forward and backward, a
reference or a teacher forward only; padding and recomputed activations count nothing; attention counts the pairs that a
token may see, within its own sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import torch
from torch import nn

from trainer.data.collate import TrainBatch

TERA = 1e12
PEAKS = {
    "B200": 2250.0, "GH200": 989.0, "H200": 989.0, "H100 PCIe": 756.0, "H100 NVL": 835.0, "H100": 989.0, "A100": 312.0,
    "L40S": 362.0, "L40": 181.0, "L4": 121.0, "A10G": 70.0, "A10": 125.0, "A40": 150.0, "A30": 165.0, "A6000": 155.0,
    "RTX 4090": 165.0, "RTX 3090": 71.0, "V100": 125.0, "T4": 65.0,
}  # fmt: skip
"""Dense half-precision peaks in TFLOP/s of the makers' data sheets, by a piece of the device's name; first match."""


class Arithmetic(msgspec.Struct, frozen=True, kw_only=True):
    """Operations of a training step: `per_token` of text or latent, `per_pair` of tokens that see one another.

    And `per_image` and `per_window` of sound, encoder and connector; `per_answer` token that carries loss, what the
    head takes where it makes no other logits (speed.loss_chunk), else 0 and part of `per_token`. `beside` are forward
    passes over the same batches that the loss asks for, each named (`the reference`).
    """

    per_token: float = 0.0
    per_answer: float = 0.0
    per_pair: float = 0.0
    per_image: float = 0.0
    per_window: float = 0.0
    weights: int = 0
    trained: int = 0
    notes: tuple[str, ...] = ()
    name: str = ""
    beside: tuple[Arithmetic, ...] = ()

    def of(self, batches: Iterable[TrainBatch]) -> float:
        """Operations of a step over these batches, forward and backward; reads them where they are (best: the CPU)."""
        return sum(each._of(batch) for batch in batches for each in (self, *self.beside))

    def _of(self, batch: TrainBatch) -> float:
        lengths = batch.lengths or batch.per_sample(batch.attention.to(torch.float64)).tolist()
        pairs = sum(length * (length + 1) / 2 for length in lengths)
        media = len(batch.images) * self.per_image + len(batch.mels) * self.per_window
        answers = batch.answer_tokens * self.per_answer if self.per_answer else 0.0
        return sum(lengths) * self.per_token + answers + pairs * self.per_pair + media

    def formula(self) -> str:
        """One paragraph for a person: what a step is taken to cost."""
        frozen = self.weights - self.trained
        head = f", of the head {self.per_answer:.4g} an answer's token only" if self.per_answer else ""
        lines = [
            f"operations of a step = {self.per_token:.4g} a token (4 x {frozen:,} frozen weights, 6 x {self.trained:,} "
            f"trained){head} + {self.per_pair:.4g} a pair of tokens that see one another (12 x layers x width)",
            *self.notes,
            *(each._forward_only() for each in self.beside),
            "padding and recomputation count nothing",
        ]
        return "; ".join(lines)

    def _forward_only(self) -> str:
        media = (
            (self.per_image, "an image"),
            (self.per_window, "a window of sound"),
            (self.per_answer, "an answer's token"),
        )
        found = "".join(f", {operations:.4g} {what}" for operations, what in media if operations)
        return (
            f"{self.name}, forward only: {self.per_token:.4g} a token (2 x {self.weights:,} weights) + "
            f"{self.per_pair:.4g} a pair{found}"
        )


def count_step(model: Any, loss: Any, *, pieces: bool = False) -> Arithmetic:
    """A model's training step with all that its loss computes besides: see `passes` of losses that have other models.

    Before the model is sharded or compiled. `pieces` as of count_model.
    """
    pieces = pieces or getattr(loss, "answers_only", False)
    passes = loss.passes(model) if hasattr(loss, "passes") else ()
    beside = tuple(_forward(other, name, times, pieces=pieces) for name, other, times in passes)
    return msgspec.structs.replace(count_model(model, pieces=pieces), beside=beside)


def _forward(model: Any, name: str, times: int, *, pieces: bool) -> Arithmetic:
    """So many forward passes of a model."""
    once = count_model(model, pieces=pieces, backward=False)
    fields = {field: times * getattr(once, field) for field in COUNTS}
    return msgspec.structs.replace(once, name=name if times == 1 else f"{name} ({times} times)", notes=(), **fields)


COUNTS = ("per_token", "per_answer", "per_pair", "per_image", "per_window", "weights", "trained")


def count_model(model: Any, *, pieces: bool = False, backward: bool = True) -> Arithmetic:
    """Count a model once, before it is sharded or compiled. It may lack any part; other parts count by the token.

    `pieces`: logits are made of answers' tokens only. `backward`: with the pass back, as it trains.
    """
    parts = {name: part for name, part in model.named_children() if name not in SENSING}
    counted = [pair for part in parts.values() for pair in matrix_weights(part)]
    trained = sum(number for number, trains in counted if trains)
    weights = sum(number for number, _ in counted)
    image, image_note = _seeing(model, backward=backward)
    window, window_note = _hearing(model, backward=backward)
    frozen_each, trained_each = (4.0, 6.0) if backward else (2.0, 2.0)
    answer = _per_head(getattr(model, "language", None), frozen_each, trained_each) if pieces else 0.0
    return Arithmetic(
        per_token=frozen_each * (weights - trained) + trained_each * trained - answer,
        per_answer=answer,
        per_pair=_per_pair(getattr(model, "language", None)) * (1.0 if backward else 1 / 3),
        per_image=image,
        per_window=window,
        weights=round(weights),
        trained=round(trained),
        notes=tuple(note for note in (image_note, window_note) if note),
    )


SENSING = ("vision", "vision_connector", "audio", "audio_connector")


def matrix_weights(module: nn.Module) -> Iterator[tuple[float, bool]]:
    """Weights that every token is multiplied with, and whether they train; lookups of embeddings are no arithmetic.

    Of a mixture of experts, the share that a token meets. Four-bit weights count as what they stand for.
    """
    share = _active_share(getattr(module, "config", None))
    for name, part in module.named_modules():
        if isinstance(part, nn.Embedding):
            continue
        for weight in part._parameters.values():
            if weight is not None and weight.ndim >= 2:
                wide = isinstance(part, nn.Linear)  # four-bit weights are stored two in a byte
                number = part.in_features * part.out_features if wide else weight.numel()
                yield number * (share if "experts" in name else 1.0), weight.requires_grad


def device_peak(device: torch.device, given: float | None) -> float | None:
    """Peak of one device in TFLOP/s: the spec's, the table's, none where neither says it."""
    if given is not None or device.type != "cuda":
        return given
    name = torch.cuda.get_device_name(device)
    return next((peak for piece, peak in PEAKS.items() if piece in name), None)


def count_forward(module: nn.Module, *inputs: torch.Tensor) -> float:
    """Operations of one forward pass, counted on the meta device: nothing is computed and no memory taken."""
    from torch.utils.flop_counter import FlopCounterMode

    tensors = [*module.named_parameters(), *module.named_buffers()]
    state = {name: _unreal(tensor) for name, tensor in tensors if not name.startswith("model.language.")}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        torch.func.functional_call(module, state, inputs)
    return float(counter.get_total_flops())


def _unreal(tensor: torch.Tensor) -> torch.Tensor:
    """Its shape without memory; all of one precision, as autocast would make them."""
    return torch.empty_like(tensor, device="meta", dtype=torch.float32 if tensor.is_floating_point() else None)


class _Step(nn.Module):
    """One of a model's methods as a module, so that its weights can be exchanged."""

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = getattr(self.model, self.method)(*inputs)
        return result


def _seeing(model: Any, *, backward: bool) -> tuple[float, str]:
    if getattr(model, "vision", None) is None:
        return 0.0, ""
    size = model.senses.image_size
    image = torch.zeros((1, 3, size, size), dtype=torch.uint8, device="meta")
    return _sensing("image", (model.vision, model.vision_connector), (model, "look", (image,)), backward=backward)


def _hearing(model: Any, *, backward: bool) -> tuple[float, str]:
    if getattr(model, "audio", None) is None:
        return 0.0, ""
    mels = torch.zeros((1, model.senses.mels, model.senses.window_frames), device="meta")  # made on the device or not
    heard = torch.ones((1, model.senses.window_frames), dtype=torch.bool, device="meta")
    parts, call = (model.audio, model.audio_connector), (model, "listen", (mels, heard))
    return _sensing("window of sound", parts, call, backward=backward)


def _sensing(
    name: str, parts: tuple[nn.Module, Any], call: tuple[nn.Module, str, Sequence[torch.Tensor]], *, backward: bool
) -> tuple[float, str]:
    """Operations of one item with its share of the backward pass, and how they come about."""
    (encoder, connector), (model, method, inputs) = parts, call
    try:
        forward = count_forward(encoder, inputs[0])
        joined = max(0.0, count_forward(_Step(model, method), *inputs) - forward)
    except (RuntimeError, TypeError, ValueError):  # what looks at its values cannot run without any
        forward = 2.0 * sum(number for number, _ in matrix_weights(encoder)) * float(getattr(encoder, "length", 1))
        joined, name = 0.0, f"{name} (estimated, without attention and connector)"
    factor = 3 if backward and _trains(encoder) else 1
    factor_joined = 3 if backward and _trains(connector) else 2 if factor == 3 else 1
    note = (
        f"an {name}" if name[0] in "aeiou" else f"a {name}"
    ) + f" {forward:.4g} x {factor} ({'trained' if factor == 3 else 'frozen, forward only'})"
    return forward * factor + joined * factor_joined, f"{note} + connector {joined:.4g} x {factor_joined}"


def _trains(part: Any) -> bool:
    return part is not None and any(parameter.requires_grad for parameter in part.parameters())


def _per_head(language: Any, frozen_each: float, trained_each: float) -> float:
    head = language.get_output_embeddings() if language is not None else None
    return sum(n * (trained_each if trains else frozen_each) for n, trains in matrix_weights(head)) if head else 0.0


def _per_pair(language: Any) -> float:
    """12 x layers x width of all heads: scores and mixing, two products each, and twice that backward."""
    config = getattr(language, "config", None)
    if config is None:
        return 0.0
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    layers, heads = getattr(config, "num_hidden_layers", 0), getattr(config, "num_attention_heads", 0)
    if not (layers and heads):
        return 0.0
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    return 12.0 * layers * heads * head


def _active_share(config: Any) -> float:
    active = getattr(config, "num_experts_per_tok", None)
    total = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    return active / total if active and total else 1.0
