"""A page of an evaluation: figures, and each answered sample with its media, what was expected and what came.

Here: what the page says, writing it.
Elsewhere: how it looks (answers.html.j2), the media on it (gallery.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from trainer.eval.answers import Answer
from trainer.eval.gallery import Shown
from trainer.eval.loss import HeldOut
from trainer.metrics.page import publish, render

TEMPLATE = "answers.html.j2"


class EvalPage(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation at a step of the run `name`; losses of samples `by_key`, what is shown of those answered."""

    name: str
    step: int
    held_out: HeldOut
    by_key: dict[str, float]
    answers: list[Answer]
    shown: dict[str, Shown]


def write_eval_page(path: Path, page: EvalPage) -> Path:
    """Write one self-contained HTML file, wrong answers first."""
    cards = [_card(page, answer) for answer in page.answers]
    order = {False: 0, None: 1, True: 2}
    values = {
        "name": page.name,
        "step": page.step,
        "facts": _facts(page.held_out),
        "tables": _tables(page.held_out),
        "cards": sorted(cards, key=lambda card: (order[card["exact"]], card["kind"], card["key"])),
    }
    return publish(path, render("trainer.eval", TEMPLATE, values))


def _facts(held_out: HeldOut) -> dict[str, str]:
    answers = held_out.answers
    facts = {"held-out loss": f"{held_out.loss:.3f}", "samples": f"{sum(held_out.samples.values()):,}"}
    for name, field in (("answers right", "exact_match"), ("character errors", "character_error_rate"),
                        ("word errors", "word_error_rate")):  # fmt: skip
        if field in answers:
            facts[name] = f"{answers[field]:.1%}"
    return facts | {name.replace("_", " "): f"{value:.3f}" for name, value in held_out.told.items()}


def _tables(held_out: HeldOut) -> list[dict[str, Any]]:
    """Loss by part, and the share of right answers where there are any."""
    tables = [
        ("modality", held_out.by_modality, held_out.answers.get("exact_match_by_modality", {})),
        ("category", held_out.by_category, held_out.answers.get("exact_match_by_category", {})),
        ("source", held_out.by_source, {}),
    ]
    return [
        {
            "title": title,
            "rows": [(name, f"{loss:.3f}", f"{right[name]:.0%}" if name in right else "") for name, loss in by.items()],
        }
        for title, by, right in tables
        if by
    ]


def _card(page: EvalPage, answer: Answer) -> dict[str, Any]:
    shown = page.shown.get(answer.key, Shown())
    turns = shown.turns
    last = max((at for at, (role, _) in enumerate(turns) if role == "assistant"), default=len(turns))
    loss = page.by_key.get(answer.key)
    return {
        **msgspec.structs.asdict(answer),
        "loss": "" if loss is None else f"{loss:.3f}",
        "turns": turns[:last],
        "pictures": shown.pictures,
        "sounds": shown.sounds,
        "missing": shown.missing,
    }
