"""Tool calls: written and read back, refused where they are none, learnt and said by a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit import open_dataset
from tests.trainer.answers import batch_of, conversation, learn, teaching, text_model
from tests.trainer.datasets import build_small
from trainer.data.collate import collate
from trainer.data.media import Senses
from trainer.data.tools import BadToolCall, ToolCall, parse_tool_calls, render_tool_call
from trainer.eval.answers import split_answer
from trainer.losses.sft import SftLoss
from trainer.model.generate import greedy
from trainer.spec import LossSpec

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["<tool_call>", "</tool_call>", '"}', "\\", "\n</tool_call>\n<tool_call>"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
CALLS = st.builds(
    lambda name, arguments: ToolCall(name=name, arguments=arguments),
    TEXTS.filter(bool),
    st.dictionaries(TEXTS, VALUES, max_size=3),
)
AROUND = st.text(st.sampled_from('ab \n<>{}"/'), max_size=8).filter(lambda text: "tool_call>" not in text)


@settings(max_examples=200, deadline=None)
@given(calls=st.lists(CALLS, max_size=3), around=AROUND)
def test_calls_come_back_whatever_their_arguments_say(calls: list[ToolCall], around: str) -> None:
    text = around + around.join(map(render_tool_call, calls)) + around
    assert parse_tool_calls(text) == tuple(calls)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(
    ["<tool_call>", "</tool_call>", '{"name":', '"a"', ',"arguments":', "{}", "}", "{", "NaN", " ", "\n", "x", "[", "]"]
), max_size=12).map("".join))  # fmt: skip
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        found = parse_tool_calls(text)
    except BadToolCall:
        return
    assert len(found) == text.count("<tool_call>") == text.count("</tool_call>")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<tool_call>{"name": "a", "arguments": {}}', "not followed by </tool_call>"),
        ('<tool_call>{"name": "a", "arguments": {}</tool_call>', "is no JSON"),
        ('<tool_call>{"name": "a"}</tool_call>', "not an object of `name` and `arguments` alone"),
        ('<tool_call>{"name": "a", "arguments": {}, "id": 1}</tool_call>', "alone"),
        ('<tool_call>{"name": "", "arguments": {}}</tool_call>', "wants a text as its name"),
        ('<tool_call>{"name": "a", "arguments": "{}"}</tool_call>', "an object as its arguments"),
        ('<tool_call>{"name": "a", "name": "b", "arguments": {}}</tool_call>', "given twice"),
        ('<tool_call>{"name": "a", "arguments": {"x": NaN}}</tool_call>', "NaN is no JSON"),
        ('<tool_call>["a"]</tool_call>', "not an object"),
        ("x</tool_call>", "closes no call"),
        ("<tool_call>" + "[" * 100_000, "is no JSON"),
    ],
)
def test_what_is_no_call_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(BadToolCall, match=message):
        parse_tool_calls(text)


def test_a_call_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(BadToolCall, match="no JSON values"):
        render_tool_call(ToolCall(name="a", arguments={"x": float("nan")}))
    with pytest.raises(BadToolCall, match="empty name"):
        render_tool_call(ToolCall(name="", arguments={}))


def test_a_model_that_learnt_a_call_says_one_that_parses() -> None:
    speech = teaching("answers")
    call = ToolCall(name="weather", arguments={"city": "Oslo", "days": 2})
    sample = conversation(("user", "the sky in Oslo?"), ("assistant", render_tool_call(call)))
    model, batch = text_model(speech), batch_of(speech, [sample])
    found = learn(model, SftLoss(LossSpec()), batch, 60)
    assert found[-1][0] < 0.05 < found[0][0]
    split = split_answer(speech.encode(sample, (), Senses(), 200), Senses(), speech)
    assert split is not None
    prompt = collate([("x", split[0])], Senses(), speech.pad_id)
    [said] = greedy(model, prompt, 100, speech.end_ids)
    assert parse_tool_calls(speech.tokenizer.decode(said)) == (call,)


def test_calls_of_rows_as_chat_apis_write_them_are_read_back(tmp_path: Path) -> None:
    function = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    turns = [
        {"role": "user", "content": "the sky in Oslo?"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "a", "content": "grey"},
        {"role": "assistant", "content": "It is grey."},
    ]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    source = {"kind": "jsonl", "name": "calls", "path": str(tmp_path / "rows.jsonl"), "normalizer": "messages"}
    (item,) = open_dataset(build_small(tmp_path / "data", source))
    found = [parse_tool_calls(message.content) for message in item.sample.messages]
    assert found == [(), (ToolCall(name="weather", arguments={"city": "Oslo"}),), (), ()]
