"""Where a run goes on from: the newest whole checkpoint, and whether it is of the same run.

Here: choosing the checkpoint, comparing settings.
Elsewhere: opening the run (run.py), the files (checkpoint).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from shardkit import SpecError, convert_spec
from trainer.checkpoint import (
    Damaged,
    find_checkpoint,
    list_checkpoints,
    peek_progress,
    read_progress,
    step_of,
)
from trainer.spec import RunSpec, spec_digest_fields

Report = Callable[[dict[str, Any]], None]


def choose_start(spec: RunSpec, out: Path, resume: str, report: Report) -> Path | None:
    """The checkpoint to go on from, every byte of it checked, its settings the same. Raises SpecError."""
    start = find_start(out, resume, report)
    if start:
        check_same(spec, start, report)
    return start


def find_start(out: Path, resume: str, report: Report) -> Path | None:
    """The checkpoint to go on from, none for a fresh run; raises SpecError where `resume` cannot be done."""
    checkpoints = out / "checkpoints"
    warn = lambda text: report({"event": "warning", "text": text})  # noqa: E731 - one line, used here only
    if resume == "auto":
        return find_checkpoint(checkpoints, warn)
    if resume == "none":
        if any(checkpoints.glob("step-*")):
            raise SpecError(f"{out} holds checkpoints and --resume is none; give another --out, or --resume auto")
        return None
    path = Path(resume)
    try:
        step = read_progress(path).step
    except Damaged as error:
        good = find_checkpoint(path.parent, lambda text: None)
        raise SpecError(
            f"--resume {resume}: no whole checkpoint ({error}); wanted a folder step-NNNNNNNN"
            f"{f'; the newest whole one there is {good}' if good else ''}"
        ) from None
    later = [found for found in list_checkpoints(checkpoints) if step_of(found) > step]
    if later:
        raise SpecError(
            f"--resume {resume}: {out} holds later checkpoints, up to {later[-1].name}, of what would be trained anew; "
            f"give another --out, or remove them"
        )
    return path


def check_same(spec: RunSpec, start: Path, report: Report) -> None:
    """Refuse to resume with other settings; warn where the result would not repeat bit for bit."""
    progress = peek_progress(start)
    wanted = json.loads(json.dumps(spec_digest_fields(spec)))
    differing = sorted(_differences(_with_defaults(progress.spec), wanted))
    if differing:
        name, before, now = differing[0]
        more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise SpecError(
            f"{start} was written with {name} = {before}, the spec now says {now}{more}; "
            f"set it back, or start afresh with another --out"
        )
    for what, then, here in (
        ("threads", progress.threads, spec.threads),
        ("torch", progress.torch, str(torch.__version__)),
    ):
        if then != here:
            text = f"{start} was written with {what} {then}, now {here}: results can differ in the last bits"
            report({"event": "warning", "text": text})


def _with_defaults(stored: dict[str, Any]) -> dict[str, Any]:
    """Settings as an older version wrote them, with what fields it did not know yet say by default."""
    try:
        return json.loads(json.dumps(spec_digest_fields(convert_spec(stored, RunSpec, ""))))
    except SpecError:  # fields that are no more: they are named as differing
        return stored


def _differences(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, str, str]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {*before, *now}:
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    elif before != now:
        yield name, str(before), str(now)
