"""Rules that samples must pass besides being whole: licences, languages, lengths, kinds of media, secrets, people.

Here: the struct.
Elsewhere: applying them (records.rules), classes of licences (licences.py).
"""

from __future__ import annotations

import re
from typing import Literal

from shardkit.spec.base import Strict

Action = Literal["keep", "redact", "refuse"]


class Rules(Strict, frozen=True, kw_only=True):
    """What a source's samples must be like; a sample that is not becomes a dead letter with the rule's reason.

    `licences` are the classes (free, share-alike, non-commercial, research, unknown) and single licences allowed.
    `languages` are ISO 639-1 codes of which the text must be one (code and short texts pass). `secrets` (keys, tokens,
    passwords in URLs) and `personal` (e-mail addresses, telephone, card and account numbers, public IP addresses) are
    kept, replaced by `[redacted KIND]`, or refused. `types` are the kinds of media allowed. Lengths in characters of
    all messages together; `max_messages` counts messages.
    """

    licences: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    secrets: Action = "keep"
    personal: Action = "keep"
    types: tuple[str, ...] = ()
    min_characters: int = 0
    max_characters: int | None = None
    max_messages: int | None = None

    def __post_init__(self) -> None:
        for code in self.languages:
            if not re.fullmatch(r"[a-z]{2,3}", code):
                raise ValueError(f"rules.languages has {code!r}; wanted codes of ISO 639-1 such as en, de")
        if self.min_characters < 0 or (self.max_characters is not None and self.max_characters < self.min_characters):
            raise ValueError("rules.min_characters must be at least 0 and at most rules.max_characters")
        if self.max_messages is not None and self.max_messages < 1:
            raise ValueError("rules.max_messages must be at least 1")
