"""A run with stages as the runs that it stands for, one a stage.

Here: merging a stage into its run, errors that name the field.
Elsewhere: the structs (stages.py, run.py), training them one after another (trainer.stages).
"""

from __future__ import annotations

from typing import Any

import msgspec

from shardkit import SpecError, convert_spec
from trainer.spec.run import RunSpec
from trainer.spec.stages import StageSpec


def stage_runs(spec: RunSpec, name: str = "the run spec") -> tuple[RunSpec, ...]:
    """The run of every stage, without its start; none for a run without stages.

    Raises SpecError with the field's path in the file `name`: `$.stages[1].optimizer`.
    """
    names = [stage.name for stage in spec.stages]
    double = next((found for at, found in enumerate(names) if found in names[:at]), None)
    if double is not None:
        raise SpecError(f"{name}: two stages are named {double!r}; their folders would be confused: name each its own")
    return tuple(_stage_run(spec, at, stage, name) for at, stage in enumerate(spec.stages))


def stage_folder(spec: RunSpec, at: int) -> str:
    """The folder of a stage within its run's: `2-sft`."""
    return f"{at + 1}-{spec.stages[at].name}"


def _stage_run(spec: RunSpec, at: int, stage: StageSpec, name: str) -> RunSpec:
    raw: dict[str, Any] = msgspec.to_builtins(spec)
    changes: dict[str, Any] = msgspec.to_builtins(stage)
    del raw["stages"], raw["profiles"]
    if changes["loss"].get("name", raw["loss"]["name"]) != raw["loss"]["name"]:
        raw["loss"] = {}  # the fields of one loss mean nothing to another
    given = {field: value for field, value in changes.items() if value is not None}
    merged = merge(raw, {**given, "name": f"{spec.name}-{stage.name}"})
    try:
        return convert_spec(merged, RunSpec, name)
    except SpecError as error:
        text = str(error)
        placed = text.replace("`$", f"`$.stages[{at}]", 1)
        raise SpecError(placed if placed != text else f"{text} - at `$.stages[{at}]`") from None


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Both mappings as one, to any depth; where they differ, `above` holds."""
    result = dict(below)
    for field, value in above.items():
        mine = result.get(field)
        result[field] = merge(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value
    return result
