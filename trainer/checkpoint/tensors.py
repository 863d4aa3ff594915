"""The tensors of a checkpoint: which ones, and back into a model and its optimizer.

Here: names, what is stored, filling in, cut up as the model is.
Elsewhere: copying out (snapshot.py), files (files.py), the generators (generators.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from shardkit import SpecError
from trainer.checkpoint.files import MODEL, OPTIMIZER, RANDOM
from trainer.checkpoint.generators import restore_generators
from trainer.distributed.parallel import parted, whole

TRAINING_ONLY = ("distil_projection.", "distil_layers.")
"""Parameters that a model has while it is trained only; without them a checkpoint loads as well."""


def load_tensors(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, rank: int = 0) -> bool:
    """Put a checked checkpoint's tensors and a rank's generators into a model and its optimizer, exactly.

    Whether the rank's generators were there: not where more ranks read than wrote. Raises SpecError where the model
    has other parameters than the checkpoint.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file

    load_model(path, model)
    with safe_open(path / OPTIMIZER, "pt") as stored:
        fields = _by_parameter(stored.keys())
        for name, parameter in model.named_parameters():
            if name in fields:
                values = {field: stored.get_tensor(f"{name}/{field}") for field in fields[name]}
                optimizer.state[parameter] = _state(values, parameter, optimizer)
        if "rng.cpu" in fields[""]:  # of checkpoints before there were several ranks
            torch.set_rng_state(stored.get_tensor("rng.cpu"))
    generators = load_file(path / RANDOM) if (path / RANDOM).exists() else {}
    return restore_generators(generators, rank)


def load_model(path: Path, model: torch.nn.Module) -> None:
    """Put a checked checkpoint's weights into a model; raises SpecError where it has other parameters.

    What the checkpoint lacks must come from pretrained weights. Another stage may have trained other parts of them:
    what it stored is noted as `restored`, so that it is kept.
    """
    from safetensors import safe_open

    with safe_open(path / MODEL, "pt") as stored:
        shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in stored.keys()}  # noqa: SIM118
        parameters = dict(model.named_parameters())
        known = {name: shape for name, shape in shapes.items() if name in parameters or not _is_training_only(name)}
        check_parameters(model, known, path)
        fill(model, known, stored.get_tensor)
    model.restored = frozenset(known)  # type: ignore[assignment]  # a plain attribute, no part of the model


def model_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that a checkpoint holds, whole, in host memory. All ranks must ask for them."""
    return {name: whole(parameter.detach()).cpu().contiguous() for name, parameter in stored_parameters(model)}


def stored_parameters(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The parameters that a checkpoint holds: all but those frozen ones that come whole from pretrained weights.

    Frozen embeddings stay in: they may have grown by the rows of our special tokens. So does what an earlier stage
    trained, which was loaded from its checkpoint. Each tied tensor comes once.
    """
    kept = {*_always_stored(model), *getattr(model, "restored", ())}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or name in kept:
            yield name, parameter


def _always_stored(model: torch.nn.Module) -> set[str]:
    """Names of the parameters that no pretrained weights give, whether they train or not."""
    elsewhere = tuple(getattr(model, "pretrained_parts", ()))
    kept = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    grown: list[Any] = [module for module in model.modules() if hasattr(module, "has_grown")]
    kept |= {id(language.get_output_embeddings().weight) for language in grown}
    return {
        name for name, parameter in model.named_parameters() if id(parameter) in kept or not name.startswith(elsewhere)
    }


def _is_training_only(name: str) -> bool:
    return name.startswith(TRAINING_ONLY)


def optimizer_tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, torch.Tensor]]:
    """The optimizer's state, `PARAMETER/FIELD`; numbers as tensors ()."""
    for name, parameter in model.named_parameters():
        for field, value in optimizer.state.get(parameter, {}).items():
            yield f"{name}/{field}", value if isinstance(value, torch.Tensor) else torch.tensor(value)


def check_parameters(model: torch.nn.Module, stored: Mapping[str, tuple[int, ...]], path: Path) -> None:
    """Refuse a checkpoint with other parameters than the model's, by name and shape. Raises SpecError."""
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    odd = sorted(
        {name for name, shape in stored.items() if shapes.get(name) != shape} | (_always_stored(model) - stored.keys())
    )
    if odd:
        raise SpecError(f"{path} is of another model ({odd[0]} differs); resume with the spec that it was written with")


def fill(model: torch.nn.Module, names: Mapping[str, Any], read: Callable[[str], torch.Tensor]) -> None:
    """Read tensors one by one into the parameters of these names."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in names:
            parameters[name].copy_(parted(read(name), parameters[name]))


def _by_parameter(names: list[str]) -> dict[str, list[str]]:
    """Names of fields by parameter; under the empty name those that are no parameter's."""
    found: dict[str, list[str]] = {"": []}
    for name in names:
        parameter, slash, field = name.rpartition("/")
        found.setdefault(parameter if slash else "", []).append(field)
    return found


def _state(
    values: dict[str, torch.Tensor], parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """A parameter's optimizer state as the optimizer itself would hold it."""
    on_device = bool(optimizer.defaults.get("fused") or optimizer.defaults.get("capturable"))
    state: dict[str, Any] = {}
    for field, value in values.items():
        if value.shape == parameter.shape and value.ndim:
            state[field] = parted(value.clone(), parameter)
        elif field == "step":  # a whole number in 8-bit optimizers, a tensor in torch's
            state[field] = value.clone().to(parameter.device if on_device else "cpu")
            state[field] = state[field] if value.is_floating_point() else int(value)
        else:
            state[field] = value.clone().to(parameter.device)
    return state
