"""A whole run spec: loading it with a profile and `--set`, and what of it a resume compares.

Here: the struct, loading, secrets kept out, what must stay the same.
Elsewhere: its parts (model.py, data.py, training.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from shardkit import SpecError, convert_spec, parse_yaml, read_mapping, scrub
from trainer.spec.base import Strict
from trainer.spec.data import DataSpec, TokenizerSpec
from trainer.spec.fusion import check_together
from trainer.spec.model import ModelSpec
from trainer.spec.training import CheckpointSpec, EvalSpec, LossSpec, MetricsSpec, OptimizerSpec, SpeedSpec


class RunSpec(Strict, frozen=True, kw_only=True):
    """One training run.

    `batch_size` samples are read a step by all ranks together, in `accumulate` parts. `threads` fixes the sums'
    order on CPU: results repeat bit for bit at the same number. `profiles` are named sets of settings for
    `--profile`, each a mapping of dotted fields to values.
    """

    name: str
    description: str = ""
    seed: int = 0
    steps: int = 100
    batch_size: int = 16
    accumulate: int = 1
    threads: int = 1
    device: Literal["cpu", "cuda", "auto"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    data: DataSpec = DataSpec()
    tokenizer: TokenizerSpec = TokenizerSpec()
    model: ModelSpec
    loss: LossSpec = LossSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    checkpoint: CheckpointSpec = CheckpointSpec()
    eval: EvalSpec = EvalSpec()
    metrics: MetricsSpec = MetricsSpec()
    speed: SpeedSpec = SpeedSpec()
    profiles: dict[str, dict[str, Any]] = {}

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")
        check_together(self.model.kind, self.loss.name, self.speed.loss_chunk)


def load_run(path: Path, settings: Mapping[str, str] | None = None, profile: str = "") -> RunSpec:
    """The run spec in a YAML file with a profile and then `--set` settings applied (`optimizer.rate=1e-3`).

    Raises SpecError naming the file, the field, what was found and what is wanted.
    """
    raw = read_mapping(path, "run spec", "a run spec has at least `name` and `model`")
    for dotted, value in _profile(raw, profile, path).items():
        _override(raw, dotted, value)
    if isinstance(raw.get("data"), list):
        raw["data"] = {"datasets": raw["data"]}
    for dotted, written in (settings or {}).items():
        _override(raw, dotted, parse_yaml(written.encode(), f"--set {dotted}"))
    return convert_spec(raw, RunSpec, str(path))


def without_secrets(spec: RunSpec) -> RunSpec:
    """The spec as it is kept beside a run: URLs of datasets without login and query."""
    datasets = tuple(msgspec.structs.replace(source, url=scrub(source.url)) for source in spec.data.datasets)
    return msgspec.structs.replace(spec, data=msgspec.structs.replace(spec.data, datasets=datasets))


def spec_digest_fields(spec: RunSpec) -> dict[str, Any]:
    """What must be the same when a run is resumed: all but how long it goes and how it is watched."""
    raw: dict[str, Any] = msgspec.to_builtins(spec)
    free = ("steps", "checkpoint", "eval", "metrics", "profiles", "description", "device", "threads", "speed")
    # a copy of the data elsewhere does as well; versions and weights are checked
    reading = ("decoders", "prefetch", "cache", "cache_bytes", "datasets")
    absent = [name for name in ("pack", "mix") if raw["data"][name] is None]  # written before there were any
    raw["data"] = {name: value for name, value in raw["data"].items() if name not in {*reading, *absent}}
    new = [name for name, value in (("kind", "omni"), ("fusion", None)) if raw["model"][name] == value]
    raw["model"] = {name: value for name, value in raw["model"].items() if name not in new}
    raw["loss"] = {name: value for name, value in raw["loss"].items() if value is not None}
    return {name: value for name, value in raw.items() if name not in free}


def _profile(raw: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    profiles = raw.get("profiles") or {}
    if not name:
        return {}
    if not isinstance(profiles, dict) or not isinstance(profiles.get(name), dict):
        known = ", ".join(sorted(map(str, profiles))) if isinstance(profiles, dict) else ""
        raise SpecError(f"{path} has no profile {name!r}; there are: {known or 'none'}")
    return {str(dotted): value for dotted, value in profiles[name].items()}


def _override(raw: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    here: Any = raw
    for part in parents:
        here = here.setdefault(part, {}) if here.get(part) is not None else here.__setitem__(part, {}) or here[part]
        if not isinstance(here, dict):
            raise SpecError(f"--set {dotted}: {part!r} has no fields")
    here[last] = value
