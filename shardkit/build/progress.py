"""What a build says while it runs: events, and how a person or a program sees them.

Here: the events as frozen structs; bars on a terminal, plain lines elsewhere, JSON lines for programs.
Elsewhere: who emits them (run.py, engine_local.py, finish.py), the same facts afterwards (status.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from shardkit.store.layout import LaneTotals

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_SECONDS = 5.0
MOST_BARS = 16
"""With more lanes than this, bars are shown of those under way only."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Base of all events."""


class LaneView(msgspec.Struct, frozen=True, kw_only=True):
    """A lane as the plan has it; `expected` is how many samples it will give, as far as is known."""

    name: str
    source: str
    quota: int | None
    expected: int | None
    samples: int = 0
    done: bool = False


class Planned(Event, frozen=True, kw_only=True, tag="plan"):
    """The plan that is followed. `decisions`: why fallbacks were taken, or sources left out.

    `origin`: new, resumed, updated; or lent, where lanes come to it that make up for what sources lack.
    """

    dataset: str
    name: str
    plan: str
    origin: str
    lanes: tuple[LaneView, ...]
    decisions: tuple[str, ...] = ()


class LaneProgress(Event, frozen=True, kw_only=True, tag="lane"):
    """How far a lane is, its open shard of `open_bytes` included."""

    lane: str
    source: str
    totals: LaneTotals
    open_bytes: int


class Committed(Event, frozen=True, kw_only=True, tag="commit"):
    """A commit: nothing up to here can be lost. `samples` and `bytes` are the shard's, `totals` the lane's."""

    lane: str
    number: int
    shard: str
    samples: int
    bytes: int
    totals: LaneTotals


class LaneEnded(Event, frozen=True, kw_only=True, tag="lane_done"):
    """A lane is complete."""

    lane: str
    source: str


class LaneStopped(Event, frozen=True, kw_only=True, tag="lane_stopped"):
    """A lane stopped before its end; running again goes on."""

    lane: str
    source: str
    message: str


class Warned(Event, frozen=True, kw_only=True, tag="warning"):
    """Something that the user should know."""

    message: str


class Short(Event, frozen=True, kw_only=True, tag="shortage"):
    """A source gave fewer samples than its quota: it has no more. `missing` is the difference."""

    source: str
    quota: int
    samples: int
    missing: int


class Finishing(Event, frozen=True, kw_only=True, tag="finishing"):
    """All lanes are complete; duplicates are looked for and the version is published."""

    shards: int
    samples: int


class Done(Event, frozen=True, kw_only=True, tag="done"):
    """The dataset is complete. `unchanged`: it was so before, nothing was done."""

    dataset: str
    version: str
    samples: int
    dead_letters: int
    shards: int
    bytes: int
    duplicates: int
    omitted: int
    shortages: dict[str, int] = {}
    missing: int = 0
    unchanged: bool = False


OnEvent = Callable[[Event], None]


@contextmanager
def open_renderer(*, as_json: bool = False, stream: TextIO | None = None) -> Iterator[OnEvent]:
    """A function that shows events: JSON lines on stdout, or for people on stderr (bars where it is a terminal)."""
    if as_json:
        yield JsonLines(stream or sys.stdout).show
        return
    target = stream or sys.stderr
    if not target.isatty():
        yield PlainLines(target).show
        return
    bars = Bars(target)
    try:
        yield bars.show
    finally:
        bars.close()


class JsonLines:
    """One JSON object per event and line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, event: Event) -> None:
        """Write an event at once."""
        self._stream.write(msgspec.json.encode(event).decode() + "\n")
        self._stream.flush()


class PlainLines:
    """Lines for logs: every event but progress, and progress of a lane every few seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: dict[str, float] = {}
        self._expected: dict[str, int | None] = {}

    def show(self, event: Event) -> None:
        """Write what is worth a line."""
        if isinstance(event, LaneProgress) and not self._is_due(event.lane):
            return
        if isinstance(event, Planned):
            self._expected = {lane.name: lane.expected for lane in event.lanes}
        self._stream.writelines(line + "\n" for line in self._lines(event))
        self._stream.flush()

    def _is_due(self, lane: str) -> bool:
        now = time.monotonic()
        if lane not in self._shown:
            self._shown[lane] = now
        if now - self._shown[lane] < LINE_SECONDS:
            return False
        self._shown[lane] = now
        return True

    def _lines(self, event: Event) -> Iterator[str]:
        if isinstance(event, Planned):
            yield from planned_lines(event)
        elif isinstance(event, LaneProgress):
            expected = self._expected.get(event.lane)
            of = f" of {expected:,}" if expected else ""
            yield f"{event.lane}: {event.totals.samples:,}{of} samples"
        elif isinstance(event, Committed):
            yield f"{event.lane}: commit {event.number}, {event.totals.samples:,} samples{told(event.totals)}"
        else:
            yield from other_lines(event)


