"""The model's part of a run spec: encoders, connectors, language model.

Here: the structs.
Elsewhere: what they build (trainer.model).
"""

from __future__ import annotations

from typing import Literal

from trainer.spec.base import Config, Strict
from trainer.spec.fusion import UNUSED, FusionSpec


class EncoderSpec(Strict, frozen=True, kw_only=True):
    """One encoder and its connector.

    `pretrained` is a folder or a Hugging Face id; empty: random weights from `config` (the fields of the model's own
    config class). `latents` vectors an image or a window of sound reach the language model, made by the `connector`:

    - `perceiver`: resampled by `depth` Perceiver layers of `heads` heads at the encoder's width, then projected.
      `local` starts every latent on its own stretch of the input, which small encoders need to learn in few steps;
      0 starts them all everywhere.
    - `capsules`: `latents` capsules of `capsule_width`, agreed upon in `routing` rounds, then projected.
    - `linear`: means of as many stretches of the input, projected.

    `trainable` is the encoder, `connector_trainable` its connector.
    """

    pretrained: str = ""
    config: Config = {}
    connector: Literal["perceiver", "capsules", "linear"] = "perceiver"
    latents: int = 64
    depth: int = 2
    heads: int = 8
    local: float = 1.0
    capsule_width: int = 512
    routing: int = 3
    trainable: bool = False
    connector_trainable: bool = True

    def __post_init__(self) -> None:
        if bool(self.pretrained) == bool(self.config):
            raise ValueError("give either `pretrained` (a folder or a Hugging Face id) or `config` (random weights)")
        for name in ("latents", "depth", "heads", "capsule_width", "routing"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1")


class VisionSpec(EncoderSpec, frozen=True, kw_only=True):
    """An encoder of images: `siglip`, `siglip2`, `clip` of Hugging Face, or `cnn`, `vit` from scratch (model.scratch).

    `decode`: `exact` equals the processor of SigLIP in transformers, `fast` decodes JPEGs at reduced size. `frames` is
    the largest number of keyframes of a video that are looked at, evenly spaced.
    """

    kind: Literal["siglip", "siglip2", "clip", "cnn", "vit"] = "siglip"
    decode: Literal["exact", "fast"] = "exact"
    frames: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 1:
            raise ValueError(f"frames is {self.frames}; at least 1")
        if self.kind in ("cnn", "vit") and self.pretrained:
            raise ValueError(f"a {self.kind} is made from scratch: give its sizes as `config`, not `pretrained`")


class HearingSpec(EncoderSpec, frozen=True, kw_only=True):
    """A Whisper encoder. Its window is 2 * max_source_positions / 100 seconds; a recording takes up to `windows`.

    What lies behind the last window is not heard; the metrics count it as `audio_cut`. `mel`: where log-mel frames are
    computed, on the `host` or on the `device`, which then gets the sound itself.
    """

    windows: int = 1
    mel: Literal["host", "device"] = "host"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.windows < 1:
            raise ValueError(f"windows is {self.windows}; at least 1")


class LoraSpec(Strict, frozen=True, kw_only=True):
    """Low-rank adapters (peft) on the named linear layers of the language model; `dropout` before them."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha < 1 or not 0 <= self.dropout < 1:
            raise ValueError("rank and alpha must be at least 1, dropout at least 0 and under 1")


class LanguageSpec(Strict, frozen=True, kw_only=True):
    """Any causal language model of transformers.

    `pretrained` is a folder or a Hugging Face id; empty: random weights from `config`, whose `model_type` names the
    architecture. `train`: all of it (`full`), `lora` or `dora` adapters, adapters over weights held in 4 bits
    (`qlora`: nf4, quantised twice; wants `pretrained`), or nothing (`frozen`). `attention`: `documents` attends within
    each packed sample without a mask; else a name of transformers, or `auto`, its choice for the model.
    """

    pretrained: str = ""
    config: Config = {}
    train: Literal["full", "lora", "dora", "qlora", "frozen"] = "full"
    lora: LoraSpec = LoraSpec()
    attention: Literal["auto", "documents", "sdpa", "eager", "flex_attention", "flash_attention_2"] = "auto"

    def __post_init__(self) -> None:
        if bool(self.pretrained) == bool(self.config):
            raise ValueError("give either `pretrained` (a folder or a Hugging Face id) or `config` (random weights)")
        if self.config and "model_type" not in self.config:
            raise ValueError("config needs a model_type, for example `llama`")
        if self.train == "qlora" and not self.pretrained:
            raise ValueError("qlora quantises pretrained weights: give `pretrained`, or train `lora`")


NO_LANGUAGE = LanguageSpec(config={"model_type": "none"}, train="frozen")
"""What a model without a language model has in its place."""


class ModelSpec(Strict, frozen=True, kw_only=True):
    """The whole model; without `vision` or `audio` it is blind or deaf, and samples with such media are left out.

    `kind`: `omni` feeds a language model; `fusion` has none, but a transformer of its own (see FusionSpec).

    `checkpointing`: layers of Hugging Face models that train keep no activations, and compute them again in the
    backward pass: a third more arithmetic for a fraction of the memory.
    """

    checkpointing: bool = False
    vision: VisionSpec | None = None
    audio: HearingSpec | None = None
    language: LanguageSpec = NO_LANGUAGE
    kind: Literal["omni", "fusion"] = "omni"
    fusion: FusionSpec | None = None

    def __post_init__(self) -> None:
        if self.kind == "omni" and (self.language == NO_LANGUAGE or self.fusion):
            raise ValueError(
                "model.kind is omni: it needs model.language, and model.fusion goes with model.kind=fusion"
            )
        if self.kind == "fusion" and self.checkpointing:
            raise ValueError("model.checkpointing is for model.kind=omni; take it out")
        if self.kind == "fusion" and (self.language != NO_LANGUAGE or not self.fusion):
            raise ValueError("model.kind is fusion: it needs model.fusion (at least {}), and has no model.language")
        for name, part in (("vision", self.vision), ("audio", self.audio)) if self.kind == "fusion" else ():
            given = [field for field, default in UNUSED.items() if part and getattr(part, field) != default]
            if given:
                raise ValueError(f"model.{name}.{given[0]} says nothing where model.kind is fusion; take it out")
