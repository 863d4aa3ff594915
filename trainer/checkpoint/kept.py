"""Which checkpoints there are, which of them is whole, best, to be kept.

Here: listing, finding the newest whole one and the best, what a user names, removing by the rule.
Elsewhere: their files (files.py), the evaluations whose losses decide (metrics, eval).

One rule says which is best, wherever that is asked: the least held-out loss, of equal ones the one of fewer steps. A
checkpoint's loss is that of its step in the run's eval.jsonl (the last is measured after it is written), else the one
that it holds itself. One that is not finite is no loss.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from shardkit import SpecError
from trainer.checkpoint.files import Damaged, peek_progress, read_progress
from trainer.metrics.lines import read_evaluations

NEWEST, BEST = "newest", "best"
_NAME = re.compile(r"step-(\d{8,})")


def find_checkpoint(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint; each damaged one that is passed over is named to `warn`, with the one used."""
    damaged: list[tuple[Path, str]] = []
    good = None
    for path in reversed(list_checkpoints(folder)):
        try:
            read_progress(path)
            good = path
            break
        except Damaged as found:
            damaged.append((path, str(found)))
    instead = f"the newest whole one is {good}" if good else "there is no whole one"
    for path, problem in damaged:
        warn(f"passing over the checkpoint {path}: {problem}; {instead}")
    return good


def best_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint of the least held-out loss; the newest whole one where it was measured at none of them."""
    found = list_checkpoints(folder)
    measured = by_loss(found)
    return next((path for path in (*measured, *reversed(found)) if is_whole(path)), None)


def choose_checkpoint(folder: Path, wanted: str | Path, warn: Callable[[str], None]) -> Path | None:
    """The whole checkpoint that a user names: `newest`, `best`, or a path; none where the folder holds none.

    Raises SpecError for a path that is no whole one, naming the newest that is. Those passed over are told to `warn`.
    """
    if str(wanted) == NEWEST:
        return find_checkpoint(folder, warn)
    if str(wanted) == BEST:
        return best_checkpoint(folder)
    try:
        read_progress(Path(wanted))
    except Damaged as error:
        good = find_checkpoint(folder, lambda text: None)
        hint = f"the newest whole one is {good}" if good else f"{folder} holds no whole one"
        raise SpecError(f"{wanted} is no whole checkpoint ({error}); {hint}") from None
    return Path(wanted)


def held_out_loss(path: Path) -> float | None:
    """The held-out loss of a checkpoint's weights; none where it was not measured, or is not finite."""
    return _losses([path]).get(path)


def by_loss(paths: Sequence[Path]) -> list[Path]:
    """Those of one folder with a held-out loss, whole or not, the best first."""
    losses = _losses(paths)
    return sorted(losses, key=lambda path: (losses[path], step_of(path)))


def is_whole(path: Path) -> bool:
    """Whether every byte of a checkpoint is there."""
    try:
        read_progress(path)
    except Damaged:
        return False
    return True


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints by step, oldest first, whole or not."""
    return sorted((path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)), key=step_of)


def step_of(path: Path) -> int:
    """The step of a checkpoint, from its name."""
    return int(path.name.removeprefix("step-"))


def prune_checkpoints(folder: Path, keep: int, newest: Path, *, best: int = 0, milestone: int = 0) -> None:
    """Remove all but `newest`, the `keep` - 1 before it, the `best` of lowest held-out loss and each `milestone` steps.

    Removes what interrupted writers left, too. Those of later steps were passed over as damaged: counted, they would
    push out what was just written.
    """
    found = list_checkpoints(folder)
    last = found.index(newest) + 1
    kept = {*found[max(0, last - keep) : last], *by_loss(found[:last])[:best]}
    kept |= {path for path in found[:last] if milestone and step_of(path) % milestone == 0}
    gone = [path for path in found if path not in kept]
    for path in [*gone, *folder.glob(".writing-step-*"), *folder.glob(".old-step-*")]:
        shutil.rmtree(path, ignore_errors=True)


def _losses(paths: Sequence[Path]) -> dict[Path, float]:
    """Held-out losses of checkpoints of one folder, as far as they were measured."""
    lines = read_evaluations(paths[0].parent.parent) if paths else []
    measured = {line["step"]: line.get("loss") for line in lines}
    losses = {}
    for path in paths:
        loss = measured.get(step_of(path))
        losses[path] = _stored_loss(path) if loss is None else loss
    return {path: loss for path, loss in losses.items() if isinstance(loss, float | int) and math.isfinite(loss)}


def _stored_loss(path: Path) -> float | None:
    try:
        return peek_progress(path).held_out
    except Damaged:
        return None
