"""Log-mel frames on the device: what data/sounds.py computes on the host, where the encoder is.

Here: the module.
Elsewhere: the same on the host (data/sounds.py), cutting recordings into windows (data/media.py).

On one core 30 seconds of sound take 34 ms: a batch of 32 would take a second of the host. The sound itself is sent,
1.9 MB in place of 1.5 MB.
"""

from __future__ import annotations

import torch
from torch import nn

from trainer.data.sounds import FFT, FLOOR, HOP, mel_filters


class LogMel(nn.Module):
    """Windows of sound (M, samples), float32 at 16 kHz, to Whisper's log-mel frames (M, mels, samples / 160)."""

    filters: torch.Tensor
    hann: torch.Tensor

    def __init__(self, mels: int) -> None:
        super().__init__()
        self.register_buffer("filters", torch.from_numpy(mel_filters(mels)), persistent=False)
        self.register_buffer("hann", torch.hann_window(FFT), persistent=False)

    def forward(self, waves_MS: torch.Tensor) -> torch.Tensor:
        """See the class; in float32 whatever the autocast."""
        with torch.autocast(waves_MS.device.type, enabled=False):
            window = self.hann.float()
            spectrum = torch.stft(waves_MS.float(), FFT, HOP, window=window, pad_mode="reflect", return_complex=True)
            power = spectrum[..., :-1].abs().square()
            logs = (self.filters.float() @ power).clamp(min=FLOOR).log10()
            top = logs.amax(dim=(1, 2), keepdim=True)
            return (torch.maximum(logs, top - 8.0) + 4.0) / 4.0
