"""The command that measures a trained run: `eval`.

Here: its options, its closing lines.
Elsewhere: what it does (trainer.eval).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from shardkit import ShardkitError
from trainer.cli.options import CheckpointOption, DataOption, JsonOption, over, print_event, show, show_loss, warn


def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run.")],
    data: DataOption = None,
    samples: Annotated[int, typer.Option(min=1, help="At most so many held-out samples.")] = 256,
    generate: Annotated[int, typer.Option(min=0, help="Answer so many of them and write a page; 0: none.")] = 64,
    new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of an answer. Default: eval.new_tokens of the run's spec.")
    ] = None,
    checkpoint: CheckpointOption = "newest",
    as_json: JsonOption = False,
) -> None:
    """Held-out loss of a run's checkpoint, answers that are right, and both with each medium exchanged.

    Example: trainer eval runs/demo --data data/demo-sample-20 --generate 200
    """
    from trainer.eval.command import EvalJob, evaluate_run

    fields: dict[str, Any] = {"folder": folder, "data": data or (), "samples": samples, "checkpoint": checkpoint}
    found = evaluate_run(EvalJob(**fields, generate=generate, new_tokens=new_tokens), warn)
    if as_json:
        print_event({"event": "done", **found})
    else:
        show("\n".join(summary(str(folder), "", found)))
    if "broken" in found:
        raise NotFinite(found["broken"])


class NotFinite(ShardkitError):
    """What was measured is no number: the weights are of no use."""


CHANGED = {"shuffled": "with the {} of another sample", "blanked": "with blank {}"}


def summary(folder: str, plot: str, held_out: dict[str, Any]) -> list[str]:
    """The closing lines: held-out losses, right answers, what exchanged media cost, where everything lies."""
    lines = []
    before, after = held_out.get("before"), held_out.get("after")
    if after:
        start = f"{show_loss(before['loss'])} -> " if before else ""
        lines.append(f"held-out loss {start}{show_loss(after['loss'])}{over(sum(after['samples'].values()))}")
    lines += _answers(after) if after else []
    for name, found in held_out.items():
        how, _, medium = name.partition("_")
        if how in CHANGED and found and after and medium in after["by_modality"] and medium in found["by_modality"]:
            own, other = (_of_medium(each, medium) for each in (after, found))
            lines.append(f"held-out {medium} loss {own}; {CHANGED[how].format(medium)} {other}")
    lines += [f"answers to look at {held_out['page']}"] if held_out.get("page") else []
    lines += [f"plot {plot}"] if plot else []
    return [*lines, f"metrics, checkpoints and held-out losses in {folder}"]


def _answers(found: dict[str, Any]) -> list[str]:
    """How many generated answers are right, and the errors of transcripts."""
    answers = found.get("answers") or {}
    if "exact_match" not in answers:
        return []
    parts = [f"{kind} {share:.0%}" for kind, share in answers["exact_match_by_modality"].items()]
    line = f"answers right {answers['exact_match']:.0%} of {answers['compared']} ({', '.join(parts)})"
    if "word_error_rate" in answers:
        words, characters = answers["word_error_rate"], answers["character_error_rate"]
        line += f"; errors in what was heard: {characters:.1%} of characters, {words:.1%} of words"
    return [line]


def _of_medium(found: dict[str, Any], medium: str) -> str:
    number = over(found["samples"].get(medium, 0))
    return f"{show_loss(found['by_modality'][medium])}{number}{_right(found, medium)}"


def _right(found: dict[str, Any], medium: str) -> str:
    share = (found.get("answers") or {}).get("exact_match_by_modality", {}).get(medium)
    of = (found.get("answers") or {}).get("compared_by_modality", {}).get(medium)
    return "" if share is None else f", {share:.0%}{f' of {of}' if of else ''} right"
