"""What `train --dry-run` shows: the plan of a run, or of each of its stages.

Here: the lines.
Elsewhere: the plan itself (trainer.plan).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from trainer.cli.options import print_event, show, warn
from trainer.spec import RunSpec, stage_runs

if TYPE_CHECKING:
    from trainer.plan import DataPlan, PartPlan, Plan


def show_plan(spec: RunSpec, data: Sequence[str], processes: int | None, *, as_json: bool) -> None:
    """Print the plan of a run, or of its stages in their order, for so many processes (none: those of torchrun)."""
    import msgspec

    from trainer.distributed import rank_and_size
    from trainer.plan import plan_runs

    rank, size = rank_and_size()
    plans = plan_runs(stage_runs(spec) or (spec,), data, processes or size)
    if rank:
        return  # rank 0 tells it
    if as_json:
        made: list[dict[str, Any]] = [
            {**msgspec.to_builtins(plan), "memory_bytes": plan.memory.total} for plan in plans
        ]
        print_event({"event": "plan", "name": spec.name, "plans": made})
    else:
        for warning in dict.fromkeys(warning for plan in plans for warning in plan.warnings):
            warn(warning)
        show("\n\n".join("\n".join(_lines(plan)) for plan in plans))


def _lines(plan: Plan) -> list[str]:
    memory = plan.memory
    names = ("weights", "gradients", "optimizer", "activations", "reference", "gathered")
    shown = {name: getattr(memory, name) for name in names}
    media = [
        f"{flops / 1e12:.3g} TFLOP {name}"
        for flops, name in ((plan.flops_per_image, "an image"), (plan.flops_per_window, "a window of sound"))
        if flops
    ]
    return [
        f"{plan.name}: {plan.steps} steps, loss {plan.loss}, on {plan.device} in {plan.dtype}"
        + (f", {plan.processes} processes" if plan.processes > 1 else ""),
        f"parameters: {plan.trained:,} train, {plan.frozen:,} are frozen",
        *(_part(part) for part in plan.parts),
        f"memory a device: {_size(memory.total)} = " + " + ".join(f"{n} {_size(v)}" for n, v in shown.items() if v),
        f"  {memory.formula}",
        f"arithmetic: {plan.flops_per_token / 1e9:.4g} GFLOP a token" + "".join(f", {each}" for each in media),
        f"  {plan.arithmetic}",
        f"batch: {plan.batch_size} in {plan.accumulate} parts, at most {plan.batch_tokens:,} tokens a step, "
        f"{plan.steps * plan.batch_tokens:,} in all",
        *(_data(plan.data, plan.where) if plan.data else ["data: none given; --data URL adds samples and epochs"]),
    ]


def _part(part: PartPlan) -> str:
    state = "trains" if not part.frozen else f"{part.trained:,} train" if part.trained else "frozen"
    return f"  {part.name:<18}{part.trained + part.frozen:>16,}  {state}, {_size(part.weight_bytes)}"


def _data(data: DataPlan, where: str) -> list[str]:
    epochs = f", {data.epochs:.3g} epochs" if data.epochs is not None else ", packs of as many as fit"
    lines = [f"data: {data.samples:,} samples" + (f" where {where}" if where else "") + epochs]
    return [*lines, *(f"  {each.weight:>6.1%}  {each.samples:>10,}  {each.url}" for each in data.sources)]


def _size(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"
