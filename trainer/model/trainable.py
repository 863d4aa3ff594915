"""Which parts of a model train.

Here: parts by name, freezing all but some of them.
Elsewhere: the names that a spec may give (spec/stages.py), what a model's own spec says of its parts (omni.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

from shardkit import SpecError

ADAPTERS = "lora_"
"""Every parameter that peft adds for LoRA and DoRA has this in its name."""


def set_trainable(model: nn.Module, names: Iterable[str]) -> None:
    """Let the named parts train and nothing else; raises SpecError for a part that the model has not.

    Parts are the model's modules (`vision`, `vision_connector`, …); `language` are the language model's own weights,
    `adapters` its LoRA matrices.
    """
    model.requires_grad_(False)
    for name in names:
        found = [parameter for _, parameter in part_parameters(model, name) if parameter.is_floating_point()]
        if not found:
            raise SpecError(f"trainable names {name}, which this model has not; there are: {', '.join(_parts(model))}")
        for parameter in found:
            parameter.requires_grad_(True)


def part_parameters(model: nn.Module, name: str) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of a part with their names in the model; none where it has no such part."""
    for full, parameter in model.named_parameters():
        if part_of(full) == name:
            yield full, parameter


def part_of(parameter: str) -> str:
    """The part that a parameter belongs to, by its name."""
    module = parameter.partition(".")[0]
    return "adapters" if module == "language" and ADAPTERS in parameter else module


def _parts(model: nn.Module) -> list[str]:
    return list(dict.fromkeys(part_of(name) for name, _ in model.named_parameters()))
