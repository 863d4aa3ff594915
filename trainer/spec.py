"""Run specs: what to train, on what and how, as frozen structs that refuse typos and impossible values.

Here: the structs, loading with profiles and `--set`.
Elsewhere: build specs (shardkit.spec), what the fields do (data, model, loop).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from shardkit import SpecError, convert_spec, parse_yaml, read_mapping, scrub

Config = dict[str, int | float | str | bool]
Modality = Literal["image", "audio"]


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every spec struct."""


class EncoderSpec(Strict, frozen=True, kw_only=True):
    """One encoder and its connector.

    `pretrained` is a folder or a Hugging Face id; empty: random weights from `config` (the fields of the model's own
    config class). `latents` vectors an image or a window of sound reach the language model, resampled by `depth`
    Perceiver layers of `heads` heads at the encoder's width. `local` starts every latent on its own stretch of
    the input, which small encoders need to learn in few steps; 0 starts them all everywhere.
    """

    pretrained: str = ""
    config: Config = {}
    latents: int = 64
    depth: int = 2
    heads: int = 8
    local: float = 1.0
    trainable: bool = False

    def __post_init__(self) -> None:
        if bool(self.pretrained) == bool(self.config):
            raise ValueError("give either `pretrained` (a folder or a Hugging Face id) or `config` (random weights)")
        for name in ("latents", "depth", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1")


class VisionSpec(EncoderSpec, frozen=True, kw_only=True):
    """A SigLIP encoder. `decode`: `exact` equals the transformers processor, `fast` decodes JPEGs at reduced size.

    `frames` is the largest number of keyframes of a video that are looked at, evenly spaced.
    """

    decode: Literal["exact", "fast"] = "exact"
    frames: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 1:
            raise ValueError(f"frames is {self.frames}; at least 1")


class HearingSpec(EncoderSpec, frozen=True, kw_only=True):
    """A Whisper encoder. Its window is 2 * max_source_positions / 100 seconds; a recording takes up to `windows`.

    What lies behind the last window is not heard; the metrics count it as `audio_cut`.
    """

    windows: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.windows < 1:
            raise ValueError(f"windows is {self.windows}; at least 1")


class LoraSpec(Strict, frozen=True, kw_only=True):
    """Low-rank adapters (peft) on the named linear layers of the language model."""

    rank: int = 16
    alpha: int = 32
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LanguageSpec(Strict, frozen=True, kw_only=True):
    """Any causal language model of transformers.

    `pretrained` is a folder or a Hugging Face id; empty: random weights from `config`, whose `model_type` names the
    architecture. `train`: all of it, `lora` adapters, or nothing.
    """

    pretrained: str = ""
    config: Config = {}
    train: Literal["full", "lora", "frozen"] = "full"
    lora: LoraSpec = LoraSpec()

    def __post_init__(self) -> None:
        if bool(self.pretrained) == bool(self.config):
            raise ValueError("give either `pretrained` (a folder or a Hugging Face id) or `config` (random weights)")
        if self.config and "model_type" not in self.config:
            raise ValueError("config needs a model_type, for example `llama`")


class ModelSpec(Strict, frozen=True, kw_only=True):
    """The whole model; without `vision` or `audio` it is blind or deaf, and samples with such media are left out."""

    vision: VisionSpec | None = None
    audio: HearingSpec | None = None
    language: LanguageSpec


class TokenizerSpec(Strict, frozen=True, kw_only=True):
    """`pretrained` is a folder or a Hugging Face id; empty: a byte-level BPE of `vocabulary` tokens.

    The BPE is trained on the first `samples` training samples of the dataset and kept in every checkpoint.
    """

    pretrained: str = ""
    vocabulary: int = 1024
    samples: int = 2000

    def __post_init__(self) -> None:
        if self.vocabulary < 300:
            raise ValueError(f"vocabulary is {self.vocabulary}; at least 300 (256 bytes and the special tokens)")
        if self.samples < 1:
            raise ValueError(f"tokenizer.samples is {self.samples}; at least 1")


class PackSpec(Strict, frozen=True, kw_only=True):
    """Rows of a batch as packs of whole samples, which do not see each other, up to so many tokens (media's included).

    And up to so many images (keyframes too) and seconds of sound, where given. `candidates` and `lanes` go to the
    loader's Pack. A sample with more media than a pack takes is left out and counted as `oversized`.
    """

    tokens: int
    images: int | None = None
    audio_seconds: float | None = None
    candidates: int = 32
    lanes: int | None = None


class SourceSpec(Strict, frozen=True, kw_only=True):
    """One dataset: its folder or URL, and its weight beside others. Where none has one, they are mixed by size."""

    url: str
    weight: float | None = None

    def __post_init__(self) -> None:
        if self.weight is not None and not 0 < self.weight < 1e18:
            raise ValueError(f"the weight of {self.url} is {self.weight}; a positive number")


class WeightsSpec(Strict, frozen=True, kw_only=True):
    """From `step` on these weights, one a dataset. With data.pack, `step` counts samples: a step has as many as fit."""

    step: int
    weights: tuple[float, ...]


class MixSpec(Strict, frozen=True, kw_only=True):
    """How several datasets are mixed: see Mix in shardkit. `schedule` changes the weights as the run goes on."""

    temperature: float | None = None
    exhausted: Literal["repeat", "stop", "reweight"] = "repeat"
    schedule: tuple[WeightsSpec, ...] = ()


class DataSpec(Strict, frozen=True, kw_only=True):
    """How the dataset is read. In a run's YAML a plain list stands for `datasets`.

    `datasets` are what is read where no --data is given, mixed as `mix` says if there are several. `max_tokens` cuts
    long samples at the end. `pack` fills rows with several samples; `batch_size` then counts packs. `held_out` is the
    share of samples, chosen by their keys, that are never trained on. `lanes`, `window` and `decoders` (its
    num_workers) go to the loader; `prefetch` batches are prepared ahead. `cache` is a folder in which up to
    `cache_bytes` of what comes over a network are kept for the next run. `on_damage`: `skip` leaves damaged or
    unreachable samples out, and the metrics count and name them. `where` reads only what a filter takes, as
    `shardkit ls --where` shows it.
    """

    datasets: tuple[SourceSpec, ...] = ()
    mix: MixSpec | None = None
    max_tokens: int = 1024
    pack: PackSpec | None = None
    held_out: float = 0.1
    lanes: int | None = None
    window: int | None = None
    decoders: int = 1
    prefetch: int = 2
    cache: str | None = None
    cache_bytes: int | None = None
    on_damage: Literal["error", "skip"] = "error"
    where: str | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 8:
            raise ValueError(f"max_tokens is {self.max_tokens}; at least 8")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; at least 0 and under 1")
        if self.prefetch < 1 or self.decoders < 0:
            raise ValueError("prefetch must be at least 1, decoders at least 0")
        if self.pack and self.pack.tokens < self.max_tokens:
            raise ValueError(f"pack.tokens is {self.pack.tokens}; at least max_tokens, {self.max_tokens}")


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
    profiles: dict[str, dict[str, Any]] = {}

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}")


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
    free = ("steps", "checkpoint", "eval", "profiles", "description", "device", "threads")
    # a copy of the data elsewhere does as well; versions and weights are checked
    reading = ("decoders", "prefetch", "cache", "cache_bytes", "datasets")
    absent = [name for name in ("pack", "mix") if raw["data"][name] is None]  # written before there were any
    raw["data"] = {name: value for name, value in raw["data"].items() if name not in {*reading, *absent}}
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
