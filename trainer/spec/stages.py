"""One stage of a chain: what it changes of its run, and the parts of a model that can train.

Here: the struct.
Elsewhere: the run that it makes (chain.py), training one after another (trainer.stages).
"""

from __future__ import annotations

import re
from typing import Any, Literal

from trainer.spec.base import Strict

Part = Literal["vision", "audio", "vision_connector", "audio_connector", "language", "adapters"]
"""Of a model: encoders, connectors, the language model's own weights, its LoRA adapters."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class StageSpec(Strict, frozen=True, kw_only=True):
    """One stage: the run with some of its settings changed, from the best weights of the stage before.

    What is not given is the run's. `loss`, `data`, `optimizer`, `checkpoint` and `eval` hold the fields that change;
    a loss of another name begins from its own defaults. `trainable` names the parts that train, all others stay as
    they are. Optimizer, schedule and reading begin anew; `name` names the stage's folder.
    """

    name: str
    steps: int | None = None
    trainable: tuple[Part, ...] | None = None
    seed: int | None = None
    batch_size: int | None = None
    accumulate: int | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    loss: dict[str, Any] = {}
    data: dict[str, Any] = {}
    optimizer: dict[str, Any] = {}
    checkpoint: dict[str, Any] = {}
    eval: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a stage's name is {self.name!r}; letters, digits, `_`, `.` and `-`, at most 64")
        if self.trainable is not None and not self.trainable:
            raise ValueError(f"stage {self.name}: trainable names no part; leave it out for what the model's parts say")
