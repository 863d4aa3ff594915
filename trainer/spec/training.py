"""How a run trains: loss, optimizer, checkpoints, evaluation.

Here: the structs.
Elsewhere: what they do (trainer.losses, trainer.run, trainer.checkpoint, trainer.eval).
"""

from __future__ import annotations

from typing import Literal

from trainer.spec.base import Modality, Strict
from trainer.spec.fusion import HeadsSpec


class PreferenceSpec(Strict, frozen=True, kw_only=True):
    """Settings of dpo, ipo, simpo, orpo and kto; each reads its own (see losses/preference.py and losses/kto.py).

    `beta`: none takes the paper's (0.1; simpo 2.0); ipo's tau and orpo's lambda are called so, too. `gamma`: simpo's
    margin. `label_smoothing`: dpo's share of pairs that are taken to be the wrong way round. `desirable` and
    `undesirable`: kto's weights of good and bad answers.
    """

    beta: float | None = None
    gamma: float = 1.0
    label_smoothing: float = 0.0
    desirable: float = 1.0
    undesirable: float = 1.0

    def __post_init__(self) -> None:
        if self.beta is not None and not self.beta > 0:
            raise ValueError(f"loss.preference.beta is {self.beta}; wanted a positive number, such as 0.1")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"loss.preference.label_smoothing is {self.label_smoothing}; at least 0 and under 0.5")
        if not self.gamma >= 0 or not self.desirable >= 0 or not self.undesirable >= 0:
            raise ValueError("loss.preference: gamma, desirable and undesirable must not be negative")
        if not self.desirable + self.undesirable > 0:
            raise ValueError("loss.preference: one of desirable and undesirable must be positive")


class DistilSpec(Strict, frozen=True, kw_only=True):
    """A frozen `teacher`, a folder, a Hugging Face id or another run's folder, of the same tokeniser.

    The loss is `alpha` times the divergence of the two at `temperature`, and 1 - `alpha` times that of the labels.
    `direction`: `forward` is KL(teacher || student), `reverse` KL(student || teacher). `features` weights the squared
    distance of the last vectors, the student's behind a `projection`. `layers` are pairs of a layer of the student and
    one of the teacher, from 1 on, whose vectors are compared in the same way: the mean over pairs is weighted by
    `layer_features`, and each pair has a projection of its own.
    """

    teacher: str
    temperature: float = 2.0
    alpha: float = 0.5
    direction: Literal["forward", "reverse"] = "forward"
    features: float = 0.0
    projection: Literal["identity", "learned"] = "identity"
    layers: tuple[tuple[int, int], ...] = ()
    layer_features: float = 1.0

    def __post_init__(self) -> None:
        if any(layer < 1 for pair in self.layers for layer in pair) or not self.layer_features >= 0:
            raise ValueError("loss.distil: layers are pairs of numbers from 1 on, layer_features is not negative")
        if not self.teacher:
            raise ValueError("loss.distil.teacher is empty; give a folder, a Hugging Face id or another run's folder")
        if not self.temperature > 0 or not 0 <= self.alpha <= 1 or not self.features >= 0:
            raise ValueError("loss.distil: temperature must be positive, alpha between 0 and 1, features not negative")


PREFERENCES = ("dpo", "ipo", "simpo", "orpo", "kto")
"""Losses that compare answers."""


class LossSpec(Strict, frozen=True, kw_only=True):
    """What is learnt. `sft`: what the assistant says; `language`: all text, of documents and of conversations.

    `distil`: what a teacher says; needs the fields of `distil`. `fusion`: the fusion model's three heads together;
    `contrastive`: media and their answers as neighbours; `heads` has weights and temperature of both. The others
    compare answers: see `preference`.
    `weighting` of answers (sft, language, and the labels' part of distil): by `token`, by `sample` (each answer counts
    once), or `square` (root of its length).
    """

    name: Literal["sft", "language", "distil", "dpo", "ipo", "simpo", "orpo", "kto", "fusion", "contrastive"] = "sft"
    weighting: Literal["token", "square", "sample"] = "token"
    preference: PreferenceSpec | None = None
    distil: DistilSpec | None = None
    heads: HeadsSpec | None = None

    def __post_init__(self) -> None:
        if (self.name == "distil") != (self.distil is not None):
            raise ValueError(f"loss.name is {self.name}: loss.distil goes with distil, which needs loss.distil.teacher")
        if self.heads is not None and self.name not in ("fusion", "contrastive"):
            raise ValueError(f"loss.name is {self.name}: loss.heads goes with fusion and contrastive")
        if self.preference is not None and self.name not in PREFERENCES:
            raise ValueError(f"loss.name is {self.name}: loss.preference goes with {', '.join(PREFERENCES)}")


