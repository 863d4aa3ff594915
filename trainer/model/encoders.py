"""Eyes and ears: encoders from a config or from pretrained weights, one code path for both.

Here: what the omni model holds of them, and Whisper.
Elsewhere: the kinds of eyes (eyes.py), reducing vectors to latents (connectors.py), files before them (data).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from shardkit import SpecError
from trainer.data.images import normalise
from trainer.model.eyes import open_eyes
from trainer.model.loading import load_weights, make_config, make_model, read_config
from trainer.model.mel import LogMel
from trainer.spec import Config, HearingSpec, VisionSpec


class VisionEncoder(nn.Module):
    """An encoder of images. `width` of its vectors, `length` of them an image, `size` of its images in pixels."""

    def __init__(self, spec: VisionSpec) -> None:
        super().__init__()
        eyes = open_eyes(spec)
        self.tower = eyes.tower
        self.width, self.size, self.length = eyes.width, eyes.size, eyes.length
        self._mean, self._std, self._vectors = eyes.mean, eyes.std, eyes.vectors

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """uint8 images (N, 3, S, S) to vectors (N, length, width)."""
        dtype = next(self.tower.parameters()).dtype
        return self._vectors(self.tower, normalise(images_NCHW, dtype, self._mean, self._std))


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


def _make_whisper(config: Config) -> Any:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    made = make_config(WhisperConfig, {"pad_token_id": 0, **config}, "model.audio.config")
    return make_model(WhisperEncoder, made, "model.audio.config")


def _load_whisper(name: str) -> Any:
    """The encoder of a full checkpoint: WhisperEncoder.from_pretrained would leave all its weights random."""
    from transformers import WhisperModel

    config = read_config(name, "model.audio")
    if config.model_type != "whisper":
        raise SpecError(f"model.audio.pretrained: {name} is a {config.model_type!r}; wanted a `whisper`")
    return load_weights(WhisperModel, name, "model.audio").encoder
