"""Which checkpoints there are, which of them is whole, best, to be kept.

Here: listing, finding the newest whole one and the best, removing by the rule.
Elsewhere: their files (files.py).
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.checkpoint.files import Damaged, peek_progress, read_progress

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
    """The whole checkpoint of the lowest held-out loss; none where it was measured at none of them."""
    for path in _by_loss(list_checkpoints(folder)):
        try:
            read_progress(path)
            return path
        except Damaged:
            continue
    return None


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
    kept = {*found[max(0, last - keep) : last], *_by_loss(found[:last])[:best]}
    kept |= {path for path in found[:last] if milestone and step_of(path) % milestone == 0}
    gone = [path for path in found if path not in kept]
    for path in [*gone, *folder.glob(".writing-step-*"), *folder.glob(".old-step-*")]:
        shutil.rmtree(path, ignore_errors=True)


def _by_loss(paths: Sequence[Path]) -> list[Path]:
    """Those with a held-out loss, the lowest first, of equal ones the older first."""
    losses = []
    for path in paths:
        try:
            held_out = peek_progress(path).held_out
        except Damaged:
            continue
        if held_out is not None:
            losses.append((held_out, step_of(path), path))
    return [path for *_, path in sorted(losses)]
