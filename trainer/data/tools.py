"""Tool calls in the text of an assistant's message, as Hermes and Qwen write them.

Here: reading the calls of a text strictly, writing one.
Elsewhere: messages and their frame (tokenise.py, frame.py); results are messages of the role `tool`.

    <tool_call>
    {"name": "weather", "arguments": {"city": "Oslo"}}
    </tool_call>

Calls stand in the assistant's content and so carry loss; results are another's words and carry none. Around calls there
may be any text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

import msgspec

from shardkit import ShardkitError

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class BadToolCall(ShardkitError):
    """A text that has a tool call which is not one: no JSON object of `name` and `arguments`, or not closed."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call: the tool's name, and its arguments as JSON values by name."""

    name: str
    arguments: dict[str, Any]


def parse_tool_calls(text: str) -> tuple[ToolCall, ...]:
    """The calls in a text, in order; none where it has none.

    Raises BadToolCall where a call is not closed, is no strict JSON object (no repeated names, no NaN), or has other
    fields than a name and an object of arguments.
    """
    return tuple(_calls(text))


def render_tool_call(call: ToolCall) -> str:
    """The call as an assistant's message has it; what `parse_tool_calls` reads back."""
    if not call.name:
        raise BadToolCall("a tool call has an empty name; wanted the tool's")
    try:
        body = json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadToolCall(f"the arguments of {call.name} are no JSON values ({error})") from None
    return f"{OPEN}\n{body}\n{CLOSE}"


def _calls(text: str) -> Iterator[ToolCall]:
    decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
    at = 0
    while (start := text.find(OPEN, at)) >= 0:
        begin = _skip(text, start + len(OPEN))
        try:
            found, stop = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError) as error:
            raise BadToolCall(f"the tool call at character {start} is no JSON ({error})") from None
        at = _skip(text, stop)
        if not text.startswith(CLOSE, at):
            raise BadToolCall(
                f"the tool call at character {start} is not followed by {CLOSE}; found {text[at : at + 12]!r}"
            )
        at += len(CLOSE)
        yield _call(found, start)
    if CLOSE in text[at:]:
        raise BadToolCall(f"{CLOSE} at character {text.index(CLOSE, at)} closes no call")


def _call(found: Any, start: int) -> ToolCall:
    if not isinstance(found, dict) or found.keys() != {"name", "arguments"}:
        raise BadToolCall(f"the tool call at character {start} is not an object of `name` and `arguments` alone")
    name, arguments = found["name"], found["arguments"]
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        raise BadToolCall(f"the tool call at character {start} wants a text as its name, an object as its arguments")
    return ToolCall(name=name, arguments=arguments)


def _skip(text: str, at: int) -> int:
    """The first character behind JSON's white space."""
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name is given twice")
    return dict(pairs)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
