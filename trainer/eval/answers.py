"""The model's own answers to held-out samples, beside those expected.

Here: prompts out of encoded samples, generating, what of it is right.
Elsewhere: decoding (model.generate), comparing texts (scores.py), the page to look at (page.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from trainer.data.media import Senses
from trainer.data.tokenise import Encoded, Speech
from trainer.eval.loss import Ready, Rows, batches_of, undisturbed
from trainer.eval.scores import character_error_rate, is_exact, word_error_rate
from trainer.model.generate import greedy
from trainer.model.precision import computing


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was expected of a sample and what the model said; `exact` is none where it had too few tokens to say it."""

    key: str
    kind: str
    category: str
    source: str
    expected: str
    found: str
    exact: bool | None


def answer_rows(ready: Ready, rows: Rows, speech: Speech, new_tokens: int) -> list[Answer]:
    """Greedy answers to the last question of every row, in at most `new_tokens` tokens. Samples without one have none.

    Leaves the model's modes and all randomness alone.
    """
    asked = [(key, row, *split) for key, row in rows if (split := split_answer(row, ready.model.senses, speech))]
    prompts: Rows = [(key, prompt) for key, _, prompt, _ in asked]
    most = _room(ready.model, prompts, new_tokens)
    said: list[list[int]] = []
    with undisturbed(ready):
        for batch in batches_of(ready, prompts):
            with computing(batch.ids.device, ready.dtype):
                said += greedy(ready.model, batch, most, speech.end_ids)
    return [
        _compare((key, row), (expected, found), speech, most)
        for (key, row, _, expected), found in zip(asked, said, strict=True)
    ]


def split_answer(row: Encoded, senses: Senses, speech: Speech) -> tuple[Encoded, tuple[int, ...]] | None:
    """A sample cut before its last answer, and the answer's tokens; none where a cut took its end or its beginning."""
    if row.cut_tokens or not any(row.said):
        return None
    stop = len(row.said) - row.said[::-1].index(True)
    start = next((at + 1 for at in range(stop - 1, -1, -1) if not row.said[at]), 0)
    if not start:
        return None
    ids = row.ids[:start]
    seen = sum(token in (speech.places["image"], speech.places["video"]) for token in ids)
    heard = sum(token == speech.places["audio"] for token in ids)
    windows = heard // senses.audio_latents if heard else 0
    prompt = Encoded(  # made anew: a prompt has nothing of what else a row may hold beside its answer
        ids=ids,
        said=(False,) * start,
        kind=row.kind,
        source=row.source,
        category=row.category,
        images=row.images[: seen // senses.image_latents] if seen else (),
        windows=row.windows[:windows],
        sounding=row.sounding[:windows],
    )
    return prompt, row.ids[start:stop]


def score(answers: Sequence[Answer]) -> dict[str, Any]:
    """How many answers are right, by modality and category too; of sounds also the edits a character and a word."""
    comparable = [answer for answer in answers if answer.exact is not None]
    heard = [(answer.expected, answer.found) for answer in comparable if answer.kind == "audio"]
    figures = {
        "generated": len(answers),
        "compared": len(comparable),
        "exact_match": _share(comparable),
        "compared_by_modality": dict(sorted(Counter(answer.kind for answer in comparable).items())),
        "exact_match_by_modality": _shares(comparable, lambda answer: answer.kind),
        "exact_match_by_category": _shares(comparable, lambda answer: answer.category),
        "character_error_rate": character_error_rate(heard),
        "word_error_rate": word_error_rate(heard),
    }
    return {name: value for name, value in figures.items() if value is not None}


def can_answer(model: Any) -> bool:
    """Whether a model continues text token by token."""
    return hasattr(model, "embed") and hasattr(model, "language")


def _compare(row: tuple[str, Encoded], ids: tuple[Sequence[int], Sequence[int]], speech: Speech, most: int) -> Answer:
    key, encoded = row
    expected, found = (speech.tokenizer.decode(list(each), skip_special_tokens=True) for each in ids)
    return Answer(
        key=key,
        kind=encoded.kind,
        category=encoded.category,
        source=encoded.source,
        expected=expected,
        found=found,
        exact=is_exact(expected, found) if len(ids[0]) <= most else None,
    )


def _room(model: Any, prompts: Rows, new_tokens: int) -> int:
    """As many new tokens as the language model has positions behind the longest prompt, at most those asked for."""
    positions = getattr(model.language.config, "max_position_embeddings", None)
    longest = max((len(prompt.ids) for _, prompt in prompts), default=0)
    return max(0, min(new_tokens, positions - longest)) if positions else new_tokens


def _share(answers: Sequence[Answer]) -> float | None:
    return sum(bool(answer.exact) for answer in answers) / len(answers) if answers else None


def _shares(answers: Iterable[Answer], name: Callable[[Answer], str]) -> dict[str, float]:
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(name(answer), []).append(answer)
    return {group: share for group in sorted(groups) if (share := _share(groups[group])) is not None}
