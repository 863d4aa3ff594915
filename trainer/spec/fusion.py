"""Specs of the fusion model and of the losses of its heads.

Here: the structs, what may go together.
Elsewhere: encoders and the whole model (model.py), other losses (training.py), what they build (trainer.model.fusion).
"""

from __future__ import annotations

from trainer.spec.base import Strict

FITTING = ("fusion", "contrastive", "sft", "language")
"""Losses that the fusion model can learn."""
UNUSED = {
    "connector": "perceiver", "latents": 64, "depth": 2, "heads": 8, "local": 1.0, "capsule_width": 512, "routing": 3,
    "connector_trainable": True,
}  # fmt: skip
"""An encoder's fields, with their defaults, that say nothing to the fusion model: text attends to all its vectors."""


class FusionSpec(Strict, frozen=True, kw_only=True):
    """The transformer in which text attends to media: `layers` of `width`, with `heads`, for `positions` tokens.

    `spread` is the standard deviation of its first weights. `learn_temperature` lets training change the contrastive
    head's temperature, which begins as the loss has it.
    """

    width: int = 768
    layers: int = 6
    heads: int = 12
    positions: int = 2048
    spread: float = 0.02
    learn_temperature: bool = False

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"model.fusion.{name} is {getattr(self, name)}; at least 1")
        if self.width % self.heads:
            raise ValueError(f"model.fusion.width {self.width} is not a multiple of its {self.heads} heads")
        if not self.spread > 0:
            raise ValueError(f"model.fusion.spread is {self.spread}; wanted a positive number, such as 0.02")


class HeadsSpec(Strict, frozen=True, kw_only=True):
    """Weights of the fusion model's heads, and the `temperature` of what contrasts (also of loss.name=contrastive)."""

    caption: float = 1.0
    transcription: float = 1.0
    contrastive: float = 0.5
    temperature: float = 0.07

    def __post_init__(self) -> None:
        weights = (self.caption, self.transcription, self.contrastive)
        if not all(weight >= 0 for weight in weights) or not any(weights):
            raise ValueError(f"loss.heads: weights are {weights}; wanted none negative and one of them positive")
        if not self.temperature > 0:
            raise ValueError(f"loss.heads.temperature is {self.temperature}; wanted a positive number, such as 0.07")


def check_together(kind: str, loss: str, loss_chunk: int) -> None:
    """Raises ValueError where a loss or a setting does not go with a kind of model."""
    if kind != "fusion":
        if loss == "fusion":
            raise ValueError(
                "loss.name is fusion and model.kind is omni; wanted model.kind=fusion, which has its heads"
            )
        return
    if loss not in FITTING:
        raise ValueError(f"loss.name is {loss} and model.kind is fusion; wanted one of {', '.join(FITTING)}")
    if loss_chunk:
        raise ValueError(
            "speed.loss_chunk is for model.kind=omni; heads of a fusion model only see answers: set it to 0"
        )
