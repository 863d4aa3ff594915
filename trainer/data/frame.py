"""The chat's frame around messages: what a tokeniser's template puts before, between and after them.

Here: rendering it once for an order of roles, and which of it the assistant says.
Elsewhere: the messages' own tokens (tokenise.py).

Where a template marks with `{% generation %}` what is generated, that counts. Without such blocks, transformers' own
mask would be zero everywhere, without an error: there the assistant says its content and the special token behind it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import date
from typing import Any

import msgspec

from shardkit import SpecError
from trainer.data.media import Unfit

_STAND_IN = re.compile("\ue000(\\d+)\ue001")
_NOW = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")
_DATE = date(2024, 7, 26)
"""Today, for templates that tell it: a run must give the same tokens on any day. It is what Llama's fall back upon."""
_BLOCK = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
Span = tuple[int, int]


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens before, between and after the messages of an order of roles, each with whether the assistant says it.

    `spoken` tells of every message whether the assistant says it.
    """

    pieces: tuple[tuple[tuple[int, ...], tuple[bool, ...]], ...]
    spoken: tuple[bool, ...]


def render_frame(tokenizer: Any, roles: Sequence[str], special_ids: Collection[int]) -> Frame:
    """The frame of the tokeniser's chat template around messages of these roles.

    Raises Unfit where the template cannot take these roles, leaves out or moves messages; SpecError where its
    generation blocks are around nothing that the assistant says.
    """
    turns = [{"role": role, "content": f"\ue000{at}\ue001"} for at, role in enumerate(roles)]
    try:
        template = _dated(str(tokenizer.get_chat_template()))
        text, spans = _render(tokenizer, turns, template)
    except Exception as error:  # templates refuse orders of roles with errors of their own
        raise Unfit(f"template ({error})") from None
    pieces = _STAND_IN.split(text)
    if pieces[1::2] != [str(at) for at in range(len(roles))]:
        raise Unfit("template (it leaves out or moves messages)")
    if _BLOCK.search(template):
        return _marked(tokenizer, text, roles, spans)
    return _unmarked(tokenizer, pieces[::2], roles, special_ids)


def _dated(template: str) -> str:
    """The template with the calls of `strftime_now` replaced by what they give on a fixed date."""
    return _NOW.sub(lambda found: json.dumps(_DATE.strftime(found[2])), template)


def _render(tokenizer: Any, turns: list[dict[str, str]], template: str) -> tuple[str, list[Span]]:
    from transformers.utils.chat_template_utils import render_jinja_template

    marked = bool(_BLOCK.search(template))
    texts, spans = render_jinja_template(
        conversations=[turns],
        chat_template=template,
        return_assistant_tokens_mask=marked,
        **tokenizer.special_tokens_map,
    )
    return str(texts[0]), [(int(start), int(stop)) for start, stop in spans[0]] if marked else []


def _marked(tokenizer: Any, text: str, roles: Sequence[str], spans: Iterable[Span]) -> Frame:
    """The frame by the template's generation blocks; what is not the assistant's is never said."""
    stand_ins = [found.span() for found in _STAND_IN.finditer(text)]
    blocks = [span for span in spans if _holds_assistant(span, stand_ins, roles)]
    spoken = tuple(
        role == "assistant" and any(start <= at < stop for start, stop in blocks)
        for role, (at, _) in zip(roles, stand_ins, strict=True)
    )
    if "assistant" in roles and not any(spoken):
        raise SpecError(
            "the chat template's {% generation %} blocks are around nothing that the assistant alone says: no token "
            "would carry loss. Put {% generation %}…{% endgeneration %} around the assistant's content and its "
            "end-of-turn token, or take the blocks out: without any, the assistant's messages are found by themselves"
        )
    edges = [0, *(edge for span in stand_ins for edge in span), len(text)]
    pieces = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        encoding = tokenizer._tokenizer.encode(text[start:stop], add_special_tokens=False)
        begins = [start + offsets[0] for offsets in encoding.offsets]
        said = tuple(any(first <= at < last for first, last in blocks) for at in begins)
        pieces.append((tuple(encoding.ids), said))
    return Frame(pieces=tuple(pieces), spoken=spoken)


def _holds_assistant(block: Span, stand_ins: Sequence[Span], roles: Sequence[str]) -> bool:
    held = {role for role, (at, _) in zip(roles, stand_ins, strict=True) if block[0] <= at < block[1]}
    return held <= {"assistant"}


def _unmarked(tokenizer: Any, pieces: Sequence[str], roles: Sequence[str], special_ids: Collection[int]) -> Frame:
    """The frame of a template without blocks: the assistant says its messages and the special token that ends them."""
    made = []
    for at, piece in enumerate(pieces):
        tokens = tuple(tokenizer._tokenizer.encode(piece, add_special_tokens=False).ids)
        ends = at > 0 and roles[at - 1] == "assistant" and tokens[:1] and tokens[0] in special_ids
        closing = 1 if ends else 0  # its end-of-turn token, not the next turn's opening
        made.append((tokens, tuple(n < closing for n in range(len(tokens)))))
    return Frame(pieces=tuple(made), spoken=tuple(role == "assistant" for role in roles))
