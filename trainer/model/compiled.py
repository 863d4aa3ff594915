"""Compiling the model by regions: every layer of its stacks by itself.

Here: finding the stacks of layers, compiling their layers in place.
Elsewhere: the model (omni.py). Parameters keep their names: checkpoints do not know of it.

All layers of a stack have one shape, so that one compilation serves them all: seconds, where a whole model takes
minutes and starts again at every new length.
"""

from __future__ import annotations

from torch import nn

LEAST_LAYERS = 2


def compile_regions(model: nn.Module, backend: str = "inductor") -> int:
    """Compile the layers of every stack (a ModuleList of modules of one class) in place; how many layers."""
    layers = [layer for stack in stacks(model) for layer in stack]
    for layer in layers:
        layer.compile(backend=backend, dynamic=True)
    return len(layers)


def stacks(model: nn.Module) -> list[nn.ModuleList]:
    """The outermost stacks of like layers: those of the encoders, the connectors and the language model."""
    found: list[nn.ModuleList] = []

    def look(module: nn.Module) -> None:
        for child in module.children():
            if isinstance(child, nn.ModuleList) and len(child) >= LEAST_LAYERS and len({type(x) for x in child}) == 1:
                found.append(child)
            else:
                look(child)

    look(model)
    return found
