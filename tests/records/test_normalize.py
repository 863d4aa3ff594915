"""Normalisers: what each row becomes, and that whatever cannot become a draft is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import REASONS, Refused, SpecError
from shardkit.records.marks import count_marks, unescape_marks
from shardkit.records.normalize import NORMALIZERS, check_normalizer, columns_read, normalize, possible_modalities
from shardkit.records.row import Draft, Row
from shardkit.records.sample import Sample, encode_sample
from shardkit.spec import FilesSource, Gather, JsonlSource, Limits


def spec(normalizer: str, **fields: Any) -> FilesSource:
    return FilesSource(name="here", path=".", normalizer=normalizer, **fields)


def draft(normalizer: str, fields: dict[str, Any], blobs: dict[str, bytes] | None = None, **options: Any) -> Draft:
    row = Row(position="a/b:1", fields=fields, blobs=blobs or {})
    return normalize(row, spec(normalizer, **options), "revision")


def turns(made: Draft) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in made.messages]


def refusal(normalizer: str, fields: dict[str, Any], blobs: dict[str, bytes] | None = None, **options: Any) -> str:
    with pytest.raises(Refused) as caught:
        draft(normalizer, fields, blobs, **options)
    return caught.value.reason


QA = {"question": "why?", "answer": "so"}
PAIR = {"input": [[1, 2], [0, 9]], "output": [[7]]}
MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]


CODE_REQUEST = "<|image|>\nWrite the HTML and CSS of this page."
BECOMES: list[tuple[str, dict[str, Any], dict[str, bytes], list[str]]] = [
    ("messages", {"messages": MESSAGES}, {}, ["hi", "ho"]),
    ("question_answer", QA, {}, ["why?", "so"]),
    ("question_answer", QA, {"image": b"i", "audio": b"a"}, ["<|image|><|audio|>\nwhy?", "so"]),
    ("prompt_completion", {"prompt": "def f():\n", "completion": "    pass\n"}, {}, ["def f():\n", "    pass\n"]),
    ("plain_text", {"text": " a\n"}, {}, [" a\n"]),
    ("repository_file", {"text": "x = 1", "path": "src/x.py"}, {}, ["x = 1"]),
    ("transcript", {"text": "hello"}, {"audio": b"a"}, ["<|audio|>", "hello"]),
    ("screenshot_to_code", {"code": "<p>"}, {"image": b"i"}, [CODE_REQUEST, "<p>"]),
    ("caption", {"text": "a cat"}, {"image": b"i"}, ["<|image|>\nDescribe this image.", "a cat"]),
    ("caption", {"text": "a film"}, {"video": b"v"}, ["<|video|>\nDescribe this video.", "a film"]),
    ("unlabelled", {"text": "ignored"}, {"image": b"i"}, []),
]


@pytest.mark.parametrize(("normalizer", "fields", "blobs", "wanted"), BECOMES)
def test_row_becomes_messages(
    normalizer: str, fields: dict[str, Any], blobs: dict[str, bytes], wanted: list[str]
) -> None:
    made = draft(normalizer, fields, blobs)
    assert [content for _, content in turns(made)] == wanted
    assert [role for role, _ in turns(made)] == ["user", "assistant"][-len(wanted) or 2 :]
    assert sorted(medium.data for medium in made.media) == sorted(blobs.values())


TWO = {"chosen": "because", "rejected": "dunno"}
SYSTEM_TURN = {"role": "system", "content": "s"}
OTHER = [{"role": "assistant", "content": "no"}]
REPEATED = [{"role": "user", "content": "why?"}, {"role": "assistant", "content": "because"}]


@pytest.mark.parametrize(
    ("fields", "prompt", "answers"),
    [
        ({"prompt": "why?", **TWO}, ["why?"], ("because", "dunno")),
        ({"prompt": [SYSTEM_TURN, MESSAGES[0]], **TWO}, ["s", "hi"], ("because", "dunno")),
        ({"prompt": "why?", "chosen": REPEATED, "rejected": OTHER}, ["why?"], ("because", "no")),
        ({"chosen": REPEATED, "rejected": [REPEATED[0], *OTHER]}, ["why?"], ("because", "no")),
        ({"prompt": "why?", "completion": "so", "label": True}, ["why?"], ("so", "")),
        ({"prompt": "why?", "completion": "so", "label": False}, ["why?"], ("", "so")),
    ],
)
def test_row_becomes_a_preference(fields: dict[str, Any], prompt: list[str], answers: tuple[str, str]) -> None:
    made = draft("preference", fields)
    assert [content for _, content in turns(made)] == prompt
    assert made.preference is not None
    assert (made.preference.chosen, made.preference.rejected) == answers


def test_marks_in_compared_answers_are_escaped() -> None:
    made = draft("preference", {"prompt": "a", "chosen": "<|image|>", "rejected": "b"})
    assert made.preference is not None
    assert unescape_marks(made.preference.chosen) == "<|image|>"
    assert not any(count_marks(made.preference.chosen).values())


def test_every_normalizer_of_the_issue_is_in_the_table() -> None:
    assert set(NORMALIZERS) >= {
        "messages", "question_answer", "prompt_completion", "plain_text", "repository_file", "transcript",
        "screenshot_to_code", "caption", "unlabelled",
    }  # fmt: skip


def test_draft_says_where_it_came_from() -> None:
    made = draft(
        "repository_file", {"text": "x", "path": "src/x.py", "licence_file": "LICENSE"}, licence="mit", domain="d"
    )
    assert made.id == "here/a/b:1"
    assert (made.source, made.domain, made.category, made.licence) == ("here", "d", "repository_file", "mit")
    assert made.provenance == {
        "revision": "revision", "position": "a/b:1", "path": "src/x.py", "licence_file": "LICENSE",
    }  # fmt: skip


def test_columns_are_mapped() -> None:
    fields = {"q": "why?", "a": "so", "n": 7, "kind": "sums"}
    made = draft("question_answer", fields, columns={"question": "q", "answer": "a", "id": "n", "category": "kind"})
    assert turns(made) == [("user", "why?"), ("assistant", "so")]
    assert (made.id, made.category) == ("7", "sums")


@pytest.mark.parametrize(("value", "group"), [("s7", "s7"), (7, "7"), ("", None), (None, None)])
def test_a_row_says_what_it_is_part_of(value: Any, group: str | None) -> None:
    made = draft("question_answer", {**QA, "speaker": value}, columns={"group": "speaker"})
    assert made.provenance.get("group") == group
    assert "group" not in draft("question_answer", {**QA, "group": "unasked"}).provenance


def test_what_a_row_is_part_of_must_be_text_or_a_number() -> None:
    assert refusal("question_answer", {**QA, "speaker": [1]}, columns={"group": "speaker"}) == "missing-field"


def test_grid_task_asks_for_every_test() -> None:
    fields = {"train": [PAIR], "test": [{"input": [[3]], "output": [[4]]}, {"input": [[5]], "output": [[6, 0]]}]}
    made = draft("grid_task", fields, options={"instruction": "Go on."})
    assert turns(made) == [
        ("user", "Go on.\n\nInput 1:\n1 2\n0 9\n\nOutput 1:\n7\n\nInput:\n3"), ("assistant", "4"),
        ("user", "Input:\n5"), ("assistant", "6 0"),
    ]  # fmt: skip


def test_several_images_come_in_order() -> None:
    made = draft("question_answer", QA, {"pages.1": b"2", "pages.0": b"1"}, columns={"image": "pages"})
    assert [medium.data for medium in made.media] == [b"1", b"2"]
    assert made.messages[0].content.startswith("<|image|><|image|>\n")


def test_media_have_the_type_and_language_of_the_spec() -> None:
    [medium] = draft("unlabelled", {}, {"audio": b"a"}, media_type="meeting", language="fr").media
    assert (medium.type, medium.language) == ("meeting", "fr")
    [medium] = draft("unlabelled", {}, {"image": b"i"}, media_type="meeting").media
    assert (medium.type, medium.language) == ("screenshot", "")


@pytest.mark.parametrize("normalizer", ["question_answer", "messages"])
def test_marks_in_source_text_are_escaped(normalizer: str) -> None:
    text = "show <|image|> and <|\\audio|>"
    fields = {
        "question": text,
        "answer": text,
        "messages": [dict(MESSAGES[0], content=text), dict(MESSAGES[1], content=text)],
    }
    made = draft(normalizer, fields)
    for message in made.messages:
        assert not any(count_marks(message.content).values())
        assert unescape_marks(message.content) == text


def test_texts_side_by_side_do_not_become_a_mark() -> None:
    parts = [{"type": "text", "text": "<|"}, {"type": "text", "text": "image|>"}, {"type": "image"}]
    made = draft("messages", {"messages": [{"role": "user", "content": parts}, MESSAGES[1]]}, {"image": b"i"})
    assert made.messages[0].content == "<|\\image|><|image|>"
    said = [{"from": "human", "value": "<|<image>image|>"}, {"from": "gpt", "value": "<image>"}]
    assert refusal("sharegpt", {"conversations": said}, {"image": b"i"}) == "schema"


def test_option_marks_takes_marks_as_meant() -> None:
    fields = {"question": "left <|image|> right <|image|>", "answer": "x"}
    made = draft("question_answer", fields, {"image.0": b"1", "image.1": b"2"}, options={"marks": True})
    assert made.messages[0].content == "left <|image|> right <|image|>"
    assert refusal("question_answer", fields, {"image": b"1"}, options={"marks": True}) == "schema"


def test_instruction_is_an_option() -> None:
    made = draft("transcript", {"text": "t"}, {"audio": b"a"}, options={"instruction": "Transcribe."})
    assert made.messages[0].content == "<|audio|>\nTranscribe."


@pytest.mark.parametrize(
    ("normalizer", "fields", "reason"),
    [
        ("question_answer", {"question": "why?"}, "missing-field"),
        ("question_answer", {"question": "why?", "answer": 7}, "missing-field"),
        ("question_answer", {"question": " \n", "answer": "so"}, "empty-text"),
        ("question_answer", {"question": "a\ud800", "answer": "so"}, "not-utf8"),
        ("question_answer", {"question": "a\0", "answer": "so"}, "not-utf8"),
        ("preference", {"prompt": "a", "chosen": "b"}, "missing-field"),
        ("preference", {"prompt": "a", "chosen": "b", "rejected": " "}, "empty-text"),
        ("preference", {"prompt": "a", "completion": "b", "label": 1}, "missing-field"),
        ("preference", {"prompt": [SYSTEM_TURN], **TWO}, "missing-field"),
        ("preference", {"prompt": MESSAGES, **TWO}, "bad-role"),
        ("preference", {"prompt": "other", "chosen": REPEATED, "rejected": "b"}, "bad-role"),
        ("preference", {"prompt": "a", "chosen": MESSAGES[:1], "rejected": "b"}, "bad-role"),
        ("messages", {"messages": []}, "missing-field"),
        ("messages", {"messages": "hi"}, "missing-field"),
        ("messages", {"messages": [7]}, "missing-field"),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "text"}]}, MESSAGES[1]]}, "missing-field"),
        ("messages", {"messages": [{"role": "user", "content": []}, MESSAGES[1]]}, "empty-text"),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "image"}]}, MESSAGES[1]]}, "schema"),
        ("messages", {"messages": [{"role": "human", "content": "x"}]}, "bad-role"),
        ("messages", {"messages": [MESSAGES[0], MESSAGES[0], MESSAGES[1]]}, "bad-role"),
        ("messages", {"messages": MESSAGES[:1]}, "bad-role"),
        ("messages", {"messages": [*MESSAGES, {"role": "system", "content": "x"}]}, "bad-role"),
        ("messages", {"messages": [{"role": "tool", "content": "x"}, MESSAGES[1]]}, "bad-role"),
        ("messages", {"messages": [MESSAGES[0], {"role": "assistant", "content": ""}]}, "empty-text"),
        ("messages", {"messages": [MESSAGES[0], {"role": "assistant", "content": "\ud800"}]}, "not-utf8"),
        ("messages", {"messages": [MESSAGES[0], {**MESSAGES[1], "tool_calls": [1]}]}, "schema"),
        ("transcript", {"text": "x"}, "no-media"),
        ("screenshot_to_code", {"code": "x"}, "no-media"),
        ("caption", {"text": "x"}, "no-media"),
        ("unlabelled", {"text": "x"}, "no-media"),
        ("grid_task", {"train": [], "test": [PAIR]}, "missing-field"),
        ("grid_task", {"train": [PAIR], "test": [{"input": [[1]]}]}, "missing-field"),
        ("grid_task", {"train": [PAIR], "test": [{"input": [[1, 2], [3]], "output": [[1]]}]}, "missing-field"),
        ("grid_task", {"train": [PAIR], "test": [{"input": [[10]], "output": [[1]]}]}, "missing-field"),
        ("grid_task", {"train": [PAIR], "test": [{"input": [[True]], "output": [[1]]}]}, "missing-field"),
    ],
)
def test_row_is_refused(normalizer: str, fields: dict[str, Any], reason: str) -> None:
    assert refusal(normalizer, fields) == reason


def called(arguments: Any, **more: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "a", "type": "function", "function": function}],
        **more,
    }


@pytest.mark.parametrize("arguments", ['{"city": "Østerås"}', {"city": "Østerås"}])
def test_calls_beside_a_text_go_into_it(arguments: Any) -> None:
    result = {"role": "tool", "tool_call_id": "a", "name": "weather", "content": "12"}
    turns = [MESSAGES[0], called(arguments), result, called(arguments, content="Once more."), result, MESSAGES[1]]
    made = draft("messages", {"messages": turns, "tools": []}).messages
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Østerås"}}\n</tool_call>'
    assert [message.role for message in made] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    assert [made[1].content, made[2].content, made[3].content] == [call, "12", f"Once more.\n{call}"]


@pytest.mark.parametrize(
    "turns",
    [
        [called("{city}")], [called("[1]")], [called('{"x": NaN}')], [called({"x": float("nan")})], [called(None)],
        [called({}, tool_calls=[{"name": ""}])], [called({}, tool_calls={"a": 1})], [called({}, tool_calls=[[]])],
        [called({}, weight=1)], [called({}), {"role": "tool", "tool_call_id": "b", "content": "1"}, MESSAGES[1]],
    ],
)  # fmt: skip
def test_calls_that_are_none_are_refused(turns: list[dict[str, Any]]) -> None:
    assert refusal("messages", {"messages": [MESSAGES[0], *turns]}) == "schema"


def test_tools_and_system_have_their_places() -> None:
    roles = ["system", "user", "assistant", "tool", "tool", "assistant", "user", "assistant"]
    made = draft("messages", {"messages": [{"role": role, "content": "x", "name": None} for role in roles]})
    assert [message.role for message in made.messages] == roles


def test_text_beyond_the_limit_is_refused() -> None:
    row, limits = Row(position="1", fields={"text": "four"}), Limits(text_characters=3)
    with pytest.raises(Refused, match="too-long"):
        normalize(row, spec("plain_text"), "r", limits)
    assert normalize(row, spec("plain_text"), "r", Limits(text_characters=4)).messages


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"normalizer": "alpaka"}, "no normalizer 'alpaka'; there are: messages"),
        ({"normalizer": "plain_text", "columns": {"question": "q"}}, "it reads: text"),
        ({"normalizer": "plain_text", "options": {"marks": True}}, "no option 'marks'; there are: none"),
        ({"normalizer": "messages", "options": {"marks": 1}}, "must be of type bool"),
        ({"normalizer": "mcq", "options": {"form": "word"}}, "it may be: letter, text, both"),
        ({"normalizer": "unlabelled", "media_type": "cartoon"}, "no media_type 'cartoon'; there are: screenshot"),
        ({"normalizer": "plain_text", "media_type": "photo"}, "takes no media"),
    ],
)
def test_spec_with_a_wrong_name_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        check_normalizer(spec(fields.pop("normalizer"), **fields))


def test_jsonl_rows_need_no_media_tools() -> None:
    assert possible_modalities(spec("messages")) == ("image", "audio", "video")
    assert possible_modalities(JsonlSource(name="j", path=".", normalizer="messages")) == ()
    assert columns_read(spec("transcript", columns={"text": "sentence"})) == ("audio", "sentence")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
roles = st.sampled_from(["system", "user", "assistant", "tool", "x", ""])
messages = st.lists(
    st.fixed_dictionaries({}, optional={"role": roles | json_values, "content": json_values, "extra": json_values}),
    max_size=4,
)
likely = st.sampled_from([
    0, 1, -1, "A", "b", "?", "2", True, ["a", "b"], "['a', \"b\"]", "[" * 300, "['a'", "\n\nHuman: a\n\nAssistant: b",
    [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "b"}], [["a", "b"]], [{"input": "a", "output": 1}],
    {"text": ["a"], "label": ["A"]}, [{"role": "prompter", "text": "a", "rank": 0}, {"role": "assistant", "text": "b"}],
    [{"response": "a", "annotations": {"honesty": {"Rating": "4"}}}, {"answer": "b", "rank": 1.0}], "x = 1\n#### 2",
    {"violence": True}, "<image 1> <image 9>", "<|image|>",
])  # fmt: skip


GATHERS = {
    "": None,
    "by": Gather(by="prompt"),
    "tree": Gather(tree=True),
    "siblings": Gather(tree=True, siblings=True),
}


@st.composite
def rows_of(draw: st.DrawFn, normalizer: str) -> Row:
    """Rows that have the columns of a normaliser, with likely and unlikely values."""
    names = (*NORMALIZERS[normalizer].roles, "rows", "replies", "who")
    fields = draw(st.fixed_dictionaries({}, optional=dict.fromkeys(names, json_values | messages | likely)))
    media = ["image", "image.0", "image.1", "image_1", "image_2", "audio", "video"]
    blobs = draw(st.dictionaries(st.sampled_from(media), st.binary(max_size=3)))
    return Row(position=draw(st.text(max_size=5)), fields=fields, blobs=blobs)


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@given(data=st.data())
@settings(max_examples=30)
def test_any_row_is_a_draft_or_refused(normalizer: str, data: st.DataObject) -> None:
    row, entry = data.draw(rows_of(normalizer)), NORMALIZERS[normalizer]
    options = {name: data.draw(st.sampled_from(values)) for name, values in entry.choices.items()}
    options |= {name: data.draw(st.booleans()) for name, value in entry.options.items() if isinstance(value, bool)}
    gather = GATHERS[data.draw(st.sampled_from(entry.gathers))]
    wanted = spec(normalizer, columns={"id": "who"}, options=options, gather=gather)
    try:
        made = normalize(row, wanted, "revision")
    except Refused as refused:
        assert refused.reason in REASONS
        with pytest.raises(Refused) as again:
            normalize(row, wanted, "revision")
        assert (again.value.reason, again.value.detail) == (refused.reason, refused.detail)
        return
    assert made == normalize(row, wanted, "revision")
    assert encode_sample(prepared(made))
    for modality in ("image", "audio", "video"):
        marked = sum(count_marks(message.content)[modality] for message in made.messages)
        assert marked == sum(medium.modality == modality for medium in made.media) or not made.messages


def prepared(made: Draft) -> Sample:
    """The draft's texts as a sample: they must be ones that can be stored."""
    return Sample(
        id=made.id,
        messages=made.messages,
        preference=made.preference,
        domain=made.domain,
        category=made.category,
        source=made.source,
        licence=made.licence,
        provenance=made.provenance,
    )
