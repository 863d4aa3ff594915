"""How a run trains: loss, optimizer, checkpoints, evaluation.

Here: the structs.
Elsewhere: what they do (trainer.losses, trainer.run, trainer.checkpoint, trainer.eval).
"""

from __future__ import annotations

from typing import Literal

from trainer.spec.base import Modality, Strict


class LossSpec(Strict, frozen=True, kw_only=True):
    """`weighting` of answers: by `token`, by `sample` (each answer counts once), or `square` (root of its length)."""

    name: Literal["sft"] = "sft"
    weighting: Literal["token", "square", "sample"] = "token"


class OptimizerSpec(Strict, frozen=True, kw_only=True):
    """AdamW. `rate` rises over `warmup` steps and falls as a cosine to `floor` of itself at the last step.

    `clip` bounds the gradient's norm; 0 does not.
    """

    rate: float = 3e-4
    warmup: int = 10
    floor: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    clip: float = 1.0

    def __post_init__(self) -> None:
        if not self.rate > 0 or self.warmup < 0 or not 0 <= self.floor <= 1 or self.clip < 0:
            raise ValueError("rate must be positive, warmup and clip not negative, floor between 0 and 1")
        if not all(0 <= beta < 1 for beta in self.betas) or self.weight_decay < 0:
            raise ValueError("betas must be at least 0 and under 1, weight_decay not negative")


class CheckpointSpec(Strict, frozen=True, kw_only=True):
    """A checkpoint every `every` steps and at the end; the last `keep` are kept."""

    every: int = 50
    keep: int = 2

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep < 1:
            raise ValueError("checkpoint.every and checkpoint.keep must be at least 1")


class EvalSpec(Strict, frozen=True, kw_only=True):
    """Held-out loss before the first step and after the last, on at most `samples` samples.

    `shuffle` adds losses with that medium exchanged among the samples: what the model learns from it.
    """

    samples: int = 64
    shuffle: tuple[Modality, ...] = ("image", "audio")

    def __post_init__(self) -> None:
        if self.samples < 0:
            raise ValueError(f"eval.samples is {self.samples}; at least 0, which measures nothing")


class SpeedSpec(Strict, frozen=True, kw_only=True):
    """What makes a step faster or smaller without changing what is learnt (sums may differ in the last bits).

    `compile`: `regional` compiles every layer of the encoders and the language model by itself, which takes seconds
    where a whole model takes minutes. `loss_chunk`: logits of so many tokens at once, and only of those that carry
    loss; 0 makes all of them. `ahead`: the next batch is copied to the GPU while this one is worked on.
    `deterministic`: kernels that repeat their sums on a GPU, where there are any, which costs time; on a CPU they
    always do.
    """

    compile: Literal["none", "regional"] = "none"
    loss_chunk: int = 0
    ahead: bool = True
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.loss_chunk < 0:
            raise ValueError(f"speed.loss_chunk is {self.loss_chunk}; wanted 0, or a number of tokens such as 2048")
