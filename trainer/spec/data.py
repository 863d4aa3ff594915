"""The data's part of a run spec: datasets and their mix, tokeniser, packs, how it is read.

Here: the structs.
Elsewhere: what they do (trainer.data).
"""

from __future__ import annotations

from typing import Literal

from trainer.spec.base import Strict


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