class OptimizerSpec(Strict, frozen=True, kw_only=True):
    """AdamW, or `adamw8bit` with moments of 8 bits (bitsandbytes).

    `rate` rises over `warmup` steps and falls as a cosine to `floor` of itself at the last step.
    `clip` bounds the gradient's norm; 0 does not.
    """

    kind: Literal["adamw", "adamw8bit"] = "adamw"
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
    """A checkpoint every `every` steps and at the end; the last `keep` are kept.

    So are the `best` of lowest held-out loss, of those where it was measured, and that of every `milestone`-th step (0:
    none). `asynchronous`: they are copied and then written while training goes on.
    """

    every: int = 50
    keep: int = 2
    best: int = 1
    milestone: int = 0
    asynchronous: bool = True

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep < 1:
            raise ValueError("checkpoint.every and checkpoint.keep must be at least 1")
        if self.best < 0 or self.milestone < 0:
            raise ValueError(f"best is {self.best}, milestone {self.milestone}; at least 0, which keeps none")
        if self.milestone % self.every:
            raise ValueError(f"milestone {self.milestone} is not a multiple of every, {self.every}")


class FailureSpec(Strict, frozen=True, kw_only=True):
    """What happens when a step goes wrong: it is skipped, counted, and its samples are named in skipped.jsonl.

    A step is bad if its loss or gradient is not finite, or `spike` times the running median over the last `window` good
    steps (null: any finite one is good). A skipped step counts as one, its samples are not read again, and neither the
    weights nor the optimizer's state change. More than `most_skipped` in a row end the run. `timeout_seconds`: a rank
    that waits longer for the others ends the job.
    """

    spike: float | None = None
    window: int = 32
    most_skipped: int = 3
    timeout_seconds: float = 600.0

    def __post_init__(self) -> None:
        if self.spike is not None and not self.spike > 1:
            raise ValueError(f"failure.spike is {self.spike}; more than 1, or null for no limit")
        if self.window < 2 or self.most_skipped < 0:
            raise ValueError("failure.window must be at least 2, most_skipped at least 0")
        if not self.timeout_seconds > 0:
            raise ValueError(f"failure.timeout_seconds is {self.timeout_seconds}; a positive number")


class EvalSpec(Strict, frozen=True, kw_only=True):
    """Held-out loss before the first step and after the last, on at most `samples` samples; and each `every` steps.

    `shuffle` adds losses with that medium exchanged among the samples: what the model learns from it; `blank` with
    grey images or silence in its place. `generate` of the samples are answered too, greedily in at most `new_tokens`
    tokens: answers that are right, a page to look at. `where`: the held-out samples are those that this filter takes
    (all of them, whatever data.held_out says), such as `split=val` beside data.where `split=train`; a sample that both
    filters take is refused.
    """

    samples: int = 64
    shuffle: tuple[Modality, ...] = ("image", "audio")
    blank: tuple[Modality, ...] = ()
    every: int = 0
    generate: int = 8
    new_tokens: int = 64
    where: str | None = None

    def __post_init__(self) -> None:
        if self.samples < 0:
            raise ValueError(f"eval.samples is {self.samples}; at least 0, which measures nothing")
        if self.every < 0 or self.generate < 0:
            raise ValueError(f"eval.every is {self.every}, eval.generate {self.generate}; at least 0, which is never")
        if self.new_tokens < 1:
            raise ValueError(f"eval.new_tokens is {self.new_tokens}; at least 1")


class MetricsSpec(Strict, frozen=True, kw_only=True):
    """A line of metrics every `log_every` steps, the means of those steps; figures of waiting over `window` steps.

    `tensorboard` writes the same figures as events into the run's folder `tb`; `html` a page of curves. `peak_tflops`
    of one device, for the utilisation (MFU), where its own table does not know it: 1e12 operations a second.
    """

    log_every: int = 1
    window: int = 100
    tensorboard: bool = False
    html: bool = True
    peak_tflops: float | None = None

    def __post_init__(self) -> None:
        if self.log_every < 1 or self.window < 1:
            raise ValueError(f"log_every is {self.log_every}, window {self.window}; at least 1")
        if self.peak_tflops is not None and not self.peak_tflops > 0:
            raise ValueError(f"peak_tflops is {self.peak_tflops}; a positive number, or none")


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
