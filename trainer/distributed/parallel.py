"""The model spread over ranks: the same on each with summed gradients, or cut up by FSDP2.

Here: choosing, cutting, summing, the norm of gradients that lie on several ranks, whole tensors from their parts.
Elsewhere: talking among ranks (world.py), the step (step.py).

Gradients are SUMS over ranks: a step divides by the weight of all its batches on all ranks beforehand.
FSDP cuts up the layers of the language model, which hold most of the memory, one by one and all the rest as one group:
that group is whole during a step, so that a part that a rank's batch does not use costs no communication of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from shardkit import SpecError
from trainer.distributed.world import World
from trainer.model import fusion, omni

Kind = Literal["none", "ddp", "fsdp"]
BUCKET_NUMBERS = 8 << 20
"""Numbers that are summed in one message: 32 MB of float32."""


class Parallel:
    """How a model lies on the ranks of a world."""

    def __init__(self, kind: Kind, world: World) -> None:
        self.kind, self.world = kind, world

    def spread(self, model: nn.Module, device: torch.device) -> None:
        """Put a model, the same on every rank, onto the ranks. Before its optimizer is made."""
        if self.kind == "ddp":
            self._alike(model)
        if self.kind == "fsdp":
            _shard(model, self.world, device)

    def gradients(self, trained: Sequence[nn.Parameter]) -> None:
        """Sum the gradients of all ranks (FSDP has done so in the backward pass)."""
        if self.kind == "ddp":
            _sum_gradients(self.world, trained)

    def norm(self, trained: Iterable[nn.Parameter]) -> torch.Tensor:
        """The norm () of the gradients, wherever their parts lie."""
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        return whole(torch.nn.utils.get_total_norm(gradients))

    def loss_factor(self) -> float:
        """What a loss is multiplied with before its backward pass: FSDP takes the mean over ranks, we want the sum."""
        return float(self.world.size) if self.kind == "fsdp" else 1.0

    def settle(self, model: nn.Module) -> None:
        """Free whole parameters that a forward pass left, so that the model's parameters are its parts again."""
        for module in model.modules() if self.kind == "fsdp" else ():
            reshard: Callable[[], None] | None = getattr(module, "reshard", None)
            if reshard:
                reshard()

    def _alike(self, model: nn.Module) -> None:
        """Every rank begins with rank 0's parameters."""
        import torch.distributed as dist

        with self.world.watch(), torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    dist.broadcast(parameter.data, src=0)


def choose_parallel(wanted: str, model: nn.Module, device: torch.device, world: World) -> Parallel:
    """What a spec's `parallel` means here: auto is fsdp on several GPUs, ddp on several CPU processes.

    Raises SpecError for what cannot be.
    """
    if world.size == 1:
        return Parallel("none", world)
    if wanted == "none":
        raise SpecError(f"parallel is none and there are {world.size} processes; use ddp, fsdp or auto")
    quantised = any(hasattr(parameter, "quant_state") for parameter in model.parameters())
    if wanted == "fsdp" and quantised:
        raise SpecError("parallel is fsdp and the model is quantised, which cannot be cut up; use ddp or auto")
    return Parallel(kind_of(wanted, on_gpu=device.type == "cuda", quantised=quantised), world)


def kind_of(wanted: str, *, on_gpu: bool, quantised: bool) -> Kind:
    """What a spec's `parallel` means for several processes."""
    if wanted == "auto":
        return "fsdp" if on_gpu and not quantised else "ddp"
    return "fsdp" if wanted == "fsdp" else "ddp"


def whole(value: torch.Tensor) -> torch.Tensor:
    """A tensor whose parts may lie on several ranks, whole on every rank; all ranks must ask for it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def parted(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor, the same on every rank, on the device of `like` and cut up as it is."""
    value = value.to(like.device)
    if not isinstance(like, DTensor):
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def _shard(model: nn.Module, world: World, device: torch.device) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (world.size,))
    language = getattr(model, "language", model)
    for layer in layers_of(language):
        fully_shard(layer, mesh=mesh)
    for module in language.modules():
        if isinstance(module, nn.Embedding):
            module.register_forward_hook(_with_gradient)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    doors = dict.fromkeys((*omni.DOORS, *fusion.DOORS))
    _open_doors(model, [name for name in doors if hasattr(model, name)])


def _with_gradient(module: nn.Module, given: Any, output: torch.Tensor) -> torch.Tensor:
    """Make a frozen embedding's output want a gradient, as it does on a rank whose batch places media in it.

    Layers whose input wants none are done last in the backward pass: ranks would talk about different layers.
    """
    return output.requires_grad_() if torch.is_grad_enabled() else output


def _open_doors(model: nn.Module, names: Sequence[str]) -> None:
    """Make methods gather the model's parameters, as `forward` does, when they are called from outside of it.

    Within another of them the parameters are there, and gathering again would free them too early.
    """
    from torch.distributed.fsdp import register_fsdp_forward_method

    inside: list[str] = []

    def guarded(name: str, within: Callable[..., Any], outside: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if inside:
                return within(*given, **named)
            inside.append(name)
            try:
                return outside(*given, **named)
            finally:
                inside.clear()

        return call

    model.forward = guarded("forward", model.forward, model.forward)
    for name in names:
        plain = getattr(model, name)
        register_fsdp_forward_method(model, name)
        setattr(model, name, guarded(name, plain, getattr(model, name)))


def layers_of(part: nn.Module) -> list[nn.Module]:
    """The layers of the part's largest stack, which trains or not as a whole."""
    stacks: list[nn.ModuleList] = [module for module in part.modules() if isinstance(module, nn.ModuleList)]
    if not stacks:
        return []
    largest = max(stacks, key=_size)
    return list(largest)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _sum_gradients(world: World, trained: Sequence[nn.Parameter]) -> None:
    """Sum gradients in buckets; a rank without one counts as zero, one that no rank has stays absent."""
    present = world.most(torch.tensor([int(parameter.grad is not None) for parameter in trained], dtype=torch.uint8))
    gradients: list[torch.Tensor] = []
    for parameter, found in zip(trained, present.tolist(), strict=True):
        if found and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if parameter.grad is not None:
            gradients.append(parameter.grad)
    for bucket in _buckets(gradients):
        flat = world.sum(torch.cat([gradient.flatten() for gradient in bucket]))
        parts: Any = flat.split([gradient.numel() for gradient in bucket])
        for gradient, part in zip(bucket, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def _buckets(gradients: Iterable[torch.Tensor]) -> Iterable[list[torch.Tensor]]:
    """Gradients of one dtype together, up to a bucket's size, in their order."""
    bucket: list[torch.Tensor] = []
    for gradient in gradients:
        full = sum(each.numel() for each in bucket) + gradient.numel() > BUCKET_NUMBERS
        if bucket and (full or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
