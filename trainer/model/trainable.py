"""Which parts of a model train.

Here: switching parts on and off by name.
Elsewhere: what a spec says of each part by itself (omni.py), stages that switch between them (stages.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from shardkit import SpecError

PARTS = ("vision", "audio", "vision_connector", "audio_connector", "language")
ADAPTERS = "adapters"
HEADS = ("caption", "transcription", "contrastive")
"""Those of a fusion model, which train with its `language`."""


def set_trainable(model: nn.Module, names: Sequence[str]) -> None:
    """Train the named parts and freeze all others.

    `adapters` are those of the language model, whose own weights then stay frozen; `language` is the whole of a model
    without adapters. Raises SpecError for a part that there is not.
    """
    adapted = {name for name, _ in model.named_parameters() if ".lora_" in name}
    for part in names:
        _refuse_absent(model, part, bool(adapted))
    for name, parameter in model.named_parameters():
        part = ADAPTERS if name in adapted else name.partition(".")[0]
        part = "language" if part in HEADS else part
        if parameter.is_floating_point():
            parameter.requires_grad_(part in names)


def _refuse_absent(model: nn.Module, part: str, adapted: bool) -> None:
    if part not in (*PARTS, ADAPTERS):
        raise SpecError(f"trainable: no part {part!r}; there are: {', '.join((*PARTS, ADAPTERS))}")
    if part == ADAPTERS and not adapted:
        raise SpecError("trainable: the language model has no adapters; set model.language.train=lora (or dora, qlora)")
    if part == "language" and adapted:
        raise SpecError("trainable: the language model has adapters; name `adapters`, or set model.language.train=full")
    if part != ADAPTERS and getattr(model, part, None) is None:
        raise SpecError(f"trainable: this model has no {part}; take it out, or give model.{part.partition('_')[0]}")
