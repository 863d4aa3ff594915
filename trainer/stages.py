"""A chain of stages: each is a run of its own in a folder of its own, from the best weights of the one before.

Here: which stage is to be trained from where, going on after an interruption, chain.json.
Elsewhere: one run (loop.py), a stage's settings (spec/chain.py), which checkpoint is best (checkpoint).

A chain has no state besides its stages' checkpoints: chain.json names where each began and ended, and that a finished
stage was measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from shardkit import SpecError
from trainer.checkpoint import best_checkpoint, held_out_loss, is_whole, list_checkpoints, step_of
from trainer.distributed import World, open_world
from trainer.folder import CHAIN, check_kind
from trainer.loop import Measure, Outcome, Report, train
from trainer.metrics import read_evaluations
from trainer.records import write_json
from trainer.resume import check_same
from trainer.spec import RunSpec, stage_folder, stage_runs


class StageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One stage as chain.json has it; paths are relative to the chain's folder, or as the spec's `start` has them.

    `start` is the checkpoint whose weights it began with (empty: random or pretrained ones), `end` its last one, `best`
    what the next stage begins with, `held_out_loss` that of `best`,
    over `held_out_samples` (0: not known). `trainable` is empty where the model's parts say
    it. `status` is `waiting`, `training` or `done`.
    """

    name: str
    folder: str
    steps: int
    loss: str
    where: str = ""
    trainable: tuple[str, ...] = ()
    status: str = "waiting"
    start: str = ""
    end: str = ""
    best: str = ""
    held_out_loss: float | None = None
    held_out_samples: int = 0


class ChainOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A finished chain: its folder, its stages, outcomes of those that this call trained or looked at; whose rank."""

    folder: str
    stages: tuple[StageRecord, ...]
    outcomes: dict[str, Outcome]
    rank: int = 0


def train_chain(
    spec: RunSpec,
    data: str | Sequence[str],
    out: Path,
    *,
    resume: str = "auto",
    report: Report,
    open_measure: Callable[[], Measure] | None = None,
) -> ChainOutcome:
    """Train the stages of a spec one after another, each in `out`/N-NAME; what is done is not done again.

    Arguments are those of `train`; `open_measure` gives a measure for each stage, whose data and loss may differ.
    `report` gets `stage` before the events of each stage, and every event names its `stage`.
    Under torchrun every process calls this; rank 0 alone reports and writes.
    Raises SpecError where a stage would have to change that another has begun from, and what `train` raises.
    """
    check_kind(out, chain=True)
    runs = stage_runs(spec)
    outcomes = {}
    start = spec.start
    with open_world(spec.failure.timeout_seconds) as world:
        records = _begin(spec, runs, out)
        at = _check_resume(records, out, resume)
        for number, run in enumerate(runs):
            record = records[number]
            start = _start(record, out / record.folder, start, number)
            done = _is_done(records, number, run, out, report)
            world.gather(done)  # all have looked before the first one writes
            if not done:
                _write(out, records, number, world, status="training", start=_relative(start, out))
                if world.is_first:
                    report({"event": "stage", "stage": record.name, **_announced(records[number], number, len(runs))})
                outcomes[record.name] = train(
                    msgspec.structs.replace(run, start=start),
                    data,
                    out / record.folder,
                    resume=resume if number == at else "auto",
                    report=_named(report, record.name),
                    measure=open_measure() if open_measure else None,
                )
                world.gather(None)  # the last checkpoint is on the disk before anybody looks for it
            start = _finish(out, records, number, world)
    return ChainOutcome(folder=str(out), stages=tuple(records), outcomes=outcomes, rank=world.rank)


def read_chain(out: Path) -> tuple[StageRecord, ...]:
    """The stages in a folder's chain.json; none where it holds no chain."""
    try:
        return msgspec.convert(json.loads((out / CHAIN).read_bytes())["stages"], tuple[StageRecord, ...])
    except (OSError, ValueError, KeyError, TypeError, msgspec.ValidationError):
        return ()


def _begin(spec: RunSpec, runs: Sequence[RunSpec], out: Path) -> list[StageRecord]:
    """The records of all stages, with what an earlier call left of them."""
    before = {record.folder: record for record in read_chain(out)}
    records = []
    for at, (stage, run) in enumerate(zip(spec.stages, runs, strict=True)):
        record = StageRecord(
            name=stage.name,
            folder=stage_folder(spec, at),
            steps=run.steps,
            loss=run.loss.name,
            where=run.data.where or "",
            trainable=run.trainable or (),
        )
        known = before.pop(record.folder, None)
        if known:
            kept = {
                name: getattr(known, name) for name in ("start", "end", "best", "held_out_loss", "held_out_samples")
            }
            status = "done" if known.status == "done" and known.steps >= run.steps else "waiting"
            record = msgspec.structs.replace(record, status=status, **kept)
        records.append(record)
    if before:
        raise SpecError(
            f"{out} holds the stage {next(iter(before))}, which the spec has not (or elsewhere in the order); "
            f"set it back, or give another --out"
        )
    return records


