"""One line of JSON as a dict, strictly and the same on every machine.

Here: what is refused: duplicate keys, NaN and infinities, deep nesting, numbers without bound, bad UTF-8.
Elsewhere: finding the lines (jsonl.py).
"""

from __future__ import annotations

import json
import math
from typing import Any

from shardkit.errors import Refused

MAX_DEPTH = 64
"""Far under any recursion limit: where the interpreter would give up must not decide what is refused."""
MAX_DIGITS = 400


def parse_object(line: bytes) -> dict[str, Any]:
    """The one JSON object in a line; raises Refused (`not-json`, `not-utf8`, `not-finite`)."""
    try:
        value = _decode(line.decode())
    except UnicodeDecodeError:
        raise Refused("not-utf8", "the line is not UTF-8") from None
    except RecursionError:
        raise _too_deep() from None
    except json.JSONDecodeError:
        raise Refused("not-json", f"a line of {len(line)} bytes") from None
    if not isinstance(value, dict):
        raise Refused("not-json", "JSON, but not an object")
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH:
        _check_depth(value)
    return value


def _decode(text: str) -> Any:
    """What the decoder makes of a text; without looking for space around it where the object is the whole text.

    A quicker decoder (msgspec) gains nothing: showing that no key stands twice takes the time that it saves.
    """
    try:
        value, end = _scan(text, 0)
    except StopIteration:  # no value begins here
        return _decoder.decode(text)
    return value if end == len(text) or not text[end:].strip(" \t\r\n") else _decoder.decode(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise Refused("not-json", "an object with the same key twice")
    return value


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Refused("not-finite", "a number too large for a double")
    return value


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise Refused("not-finite", f"a number of more than {MAX_DIGITS} digits")
    return int(text)


def _constant(text: str) -> float:
    raise Refused("not-finite", "NaN or an infinity")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [entry for parent in level for entry in (parent.values() if isinstance(parent, dict) else parent)]
        level = [entry for entry in inner if isinstance(entry, (dict, list))]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> Refused:
    return Refused("not-json", f"nested deeper than {MAX_DEPTH}")


_decoder: Any = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_float, parse_int=_int, parse_constant=_constant
)
_scan = _decoder.scan_once
