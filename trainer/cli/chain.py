"""A run of stages on the terminal: what `train` shows of one.

Here: lines of each stage, the closing summary.
Elsewhere: the lines of a run (progress.py), the stages themselves (trainer.stages).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.cli.options import over, print_event, show
from trainer.cli.progress import Lines
from trainer.spec import RunSpec

if TYPE_CHECKING:
    from trainer.stages import ChainOutcome, StageRecord


def run_chain(spec: RunSpec, data: Sequence[str], folder: Path, resume: str, *, as_json: bool) -> None:
    """Train a run's stages and show them."""
    from trainer.eval.heldout import open_measure
    from trainer.stages import train_chain

    with ExitStack() as shown:
        watch = print_event if as_json else _StageLines(shown).show
        outcome = train_chain(spec, data, folder, resume=resume, report=watch, open_measure=open_measure)
    if outcome.rank:
        return  # rank 0 tells it
    if as_json:
        print_event(_done(outcome))
    else:
        show("\n".join(_summary(outcome)))


class _StageLines:
    """The lines of whichever stage is at work."""

    def __init__(self, shown: ExitStack) -> None:
        self._shown = shown
        self._lines: Lines | None = None

    def show(self, event: dict[str, Any]) -> None:
        """Print one event of a chain; a new stage begins new lines."""
        if event["event"] == "stage":
            self._shown.close()
            self._lines = self._shown.enter_context(Lines(event["steps"]))
            show(_announcement(event))
        elif self._lines:
            self._lines.show(event)
        else:  # before any stage: warnings of those that are done
            Lines(1).show(event)


def _announcement(event: dict[str, Any]) -> str:
    parts = f", trains {', '.join(event['trainable'])}" if event["trainable"] else ""
    where = f", reads {event['where']}" if event["where"] else ""
    start = f", from {event['start']}" if event["start"] else ""
    return f"stage {event['number']}/{event['of']} {event['stage']}: {event['loss']}{parts}{where}{start}"


def _summary(outcome: ChainOutcome) -> list[str]:
    lines = [_line(record) for record in outcome.stages]
    if not outcome.outcomes:
        lines.append("all stages were done before; --set stages.NAME.steps=N trains the last one on to N")
    return [*lines, f"each stage's metrics, checkpoints and plot lie in its folder in {outcome.folder}; see chain.json"]


def _line(record: StageRecord) -> str:
    number = over(record.held_out_samples) if record.held_out_samples else ""
    loss = f" (held-out loss {record.held_out_loss:.3f}{number})" if record.held_out_loss is not None else ""
    return f"{record.folder}: {record.steps} steps, best {record.best}{loss}"


def _done(outcome: ChainOutcome) -> dict[str, Any]:
    import msgspec

    return {"event": "done", "folder": outcome.folder, "stages": msgspec.to_builtins(outcome.stages)}