class Bars:
    """A bar per lane on a terminal, with rate and time left; what is worth keeping scrolls above them."""

    def __init__(self, stream: TextIO) -> None:
        self._progress = _rich_progress(stream)
        self._tasks: dict[str, TaskID] = {}
        self._crowded = False

    def show(self, event: Event) -> None:
        """Move a bar, or print a line above them."""
        if isinstance(event, Planned):
            for line in planned_lines(event):
                self._print(line)
            self._crowded = len(event.lanes) > MOST_BARS
            for lane in event.lanes:
                if lane.name in self._tasks:
                    continue
                shown = not lane.done and not self._crowded
                self._tasks[lane.name] = self._progress.add_task(
                    lane.name, total=lane.expected, completed=lane.samples, visible=shown
                )
            self._progress.start()
        elif isinstance(event, (LaneProgress, Committed)):
            self._move(event.lane, completed=event.totals.samples, visible=True)
        elif isinstance(event, LaneEnded):
            self._finish(event.lane)
        else:
            for line in other_lines(event):
                self._print(line)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._progress.stop()

    def _move(self, lane: str, **fields: Any) -> None:
        if lane in self._tasks:
            self._progress.update(self._tasks[lane], **fields)

    def _finish(self, lane: str) -> None:
        if lane in self._tasks:
            done = self._progress.tasks[self._progress.task_ids.index(self._tasks[lane])].completed
            self._move(lane, total=done or 1, completed=done or 1, visible=not self._crowded)

    def _print(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False)


def planned_lines(event: Planned) -> Iterator[str]:
    """What a plan says in a few lines."""
    done = sum(lane.done for lane in event.lanes)
    state = f", {done} done already" if done else ""
    yield f"{event.dataset}: {event.origin} plan {event.plan[:12]}, {len(event.lanes)} lanes{state}"
    yield from (f"note: {decision}" for decision in event.decisions)


def other_lines(event: Event) -> Iterator[str]:
    """Lines for the events that look the same on a terminal and in a log."""
    if isinstance(event, LaneEnded):
        yield f"{event.lane}: done"
    elif isinstance(event, LaneStopped):
        yield f"{event.lane}: stopped: {event.message}"
    elif isinstance(event, Warned):
        yield f"warning: {event.message}"
    elif isinstance(event, Short):
        yield f"{event.source} is short of its quota: {event.samples:,} samples of {event.quota:,}, it has no more"
    elif isinstance(event, Finishing):
        yield f"finishing: {event.samples:,} samples in {event.shards:,} shards"
    elif isinstance(event, Done):
        state = "is complete already; nothing to do" if event.unchanged else "is complete"
        omitted = f", {event.omitted:,} in them left out" if event.omitted else ""
        size = f"{event.samples:,} samples in {event.shards:,} shards, {event.bytes:,} bytes"
        yield f"{event.dataset} {state}: {size}{omitted}"


def told(totals: LaneTotals) -> str:
    """Duplicates, refusals and rows passed over in words, where there are any."""
    refused = ", ".join(f"{count:,} {reason}" for reason, count in totals.refused.items())
    duplicates = f", {totals.duplicates:,} duplicates" if totals.duplicates else ""
    filtered = f", {totals.filtered:,} passed over" if totals.filtered else ""
    return duplicates + filtered + (f", refused: {refused}" if refused else "")


def _rich_progress(stream: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.0f}/s" if speed else "")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(file=stream))