def _check_resume(records: Sequence[StageRecord], out: Path, resume: str) -> int | None:
    """The stage whose checkpoint `resume` names, none for `auto` and `none`; raises SpecError where it cannot be."""
    began = [number for number, record in enumerate(records) if list_checkpoints(out / record.folder / "checkpoints")]
    if resume == "none" and began:
        raise SpecError(f"{out} holds checkpoints and --resume is none; give another --out, or --resume auto")
    if resume in ("auto", "none"):
        return None
    folder = Path(resume).resolve().parent.parent
    at = next((number for number, record in enumerate(records) if (out / record.folder).resolve() == folder), None)
    if at is None:
        names = ", ".join(record.folder for record in records)
        raise SpecError(f"--resume {resume}: no checkpoint of a stage in {out}; its stages are {names}")
    later = next((records[number] for number in began if number > at), None)
    if later:
        raise SpecError(
            f"--resume {resume}: {later.folder} has begun from what would be trained anew; "
            f"give another --out, or remove it"
        )
    return at


def _start(record: StageRecord, folder: Path, best: str, number: int) -> str:
    """Where a stage begins: with the best of the one before; one that has begun keeps what it began with."""
    begun = number > 0 and any(is_whole(path) for path in list_checkpoints(folder / "checkpoints"))
    return str(folder.parent / record.start) if begun and record.start else best


def _is_done(records: Sequence[StageRecord], number: int, run: RunSpec, out: Path, report: Report) -> bool:
    """Whether nothing is left to do in a stage; raises SpecError where more of it would undo a later one."""
    record = records[number]
    here = [path for path in list_checkpoints(out / record.folder / "checkpoints") if is_whole(path)]
    if here:
        check_same(run, here[-1], report)
    later = [other for other in records[number + 1 :] if list_checkpoints(out / other.folder / "checkpoints")]
    if record.status == "done" and (here or later):
        return True
    if later and not (here and step_of(here[-1]) >= run.steps):
        found = f"stands at step {step_of(here[-1])} of {run.steps}" if here else "has no whole checkpoint"
        raise SpecError(
            f"{out / record.folder} {found} and {later[0].folder} has begun from it; "
            f"set its steps back, or give another --out"
        )
    return False


def _finish(out: Path, records: list[StageRecord], number: int, world: World) -> str:
    """Note where a stage ended; gives the checkpoint that the next begins with."""
    folder = out / records[number].folder
    best = best_checkpoint(folder / "checkpoints")
    if best is None:  # its checkpoints were removed when others had begun from them
        return str(out / records[number].best)
    last = [path for path in list_checkpoints(folder / "checkpoints") if is_whole(path)][-1]
    _write(
        out,
        records,
        number,
        world,
        status="done",
        end=_relative(str(last), out),
        best=_relative(str(best), out),
        held_out_loss=held_out_loss(best),
        held_out_samples=_samples(folder, step_of(best)),
    )
    return str(best)


def _samples(folder: Path, step: int) -> int:
    """Over how many samples the loss after a step was measured."""
    counts = next((line.get("samples") for line in read_evaluations(folder) if line["step"] == step), None)
    return sum(counts.values()) if counts else 0


def _write(out: Path, records: list[StageRecord], number: int, world: World, **changes: Any) -> None:
    """Change one record and, on rank 0, write chain.json; a file that is there is whole."""
    record = msgspec.structs.replace(records[number], **changes)
    if record == records[number]:
        return
    records[number] = record
    if not world.is_first:
        return
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / CHAIN, {"stages": msgspec.to_builtins(records)})


def _announced(record: StageRecord, number: int, count: int) -> dict[str, Any]:
    return {
        "number": number + 1,
        "of": count,
        "steps": record.steps,
        "start": record.start,
        "loss": record.loss,
        "where": record.where,
        "trainable": list(record.trainable),
        "folder": record.folder,
    }


def _named(report: Report, stage: str) -> Report:
    return lambda event: report({**event, "stage": stage})


def _relative(path: str, out: Path) -> str:
    inside = path and Path(path).is_relative_to(out)
    return str(Path(path).relative_to(out)) if inside else path
