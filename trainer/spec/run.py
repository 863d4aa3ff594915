"""A whole run spec, and what of it a resume compares.

Here: the struct, secrets kept out, what must stay the same.
Elsewhere: its parts (model.py, data.py, training.py, stages.py), loading it with profiles and `--set` (layers.py).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shardkit import scrub
from trainer.spec.base import Strict
from trainer.spec.data import DataSpec, TokenizerSpec
from trainer.spec.fusion import check_together
from trainer.spec.model import ModelSpec
from trainer.spec.stages import Part, StageSpec
from trainer.spec.training import (
    CheckpointSpec,
    EvalSpec,
    FailureSpec,
    LossSpec,
    MetricsSpec,
    OptimizerSpec,
    SpeedSpec,
)

SCALE = ("parallel", "micro_batch", "failure")
"""Fields that say how a run is carried out, not what it computes."""


class RunSpec(Strict, frozen=True, kw_only=True):
    """One training run.

    `batch_size` samples are read a step by all ranks together, in `accumulate` parts. `threads` fixes the sums'
    order on CPU: results repeat bit for bit at the same number. `parallel`: how several processes (torchrun) share
    the work, the model on each (`ddp`) or cut up (`fsdp`); auto is fsdp on GPUs and ddp on CPUs. `dtype` is that of the
    arithmetic and of frozen weights: `float16`, for GPUs without bfloat16, scales losses up, and skips steps in which a
    gradient overflows for it. `micro_batch`: rows
    that one forward pass takes at most, `auto` as many as the memory allows. `profiles` are named sets of settings for
    `--profile`, each a mapping of dotted fields to values. `trainable` names the parts that train, in place of what
    the model's parts say. `start` is a checkpoint, or the folder of a run, whose weights a fresh run begins with.
    `stages` make the run a chain: each is trained in turn, from the best weights of the one before.
    """

    name: str
    description: str = ""
    seed: int = 0
    steps: int = 100
    batch_size: int = 16
    accumulate: int = 1
    threads: int = 1
    device: Literal["cpu", "cuda", "auto"] = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    parallel: Literal["auto", "none", "ddp", "fsdp"] = "auto"
    micro_batch: int | Literal["auto"] = "auto"
    data: DataSpec = DataSpec()
    tokenizer: TokenizerSpec = TokenizerSpec()
    model: ModelSpec
    trainable: tuple[Part, ...] | None = None
    start: str = ""
    stages: tuple[StageSpec, ...] = ()
    loss: LossSpec = LossSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    checkpoint: CheckpointSpec = CheckpointSpec()
    failure: FailureSpec = FailureSpec()
    eval: EvalSpec = EvalSpec()
    metrics: MetricsSpec = MetricsSpec()
    speed: SpeedSpec = SpeedSpec()
    profiles: dict[str, dict[str, Any]] = {}

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1")
        if self.micro_batch != "auto" and self.micro_batch < 1:
            raise ValueError(f"micro_batch is {self.micro_batch}; at least 1, or auto")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")
        check_together(self.model.kind, self.loss.name, self.speed.loss_chunk)


def without_secrets(spec: RunSpec) -> RunSpec:
    """The spec as it is kept beside a run: URLs of datasets without login and query."""
    datasets = tuple(msgspec.structs.replace(source, url=scrub(source.url)) for source in spec.data.datasets)
    return msgspec.structs.replace(spec, data=msgspec.structs.replace(spec.data, datasets=datasets))


def spec_digest_fields(spec: RunSpec) -> dict[str, Any]:
    """What must be the same when a run is resumed: all but how long it goes and how it is watched."""
    raw: dict[str, Any] = msgspec.to_builtins(spec)
    free = ("steps", "checkpoint", "eval", "metrics", "profiles", "description", "device", "threads", "speed", *SCALE)
    chain = ("stages", "start")  # each stage has checkpoints of its own, which hold what they started from
    # a copy of the data elsewhere does as well; versions and weights are checked
    reading = ("decoders", "prefetch", "cache", "cache_bytes", "datasets")
    absent = [name for name in ("pack", "mix") if raw["data"][name] is None]  # written before there were any
    raw["data"] = {name: value for name, value in raw["data"].items() if name not in {*reading, *absent}}
    new = [name for name, value in (("kind", "omni"), ("fusion", None)) if raw["model"][name] == value]
    raw["model"] = {name: value for name, value in raw["model"].items() if name not in new}
    raw["loss"] = {name: value for name, value in raw["loss"].items() if value is not None}
    return {name: value for name, value in raw.items() if name not in (*free, *chain)}
