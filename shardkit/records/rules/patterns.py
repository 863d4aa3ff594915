"""Secrets and personal data in text: found by what they look like, and by their check digits where they have any.

Here: the table of patterns, finding, redacting.
Elsewhere: what is done about findings (apply.py).

Every pattern has a word that a text must hold for it to be tried: most texts hold none, and looking for a word costs a
hundredth of a pattern. A library for the purpose (detect-secrets, presidio) takes milliseconds a text; a build has
microseconds. Patterns are linear: no text, however made, takes long.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple


class Finding(NamedTuple):
    """What was found where: a kind such as `aws-key` or `email`, and the span of characters."""

    kind: str
    start: int
    end: int


class Pattern(NamedTuple):
    """One kind: words of which one must be there, the pattern (its group 1, if any, is the secret), a last check."""

    kind: str
    words: tuple[str, ...]
    pattern: re.Pattern[str]
    holds: Callable[[str], bool] = lambda _: True


def find_secrets(text: str) -> list[Finding]:
    """Keys, tokens and passwords in a text, in order; where two overlap, one finding covers both."""
    return _find(text, SECRETS)


def find_personal(text: str) -> list[Finding]:
    """E-mail addresses, telephone, card and account numbers, public IP addresses; in order, overlaps as one."""
    return _find(text, PERSONAL if _LONG_NUMBER.search(text) else PERSONAL_WORDS)


def redact(text: str, findings: list[Finding]) -> str:
    """The text with `[redacted KIND]` in place of each finding; findings as `find_…` gives them."""
    parts, at = [], 0
    for finding in findings:
        parts += [text[at : finding.start], f"[redacted {finding.kind}]"]
        at = finding.end
    return "".join([*parts, text[at:]])


def without_secrets(text: str) -> str:
    """The text with its keys, tokens and passwords hidden: for details of refusals, which quote what a row says."""
    return redact(text, find_secrets(text))


def _find(text: str, patterns: tuple[Pattern, ...]) -> list[Finding]:
    found = [finding for pattern in patterns for finding in _matches(text, pattern)]
    if len(found) < 2:
        return found
    found.sort(key=lambda finding: (finding.start, -finding.end))
    kept = found[:1]
    for finding in found[1:]:
        if finding.start >= kept[-1].end:
            kept.append(finding)
        elif finding.end > kept[-1].end:  # what stands out of the first would be left to read
            kept[-1] = kept[-1]._replace(end=finding.end)
    return kept


def _matches(text: str, pattern: Pattern) -> Iterator[Finding]:
    if pattern.words and not any(word in text for word in pattern.words):
        return
    for match in pattern.pattern.finditer(text):
        group = 1 if pattern.pattern.groups else 0
        if pattern.holds(match[group]):
            yield Finding(pattern.kind, *match.span(group))


def _mixed(token: str) -> bool:
    """Whether a token looks random: letters of both cases or letters and digits, many different characters."""
    kinds = sum((any(map(str.islower, token)), any(map(str.isupper, token)), any(map(str.isdigit, token))))
    return kinds >= 2 and len(set(token)) >= min(10, len(token) // 2 + 2)


def _not_example(token: str) -> bool:
    """Whether a value is not a placeholder, as documentation has them."""
    plain = token.lower()
    marked = ("example", "xxxx", "your", "change", "placeholder", "dummy", "${", "{{", "<", "****", "....", "redacted")
    return not any(mark in plain for mark in marked) and _mixed(token)


def _luhn(number: str) -> bool:
    """ISO/IEC 7812: the check digit of card numbers, whose lengths are 13 to 19 and whose first digits are known."""
    digits = [int(digit) for digit in number if digit.isdigit()]
    if not 13 <= len(digits) <= 19 or digits[0] not in (2, 3, 4, 5, 6) or len(set(digits)) < 4:
        return False
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(text: str) -> bool:
    """ISO 13616: the number of an account, whose letters and digits leave 1 when divided by 97."""
    plain = text.replace(" ", "")
    return len(plain) <= 34 and int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


def _public_address(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _phone(text: str) -> bool:
    return 8 <= sum(sign.isdigit() for sign in text) <= 15


def _made(kind: str, words: tuple[str, ...], pattern: str, holds: Callable[[str], bool] = lambda _: True) -> Pattern:
    return Pattern(kind, words, re.compile(pattern, re.ASCII), holds)


FORMS: tuple[Callable[[str], str], ...] = (str.lower, str.upper, str.capitalize)

SECRETS: tuple[Pattern, ...] = (
    _made(
        "private-key", ("PRIVATE KEY-----", "PRIVATE KEY BLOCK-----"),
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-(?!----)){16,}"
        r"(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----)?",
    ),
    _made("aws-key", ("AKIA", "ASIA"), r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b", lambda key: "EXAMPLE" not in key),
    _made("github-token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b"),
    _made("github-token", ("github_pat_",), r"\bgithub_pat_[A-Za-z0-9_]{60,255}\b"),
    _made("gitlab-token", ("glpat-",), r"\bglpat-[A-Za-z0-9_-]{20,}"),
    _made("slack-token", ("xoxb-", "xoxp-", "xoxa-", "xoxs-", "xapp-"), r"\b(?:xox[abps]|xapp)-[A-Za-z0-9-]{20,}"),
    _made("google-key", ("AIza",), r"\bAIza[A-Za-z0-9_-]{35}\b"),
    _made("stripe-key", ("k_live_",), r"\b[rs]k_live_[A-Za-z0-9]{20,}"),
    _made("openai-key", ("sk-",), r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}", _mixed),
    _made("hugging-face-token", ("hf_",), r"\bhf_[A-Za-z]{30,}\b", _mixed),
    _made("npm-token", ("npm_",), r"\bnpm_[A-Za-z0-9]{36}\b"),
    _made("pypi-token", ("pypi-AgE",), r"\bpypi-AgE[A-Za-z0-9_-]{50,}"),
    _made("sendgrid-key", ("SG.",), r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b"),
    _made("jwt", ("eyJ",), r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}"),
    _made(
        "password-in-url", ("://",),
        r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'<>]{1,64}:([^\s/@\"'<>]{6,128})@",
        _not_example,
    ),
    _made(
        "assigned-secret", tuple(form(word) for word in ("key", "token", "secret", "passw") for form in FORMS),
        r"(?i:api[_-]?key|secret[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret|passw(?:or)?d)"
        r"[\"']?\s{0,8}[:=]\s{0,8}[\"']([A-Za-z0-9+/=_.-]{16,256})[\"']",
        _not_example,
    ),
)  # fmt: skip
"""Kinds of secrets. What services issue has a form of its own; what is assigned to a telling name looks random."""

PERSONAL_WORDS: tuple[Pattern, ...] = (
    _made(
        "email", ("@",), r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,24}\b",
        lambda address: not re.search(r"@(?:[\w-]+\.)*(?:example\.|test$|localhost|invalid$)|^(git|noreply)@", address),
    ),
)  # fmt: skip
PERSONAL: tuple[Pattern, ...] = (
    *PERSONAL_WORDS,
    _made("iban", (), r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", _iban),
    _made("card-number", (), r"(?<![\w.-])\d{4}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?![\w.-])", _luhn),
    _made("phone", ("+",), r"(?<![\w+])\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){6,12}(?!\w)", _phone),
    _made("ssn", ("-",), r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])"),
    _made("ip-address", (".",), r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])", _public_address),
)
"""Kinds of personal data; those of digits are tried where a text has a long number at all."""

_LONG_NUMBER = re.compile(r"\d[\d .()-]{5,}\d", re.ASCII)
