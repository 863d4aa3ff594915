r"""Tool calls beside a message's text, as chat APIs write them, put into it as Hermes and Qwen write them.

Here: turns with `tool_calls` and their results as turns of a role and a text.
Elsewhere: messages (dialogue.py), reading calls back out of a text (trainer.data.tools).

    {"role": "assistant", "content": null, "tool_calls": [{"id": "a", "type": "function",
     "function": {"name": "weather", "arguments": "{\"city\": \"Oslo\"}"}}]}
    {"role": "tool", "tool_call_id": "a", "content": "12 degrees"}
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from shardkit.errors import Refused

OF_A_CALL = {"id", "type", "function", "index"}
OF_A_RESULT = ("tool_call_id", "name")


def has_calls(turns: list[Any]) -> bool:
    """Whether any turn has calls beside its text."""
    return any(isinstance(turn, dict) and turn.get("tool_calls") for turn in turns)


def spoken_calls(turns: list[Any]) -> list[Any]:
    """Turns with their calls at the end of their texts; results lose the names of what they answer.

    Raises Refused where a call is none, or a result does not stand at the place of its call: nothing else ties them.
    """
    spoken, waiting = [], list[Any]()
    for at, turn in enumerate(turns):
        if isinstance(turn, dict) and turn.get("role") == "assistant" and turn.get("tool_calls"):
            waiting = [call.get("id") if isinstance(call, dict) else None for call in _calls_of(turn, at)]
            spoken.append(_with_calls(turn, at))
        elif isinstance(turn, dict) and turn.get("role") == "tool":
            wanted, found = waiting.pop(0) if waiting else None, turn.get("tool_call_id")
            if wanted and found and wanted != found:
                raise Refused("schema", f"message {at} is the result of another call than the one at its place")
            spoken.append({name: value for name, value in turn.items() if name not in OF_A_RESULT})
        else:
            spoken.append(turn)
    return spoken


def _calls_of(turn: dict[str, Any], at: int) -> list[Any]:
    calls = turn["tool_calls"]
    if not isinstance(calls, list):
        raise Refused("schema", f"the tool_calls of message {at} are no list")
    return calls


def _with_calls(turn: dict[str, Any], at: int) -> dict[str, Any]:
    text = "\n".join(_rendered(call, at) for call in turn["tool_calls"])
    said = turn.get("content")
    kept = {name: value for name, value in turn.items() if name != "tool_calls"}
    if isinstance(said, list):
        return {**kept, "content": [*said, {"type": "text", "text": f"\n{text}" if said else text}]}
    return {**kept, "content": f"{said}\n{text}" if isinstance(said, str) and said.strip() else text}


def _rendered(call: Any, at: int) -> str:
    inner = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(inner, dict) or (inner is not call and not call.keys() <= OF_A_CALL):
        raise Refused("schema", f"message {at} has a tool call that is no function's")
    name, arguments = inner.get("name"), inner.get("arguments")
    try:
        given = json.loads(arguments, parse_constant=_refuse) if isinstance(arguments, str) else arguments
        if not isinstance(name, str) or not name or not isinstance(given, dict):
            raise Refused("schema", f"message {at} has a tool call without a name, or without an object of arguments")
        body = json.dumps({"name": name, "arguments": given}, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        raise Refused("schema", f"the arguments of a tool call in message {at} are no JSON") from None
    return f"<tool_call>\n{body}\n</tool_call>"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
