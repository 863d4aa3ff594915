"""The language of a text, as far as it can be told.

Here: identifying it, and when a text is too short or is code.
Elsewhere: which languages a source takes (apply.py).

py3langid (an extra, `pip install "shardkit[language]"`) is imported on first use: 40 us a text, and 1 s to begin.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from shardkit.errors import SpecError

LEAST_LETTERS = 40
MOST_CHARACTERS = 200
"""Enough to tell a language by, and half of a row's whole time: 500 characters take twice as long."""
LEAST_CERTAINTY = 0.9
ENGLISH = frozenset(
    [
        "about",
        "can",
        "could",
        "does",
        "each",
        "from",
        "have",
        "how",
        "if",
        "into",
        "its",
        "many",
        "should",
        "some",
        "that",
        "the",
        "their",
        "them",
        "there",
        "these",
        "they",
        "this",
        "what",
        "when",
        "which",
        "will",
        "with",
        "would",
        "you",
        "your",
        "and",
    ]
)
ENGLISH_SHARE = 0.12
"""A text of ASCII of whose words so many are these, which hardly any other language has, is English: it takes a
twentieth of the model's time, and does for most English. Of 32,711 messages of programs translated into 60 languages 12
have so many, most of which quote English; of the questions of GSM8K 74% have."""

CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`|https?://\S+", re.DOTALL)
"""What says nothing about a text's language: fenced code, code in a line, addresses."""


def identify(text: str) -> str:
    """The ISO 639-1 code of a text's language; empty where it is too short, mostly signs and digits, or uncertain.

    Raises SpecError where py3langid is not installed.
    """
    prose = CODE.sub(" ", text[: 2 * MOST_CHARACTERS])[:MOST_CHARACTERS]
    letters = sum(map(str.isalpha, prose))
    if letters < LEAST_LETTERS or letters < 0.6 * len(prose.replace(" ", "")):
        return ""
    if prose.isascii() and _is_english(prose):
        return "en"
    code, certainty = _identifier().classify(prose)
    return str(code) if certainty >= LEAST_CERTAINTY else ""


def _is_english(prose: str) -> bool:
    words = prose.lower().split()
    return len(words) >= 8 and sum(word in ENGLISH for word in words) >= ENGLISH_SHARE * len(words)


def missing_identifier() -> str:
    """Empty where languages can be identified, else what to install."""
    try:
        import py3langid  # noqa: F401
    except ImportError:
        return "py3langid is not installed; install it with: pip install 'shardkit[language]'"
    return ""


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise SpecError(f"rules.languages is set, and {missing_identifier()}, or leave it out") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
