"""Rules applied to samples that are otherwise whole.

Here: the first rule that a sample breaks, redacting, what must be installed.
Elsewhere: patterns (patterns.py), what stands around the texts (around.py), languages (language.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Protocol

import msgspec

from shardkit.errors import Refused
from shardkit.records.row import Draft
from shardkit.records.rules.around import Around, names_around, redact_around, said_around
from shardkit.records.rules.language import identify, missing_identifier
from shardkit.records.rules.patterns import Finding, find_personal, find_secrets, redact
from shardkit.records.sample import Message, Preference, media_types
from shardkit.spec.licences import classify, is_allowed
from shardkit.spec.rules import Rules


class Ruled(Around, Protocol):
    """What rules look at: a draft or a finished sample."""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation."""
        ...

    @property
    def preference(self) -> Preference | None:
        """Two answers to it."""
        ...


def check_rules(rules: Rules | None) -> str:
    """Empty where the rules can be applied here, else what to install."""
    return missing_identifier() if rules is not None and rules.languages else ""


def rules_toolchain(rules: Rules | None) -> dict[str, str]:
    """Versions of what decides: another version may decide otherwise."""
    return {"py3langid": version("py3langid")} if rules is not None and rules.languages else {}


def apply_rules(draft: Draft, rules: Rules) -> Draft:
    """The draft, redacted where the rules say so. Raises Refused with the rule that it breaks.

    Reasons: `licence`, `language`, `text-length`, `media-type`, `secret`, `personal-data`.
    """
    broken = break_of(draft, _types(draft), rules)
    if broken is not None:
        raise broken
    if rules.secrets == "redact":
        draft = _redacted(draft, find_secrets, names=True)
    if rules.personal == "redact":
        draft = _redacted(draft, find_personal, names=False)
    return draft


def break_of(sample: Ruled, types: Sequence[str], rules: Rules) -> Refused | None:
    """The first rule that a sample with media of these types breaks, and how; none where it keeps all."""
    if rules.licences and not is_allowed(sample.licence, rules.licences):
        return Refused("licence", f"{sample.licence or 'none given'} is {classify(sample.licence)}")
    strange = [name for name in types if rules.types and name not in rules.types]
    if strange:
        return Refused("media-type", strange[0])
    return _break_of_length(sample, rules) or _break_of_text(sample, rules)


def texts_of(sample: Ruled) -> list[str]:
    """All texts of a sample: messages in order, then the two answers."""
    texts = [message.content for message in sample.messages]
    return [*texts, sample.preference.chosen, sample.preference.rejected] if sample.preference else texts


def _break_of_length(sample: Ruled, rules: Rules) -> Refused | None:
    if rules.max_messages is not None and len(sample.messages) > rules.max_messages:
        return Refused("text-length", f"{len(sample.messages)} messages, at most {rules.max_messages}")
    if not rules.min_characters and rules.max_characters is None:
        return None
    characters = sum(map(len, texts_of(sample)))
    if characters < rules.min_characters:
        return Refused("text-length", f"{characters} characters, at least {rules.min_characters}")
    if rules.max_characters is not None and characters > rules.max_characters:
        return Refused("text-length", f"{characters} characters, at most {rules.max_characters}")
    return None


def _break_of_text(sample: Ruled, rules: Rules) -> Refused | None:
    texts = texts_of(sample)
    if rules.languages:
        code = identify("\n".join(texts))
        if code and code not in rules.languages:
            return Refused("language", code)
    for action, find, reason, names in (
        (rules.secrets, find_secrets, "secret", True),
        (rules.personal, find_personal, "personal-data", False),
    ):
        if action == "refuse":
            kinds = {finding.kind for finding in find(_all_of(sample, texts, names=names))}
            if kinds:  # never the secret itself: dead letters are read by many
                return Refused(reason, ", ".join(sorted(kinds)))
    return None


def _types(draft: Draft) -> list[str]:
    """The types of a draft's media, those included that a dataset of ours had stored."""
    types: list[str] = [medium.type for medium in draft.media]
    return types if draft.kept is None else [*types, *media_types(draft.kept.modalities)]


def _all_of(sample: Ruled, texts: list[str], *, names: bool) -> str:
    """All that is looked at, as one text: one look at it is several times faster than one at each."""
    return "\n".join([*texts, *said_around(sample), *(names_around(sample) if names else ())])


def _redacted(draft: Draft, find: Callable[[str], list[Finding]], *, names: bool) -> Draft:
    texts = texts_of(draft)
    if not find(_all_of(draft, texts, names=names)):  # nearly always there is nothing
        return draft
    contents = [redact(text, find(text)) for text in texts]
    messages = tuple(
        msgspec.structs.replace(message, content=content)
        for message, content in zip(draft.messages, contents, strict=False)
    )
    answers = contents[len(messages) :]
    preference = Preference(chosen=answers[0], rejected=answers[1]) if answers else None
    return redact_around(msgspec.structs.replace(draft, messages=messages, preference=preference), find, names=names)
