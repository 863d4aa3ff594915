"""The text of a deployment: its model card and how it is served.

Here: rendering both.
Elsewhere: what they say (facts.py), how the card looks (card.md.j2).
"""

from __future__ import annotations

from typing import Any

import msgspec

from trainer.data.tokenise import Speech
from trainer.export.facts import CardFacts
from trainer.export.parts import ExportRecord
from trainer.model.omni import Omni
from trainer.records import is_number, strict_json


def make_card(facts: CardFacts) -> str:
    """The model card as Markdown; the same facts give the same text."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("trainer", "export"),
        autoescape=False,  # Markdown, in which cells are escaped by `cell`
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = cell
    environment.filters["number"] = lambda value: f"{value:,}"
    return environment.get_template("card.md.j2").render(card=msgspec.to_builtins(facts), rows=_rows(facts))


def cell(value: Any) -> str:
    """A value as text that stays within its cell of a Markdown table, whatever it holds."""
    text = " ".join(str(value).split())
    for mark in "\\`|<>[]*_":
        text = text.replace(mark, "\\" + mark if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return text


def serving(model: Omni, speech: Speech, record: ExportRecord) -> str:
    """What a server must know of the language model, as JSON; media go through `trainer generate` alone."""
    language = model.language
    fields = {
        "format": "Hugging Face causal language model, safetensors",
        "architectures": language.config.architectures,
        "dtype": str(next(language.parameters()).dtype).removeprefix("torch."),
        "max_position_embeddings": getattr(language.config, "max_position_embeddings", None),
        "vocabulary": speech.vocabulary,
        "chat_template": "in the tokeniser's files",
        "stop_token_ids": sorted(speech.end_ids),
        "pad_token_id": speech.pad_id,
        "text": "any server of causal language models in this format",
        "media": {"parts": "omni/", "run_by": "trainer generate", "run": record.name, "step": record.step},
    }
    return strict_json(fields, indent=1, sort_keys=True) + "\n"


def _rows(facts: CardFacts) -> list[tuple[str, str, str, str]]:
    """Held-out figures: which, loss, losses by modality, answers right."""
    rows = []
    for name, figures in sorted(facts.held_out.items()):
        kinds = ", ".join(f"{kind} {_loss(loss)}" for kind, loss in sorted(figures.get("by_modality", {}).items()))
        right = (figures.get("answers") or {}).get("exact_match")
        rows.append((name, _loss(figures["loss"]), kinds, "" if right is None else f"{right:.1%}"))
    return rows


def _loss(value: Any) -> str:
    return f"{value:.3f}" if is_number(value) else "not finite"
