"""Power cuts: a recorded log of a build's calls, replayed to states of the disk, each looked at and resumed.

Here: recording, which commits were acknowledged when, drawing states, judging them.
Elsewhere: the disk's model (disk.py), what must hold (holds.py).

Three kinds of log. *plain*: one build from start to end. *killed*: the process is killed at some call while the machine
goes on; the build is resumed, and then the power fails: what the killed process left pending is pending still.
*again*: the resume of a build after a power cut, in which the power fails once more.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from shardkit.spec import BuildSpec
from shardkit.store.fs import Operation
from shardkit.store.layout import POINTER_PATH
from tools.faults.disk import LOSSES, Disk, Loss, State, read_state, write_state
from tools.faults.holds import problems_of_acknowledged, problems_of_crash, problems_of_finished
from tools.faults.runner import Killed, Watch, build_here

DATASET = "dataset"
Drop = Callable[[Operation], bool]


class Recorded(NamedTuple):
    """A log of calls, the folder that the dataset was built in, the version that came out, what there was before."""

    base: Path
    log: list[Operation]
    version: str
    before: State | None = None


class Cut(NamedTuple):
    """A state that was tried: calls done before the cut, what was lost, the files acknowledged by then, what is wrong.

    `acknowledged` are commits and the pointer: path relative to the base -> bytes.
    """

    calls: int
    loss: Loss
    acknowledged: dict[str, bytes]
    problems: list[str]


def record_plain(spec: BuildSpec, base: Path) -> Recorded:
    """One undisturbed build into `base`/dataset."""
    watch = Watch()
    base.mkdir(parents=True)
    return Recorded(base, watch.log, build_here(spec, base / DATASET, watch).version)


def record_killed(spec: BuildSpec, base: Path, kill_at: int) -> Recorded:
    """A build killed at a call, and the build that resumes it, in one log."""
    log: list[Operation] = []
    base.mkdir(parents=True)
    try:
        version = build_here(spec, base / DATASET, Watch(log, kill_at)).version
    except Killed:
        version = build_here(spec, base / DATASET, Watch(log)).version
    return Recorded(base, log, version)


def cut_power(recorded: Recorded, rng: random.Random, folder: Path, drop: Drop | None = None) -> Cut:
    """Draw a state after a random call, put it into `folder`, look at it. Calls that `drop` names never happened."""
    calls = _moment(len(recorded.log), rng)
    loss = rng.choice(LOSSES)
    disk = Disk(recorded.base, recorded.before)
    disk.replay(operation for operation in recorded.log[:calls] if drop is None or not drop(operation))
    write_state(disk.cut(rng, loss), folder)
    safe = acknowledged(recorded, calls)
    problems = problems_of_acknowledged(folder, safe) + problems_of_crash(folder / DATASET)
    return Cut(calls, loss, safe, problems)


def try_states(spec: BuildSpec, recorded: Recorded, rng: random.Random, count: int, scratch: Path) -> Iterator[Cut]:
    """Cut the power `count` times, every third time once more while recovering; resume each time and look again."""
    for number in range(count):
        folder = scratch / f"state-{number}"
        cut = cut_power(recorded, rng, folder)
        if cut.problems:
            yield cut
            continue
        before, watch = read_state(folder), Watch()
        build_here(spec, folder / DATASET, watch)
        yield _judged(cut, folder, recorded.version)
        if number % 3 == 2:
            again = cut_power(Recorded(folder, watch.log, recorded.version, before), rng, scratch / "again")
            build_here(spec, scratch / "again" / DATASET)
            kept = {**cut.acknowledged, **again.acknowledged}
            yield _judged(again._replace(acknowledged=kept), scratch / "again", recorded.version)
            shutil.rmtree(scratch / "again")
        shutil.rmtree(folder)


def _judged(cut: Cut, folder: Path, version: str) -> Cut:
    """The cut with what is wrong after its resume."""
    problems = problems_of_finished(folder / DATASET, version) + problems_of_acknowledged(folder, cut.acknowledged)
    return cut._replace(problems=cut.problems + problems)


def _moment(calls: int, rng: random.Random) -> int:
    """How many calls were done; every fifth time among the last ones, where version and pointer are published."""
    return calls - rng.randrange(min(calls, 12)) if rng.random() < 0.2 else rng.randrange(calls + 1)


def acknowledged(recorded: Recorded, calls: int) -> dict[str, bytes]:
    """Commits and the pointer whose names had been forced to the disk: path relative to the base -> bytes.

    When the build has returned, that is all of them.
    """
    disk = Disk(recorded.base, recorded.before)
    named: set[Path] = set()
    safe: dict[Path, bytes] = {}
    for operation in recorded.log[:calls]:
        disk.replay([operation])
        path = Path(operation.target or operation.path)
        if operation.kind in ("link", "replace") and (path.suffix == ".ckpt" or path.name == POINTER_PATH):
            named.add(path)
        elif operation.kind == "unlink":
            named.discard(path)
            safe.pop(path, None)
        elif operation.kind == "fsync_folder":
            safe |= {at: disk.read(str(at)) or b"" for at in named if at.parent == path}
            named = {at for at in named if at.parent != path}
    if calls == len(recorded.log):
        safe |= {at: disk.read(str(at)) or b"" for at in named}
    return {at.relative_to(recorded.base).as_posix(): data for at, data in safe.items()}
