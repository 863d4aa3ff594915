"""What a person sees of a run on the terminal: a line now and then, and a bar under them where there is a terminal.

Here: the lines, the bar.
Elsewhere: the figures (trainer.figures), the commands (train.py).
"""

from __future__ import annotations

import sys
from collections import deque
from types import TracebackType
from typing import Any

from trainer.cli.options import over, show, show_loss


class Lines:
    """Readable progress: about twenty lines a run, whatever its length; use it in a `with` block."""

    def __init__(self, steps: int) -> None:
        self.every = max(1, steps // 20)
        self.steps = steps
        self._recent: deque[dict[str, Any]] = deque(maxlen=20)
        self._shown = 0
        self._bar: Any = None

    def __enter__(self) -> Lines:
        """Nothing is shown before the first event."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Leave the terminal as it was, whatever happened."""
        if self._bar:
            self._bar.stop()

    def show(self, event: dict[str, Any]) -> None:
        """Print one event of the loop, or leave it out."""
        kind = event["event"]
        if kind == "warning":
            self._print(f"trainer: warning: {event['text']}", warning=True)
        elif kind == "start":
            show("\n".join(beginning(event)))
            self._open_bar(event["step"])
        elif kind == "evaluation":
            self._print(evaluation(event))
        elif kind == "step":
            self._step(event)

    def _step(self, event: dict[str, Any]) -> None:
        self._recent.append(event)
        line = step_line(event, list(self._recent), self.steps)
        if event["step"] in (1, self.steps) or event["step"] // self.every > self._shown // self.every:
            self._shown = event["step"]
            self._print(line)
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=event["step"], description=f"loss {event['loss']:.3f}")

    def _print(self, text: str, *, warning: bool = False) -> None:
        style = "yellow" if warning else None
        if self._bar:
            self._bar.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
        elif warning:
            print(text, file=sys.stderr)  # noqa: T201 - warnings are shown here
        else:
            show(text)

    def _open_bar(self, step: int) -> None:
        if not sys.stdout.isatty() or step >= self.steps:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(None), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, transient=True)
        self._bar.add_task("loss", total=self.steps, completed=step)
        self._bar.start()


def step_line(event: dict[str, Any], recent: list[dict[str, Any]], steps: int) -> str:
    """One step for a person; speed, waiting and the time left are those of the recent lines."""
    seconds = sum(each["seconds"] for each in recent)
    done = sum(each.get("joined", 1) for each in recent)
    parts = "  ".join(f"{kind} {loss:.2f}" for kind, loss in event["loss_by_modality"].items())
    words = [
        f"step {event['step']:>5}/{steps}",
        f"loss {event['loss']:.3f}" + (f"  ({parts})" if parts else ""),
        f"{_rate(recent, 'tokens_per_second', seconds):,.0f} tokens/s",
        *([f"MFU {_rate(recent, 'mfu', seconds):.0%}"] if "mfu" in event else []),
        f"waiting {_rate(recent, 'data_wait', seconds):.1%}",
        f"{show_time((steps - event['step']) * seconds / done)} left",
    ]
    return "  ".join(words)


def beginning(event: dict[str, Any]) -> list[str]:
    """What is about to be done, and how its arithmetic is counted."""
    origin = f"resumed from {event['resumed_from']}" if event["resumed_from"] else "from the beginning"
    if event["step"] >= event["steps"]:
        return [f"{origin}: {event['step']} steps are done, {event['steps']} were asked for; --steps N trains on to N"]
    lines = [
        f"{origin}: steps {event['step'] + 1} to {event['steps']} on {event['samples']} samples, "
        f"{event['trainable']:,} of {event['parameters']:,} parameters train, on {event['device']}"
    ]
    if "arithmetic" in event:
        peak = event.get("peak_tflops")
        share = (
            f"MFU = operations / seconds / {peak:g}e12" if peak else "no peak known, so no MFU (metrics.peak_tflops)"
        )
        lines.append(f"{event['arithmetic']}; {share}")
    return lines


def evaluation(event: dict[str, Any]) -> str:
    """An evaluation in the middle of a run."""
    parts = "  ".join(f"{kind} {show_loss(loss, 2)}" for kind, loss in event["by_modality"].items())
    number = over(sum(event["samples"].values()))
    right = event.get("answers", {}).get("exact_match")
    return f"step {event['step']:>5}  held-out loss {show_loss(event['loss'])}{number}  ({parts})" + (
        f"  answers right {right:.0%}" if right is not None else ""
    )


def show_time(seconds: float) -> str:
    """A duration in its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _rate(recent: list[dict[str, Any]], name: str, seconds: float) -> float:
    """The mean of a rate over time."""
    return float(sum(each.get(name, 0.0) * each["seconds"] for each in recent) / seconds)
