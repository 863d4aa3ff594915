"""Eyes and ears: SigLIP and Whisper encoders, from a config or from pretrained weights, one code path for both.

Here: building and loading them, and what they take.
Elsewhere: reducing their output to latents (connectors.py), the files' own preprocessing (data).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from shardkit import SpecError
from trainer.data.images import normalise
from trainer.model.mel import LogMel
from trainer.spec import Config, HearingSpec, VisionSpec

SIGLIP = ("siglip", "siglip_vision_model")


class VisionEncoder(nn.Module):
    """A SigLIP vision tower without its pooling head. `width` of its vectors, `size` of its images in pixels."""

    def __init__(self, spec: VisionSpec) -> None:
        super().__init__()
        self.tower = _load_siglip(spec.pretrained) if spec.pretrained else _make_siglip(spec.config)
        self.width = int(self.tower.config.hidden_size)
        self.size = int(self.tower.config.image_size)
        self.length = (self.size // int(self.tower.config.patch_size)) ** 2

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """uint8 images (N, 3, S, S) to vectors (N, patches, width)."""
        pixels = normalise(images_NCHW, next(self.tower.parameters()).dtype)
        return self.tower(pixel_values=pixels).last_hidden_state


class HearingEncoder(nn.Module):
    """A Whisper encoder. `mels` bands, `frames` mel frames a window, two of them a vector of `width`."""

    def __init__(self, spec: HearingSpec) -> None:
        super().__init__()
        self.tower = _load_whisper(spec.pretrained) if spec.pretrained else _make_whisper(spec.config)
        self.width = int(self.tower.config.d_model)
        self.mels = int(self.tower.config.num_mel_bins)
        self.length = int(self.tower.config.max_source_positions)
        self.frames = 2 * self.length
        self.log_mel = LogMel(self.mels)

    def forward(self, mels_MCF: torch.Tensor) -> torch.Tensor:
        """Log-mel windows (M, mels, frames), or their sound (M, samples), to vectors (M, frames / 2, width)."""
        mels_MCF = self.log_mel(mels_MCF) if mels_MCF.ndim == 2 else mels_MCF
        dtype = next(self.tower.parameters()).dtype
        return self.tower(mels_MCF.to(dtype)).last_hidden_state


def _make_siglip(config: Config) -> Any:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    made = _config(SiglipVisionConfig, {**config, "vision_use_head": False}, "model.vision.config")
    if made.image_size < made.patch_size:
        raise SpecError(f"model.vision.config: patch_size {made.patch_size} is more than image_size {made.image_size}")
    return make_model(SiglipVisionModel, made, "model.vision.config")


def _load_siglip(name: str) -> Any:
    from transformers import SiglipVisionModel

    config = read_config(name, "model.vision")
    if config.model_type not in SIGLIP:
        raise SpecError(
            f"model.vision.pretrained: {name} is a {config.model_type!r}; wanted one of {', '.join(SIGLIP)}"
        )
    vision = getattr(config, "vision_config", config)
    vision.vision_use_head = False
    return load_weights(SiglipVisionModel, name, "model.vision", config=vision)


def _make_whisper(config: Config) -> Any:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    made = _config(WhisperConfig, {"pad_token_id": 0, **config}, "model.audio.config")
    return make_model(WhisperEncoder, made, "model.audio.config")


def _load_whisper(name: str) -> Any:
    """The encoder of a full checkpoint: WhisperEncoder.from_pretrained would leave all its weights random."""
    from transformers import WhisperModel

    config = read_config(name, "model.audio")
    if config.model_type != "whisper":
        raise SpecError(f"model.audio.pretrained: {name} is a {config.model_type!r}; wanted a `whisper`")
    return load_weights(WhisperModel, name, "model.audio").encoder


def read_config(name: str, field: str) -> Any:
    """The config in a folder or of a Hugging Face id; raises SpecError naming the spec's field."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SpecError(f"{field}.pretrained: cannot read a config from {name!r} ({reason})") from None


def load_weights(kind: Any, name: str, field: str, **options: Any) -> Any:
    """A model with the weights of a checkpoint; raises SpecError if any weight would stay random.

    Only safetensors are read: a pickled checkpoint can run code.
    """
    try:
        model, report = kind.from_pretrained(
            name, output_loading_info=True, use_safetensors=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise SpecError(f"{field}.pretrained: cannot load weights from {name!r} ({reason})") from None
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report.get("mismatched_keys", ()))
    if missing:
        raise SpecError(
            f"{field}.pretrained: {name} lacks {len(missing)} weights of {kind.__name__}, {missing[0]} first; "
            f"they would be random. Give a checkpoint of the whole model"
        )
    return model


def _config(kind: Any, fields: Config, field: str) -> Any:
    """A config from the spec's fields; an unknown field is an error, which transformers would keep silently."""
    unknown = sorted(set(fields) - set(kind().to_dict()))
    if unknown:
        raise SpecError(f"{field}: {kind.__name__} has no field {unknown[0]!r}")
    return make_model(lambda given: kind(**given), fields, field)


def make_model(make: Callable[[Any], Any], config: Any, field: str) -> Any:
    """`make(config)`; raises SpecError naming the spec's field where the sizes in it do not fit one another."""
    try:
        return make(config)
    except Exception as error:  # transformers and torch refuse impossible sizes with errors of many kinds
        raise SpecError(f"{field}: {' '.join(str(error).split())[:200]}") from None
