"""Evaluation while a run trains: held-out losses, answers that are right, a page to look at.

Here: choosing held-out samples, what is measured when, where it is written.
Elsewhere: which samples are held out (data/reading.py, data/apart.py), the measures (loss.py, answers.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from shardkit import Mixture, open_loader
from trainer.data.media import Senses, Unfit
from trainer.data.reading import Reading, encode_item, is_held_out, loader_fields
from trainer.data.sources import Data
from trainer.data.tokenise import Encoded, Speech
from trainer.eval.answers import Answer, answer_rows, can_answer, score
from trainer.eval.gallery import Gallery, Shown
from trainer.eval.loss import HeldOut, Ready, Rows, blank, exchange, measure_rows, not_finite
from trainer.eval.page import EvalPage, write_eval_page
from trainer.run import Run
from trainer.spec import EvalSpec


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """The held-out rows, and what a page shows of those that are answered, by their keys."""

    rows: Rows
    shown: dict[str, Shown]


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation: its figures, every sample's loss, the answers."""

    held_out: HeldOut
    by_key: dict[str, float]
    answers: list[Answer]


def open_measure() -> Callable[[Run, str], None]:
    """What `train` calls before the first step, at every eval.every steps and after the last.

    It reads and encodes the held-out samples once. After the last step it also notes `shuffled_image`,
    `blanked_audio`, …, as the run's eval.shuffle and eval.blank say. Nothing of it changes the training.
    """
    kept: list[Kept] = []
    last: list[tuple[int, Found]] = []

    def measure(run: Run, when: str) -> None:
        spec = run.spec
        if not ((spec.data.held_out or spec.eval.where) and spec.eval.samples):
            return
        if not kept:
            kept.append(keep_held_out(run.dataset, run.reading, run.speech, run.model.senses, spec.eval))
        ready = Ready(model=run.model, loss=run.loss, pad_id=run.speech.pad_id, dtype=spec.dtype)
        if not last or last[0][0] != run.step:
            began = time.perf_counter()
            found = evaluate(ready, kept[0], run.speech, spec.eval.new_tokens)
            if found is None:
                return
            last[:] = [(run.step, found)]
            _record(run, found, kept[0])
            run.metrics.note(evaluation_seconds=time.perf_counter() - began)
        run.note_held_out(when, msgspec.to_builtins(last[0][1].held_out))
        for name, changed in without_media(kept[0], spec.eval) if when == "after" else ():
            other = evaluate(ready, changed, run.speech, spec.eval.new_tokens)
            if other:
                run.note_held_out(name, msgspec.to_builtins(other.held_out))

    return measure


def evaluate(ready: Ready, kept: Kept, speech: Speech, new_tokens: int) -> Found | None:
    """Losses of all rows and answers to those that are shown; none where there is no row."""
    measured = measure_rows(ready, kept.rows)
    if measured is None:
        return None
    held_out, answers = measured.held_out, list[Answer]()
    if kept.shown and can_answer(ready.model):
        answers = answer_rows(ready, [row for row in kept.rows if row[0] in kept.shown], speech, new_tokens)
        held_out = msgspec.structs.replace(held_out, answers=score(answers))
    return Found(held_out=held_out, by_key=measured.by_key, answers=answers)


def without_media(kept: Kept, spec: EvalSpec) -> Iterator[tuple[str, Kept]]:
    """The same rows, one medium of them exchanged (`shuffled_image`) or taken away (`blanked_image`), as asked."""
    for medium in spec.shuffle:
        yield f"shuffled_{medium}", msgspec.structs.replace(kept, rows=exchange(kept.rows, medium))
    for medium in spec.blank:
        yield f"blanked_{medium}", msgspec.structs.replace(kept, rows=blank(kept.rows, medium))


def keep_held_out(dataset: Data, reading: Reading, speech: Speech, senses: Senses, spec: EvalSpec) -> Kept:
    """`spec.samples` held-out rows; `spec.generate` of them to be answered, from every kind in turn."""
    gallery = Gallery(spec.generate)
    if not (reading.data.held_out or spec.where):
        return Kept(rows=[], shown={})
    rows = read_held_out(dataset, set_apart(reading, spec.where), speech, senses, spec.samples, gallery)
    chosen = choose_in_turn([row for row in rows if row[0] in gallery.samples], spec.generate)
    return Kept(rows=rows, shown={key: gallery.samples[key] for key in chosen})


def set_apart(reading: Reading, where: str | None) -> Reading:
    """How held-out samples are read: a share of those that train, or all that a filter of their own takes."""
    if not where:
        return reading
    return msgspec.structs.replace(reading, data=msgspec.structs.replace(reading.data, where=where, held_out=0.0))


def read_held_out(
    dataset: Data, reading: Reading, speech: Speech, senses: Senses, most: int, gallery: Gallery | None = None
) -> Rows:
    """Up to `most` held-out samples of one epoch's order, sorted by key; the unfit (unlabelled, too long) left out.

    Of a mixture in its proportions; a sample that it repeats within the epoch counts once. Every rank reads them all.
    A share (data.held_out) of 0 takes every sample that data.where takes.
    """
    rows: dict[str, Encoded] = {}
    alone = msgspec.structs.replace(reading, rank=0, world_size=1)
    for items in open_loader(dataset, **loader_fields(alone, isinstance(dataset, Mixture))):
        for item in items:
            if (reading.data.held_out and not is_held_out(item.key, reading.data.held_out)) or item.padded:
                continue
            with suppress(Unfit):
                rows[item.key] = encode_item(item, speech, senses, reading.data.max_tokens)
                if gallery and len(rows) <= most:
                    gallery.take(item, rows[item.key].kind)
        if len(rows) >= most:
            break
    return sorted(list(rows.items())[:most])


def choose_in_turn(rows: Rows, most: int) -> list[str]:
    """Keys of at most `most` rows: one of every kind in turn, as long as there are."""
    kinds: dict[str, list[str]] = {}
    for key, row in rows:
        kinds.setdefault(row.kind, []).append(key)
    longest = max(map(len, kinds.values()), default=0)
    turns = [keys[at] for at in range(longest) for _, keys in sorted(kinds.items()) if at < len(keys)]
    return turns[:most]


def _record(run: Run, found: Found, kept: Kept) -> None:
    """Leave an evaluation's figures and page in the run's folder: one process does."""
    if not run.world.is_first:
        return
    odd = not_finite(found.held_out)
    if odd:
        text = f"held-out losses after step {run.step} are not finite: {', '.join(odd)}; see optimizer.rate and failure"
        run.report({"event": "warning", "text": text})
    figures: dict[str, Any] = msgspec.to_builtins(found.held_out)
    run.metrics.write_evaluation({"step": run.step, **figures})
    write_eval_page(page_path(run.out, run.step), page_of(run.spec.name, run.step, found, kept))
    run.metrics.write_page()


def page_path(folder: Path, step: int) -> Path:
    """Where the page of a step's evaluation lies."""
    return folder / "eval" / f"step-{step:08d}.html"


def page_of(name: str, step: int, found: Found, kept: Kept) -> EvalPage:
    """What a page of an evaluation shows."""
    return EvalPage(
        name=name, step=step, held_out=found.held_out, by_key=found.by_key, answers=found.answers, shown=kept.shown
    )
