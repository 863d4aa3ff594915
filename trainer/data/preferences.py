"""Answers to one prompt that are compared: a sample's preference as a prompt and its answers.

Here: taking them out of the record, and why a sample has none.
Elsewhere: their tokens (tokenise.py), two rows a sample (collate.py), the losses (losses/preference.py, losses/kto.py).
"""

from __future__ import annotations

from shardkit import Message, Sample
from trainer.data.media import Unfit

Answer = tuple[bool, str]
"""Whether an answer is a good one, and its text."""


def answers_of(sample: Sample, unpaired: bool) -> tuple[tuple[Message, ...], tuple[Answer, ...]]:
    """The prompt of a sample's preference, and its answers, the good one first.

    The prompt is the conversation up to what is answered: assistant messages at its end are not part of it. An empty
    answer stands for none; such a sample is taken only if `unpaired`. Raises Unfit: `no-preference`, `no-prompt`,
    `unpaired`.
    """
    if sample.preference is None:
        raise Unfit("no-preference")
    asked = max((at + 1 for at, message in enumerate(sample.messages) if message.role != "assistant"), default=0)
    if not asked:
        raise Unfit("no-prompt")
    given = ((True, sample.preference.chosen), (False, sample.preference.rejected))
    answers = tuple((good, text) for good, text in given if text)
    if not answers or (len(answers) < 2 and not unpaired):
        raise Unfit("unpaired")
    return sample.messages[:asked], answers
