"""Conversations: ShareGPT, messages, turns, trees."""

from __future__ import annotations

from typing import Any

from tests.records.published.shape import Published, Rows


def slimorca() -> Rows:
    return [
        {"conversations": [
            {"from": "system", "value": "Think.", "weight": None},
            {"from": "human", "value": "Why?", "weight": 0.0},
            {"from": "gpt", "value": "Because.", "weight": 1.0},
        ]},
        {"conversations": [
            {"from": "human", "value": "Who?", "weight": 0.0},
            {"from": "gpt", "value": "<image> is a tag.", "weight": 1.0},
        ]},
        {"conversations": [
            {"from": "system", "value": None, "weight": None},
            {"from": "human", "value": "What?", "weight": 0.0},
            {"from": "gpt", "value": "That.", "weight": 1.0},
        ]},
        {"conversations": [{"from": "human", "value": "Alone.", "weight": 0.0}]},
    ]  # fmt: skip


def openhermes() -> Rows:
    nothing = dict.fromkeys(
        ("model", "model_name", "hash", "avatarUrl", "views", "language", "title", "topic", "custom_instruction",
         "skip_prompt_formatting", "idx"),
    )  # fmt: skip
    said = [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello."}]
    return [
        {
            "conversations": said,
            "id": None,
            "category": "orca",
            "source": "airoboros2.2",
            "system_prompt": None,
            **nothing,
        },
        {"conversations": said, "id": "7", "category": None, "source": "x", "system_prompt": "Be brief.", **nothing},
    ]


def tools() -> Rows:
    spoken = [
        ("system", "Tools: time"), ("user", "Time?"), ("function_call", '{"name": "time"}'), ("observation", "12:00"),
        ("assistant", "Noon."),
    ]  # fmt: skip
    return [{"conversations": [{"from": who, "value": said} for who, said in spoken], "tools": "[]"}]


def code_feedback() -> Rows:
    said = [("user", "Write f."), ("assistant", "def f(): 1/0"), ("user", "ZeroDivisionError"), ("assistant", "Sorry.")]
    return [{"id": 3, "messages": [{"role": role, "content": text} for role, text in said]}]


def no_robots() -> Rows:
    asked = {"content": "Tell me.", "role": "user"}
    told = {"content": "Told.", "role": "assistant"}
    return [
        {"prompt": "Tell me.", "prompt_id": "a1", "messages": [asked, told], "category": "Generation"},
        {"prompt": "Tell me.", "prompt_id": "a2", "category": "Chat",
         "messages": [{"content": "You are Bo.", "role": "system"}, asked, told]},
        {"prompt": "Tell me.", "prompt_id": "a3", "messages": [{"content": "", "role": "system"}, asked, told],
         "category": "Chat"},
    ]  # fmt: skip


def pure_dove() -> Rows:
    return [
        {"conversation": [{"input": "One?", "output": "Two."}, {"input": "Three?", "output": "Four."}], "source": "x"},
        {"conversation": [], "source": "x"},
    ]


def message(name: str, parent: str | None, role: str, **more: Any) -> dict[str, Any]:
    """A row of oasst2, with all of its columns."""
    return {
        "message_id": name, "parent_id": parent, "user_id": "u", "created_date": "2023-02-05", "text": f"text {name}",
        "role": role, "lang": "en", "review_count": 3, "review_result": True, "deleted": False, "rank": None,
        "synthetic": False, "model_name": None, "detoxify": {"toxicity": 0.1}, "message_tree_id": name[0],
        "tree_state": "ready_for_export", "emojis": {"name": ["+1"], "count": [2]},
        "labels": {"name": ["spam", "quality"], "value": [0.0, 0.9], "count": [3, 3]}, **more,
    }  # fmt: skip


def oasst2() -> Rows:
    return [
        message("a", None, "prompter"),
        message("a1", "a", "assistant", rank=1, labels=None),
        message("a2", "a", "assistant", rank=0),
        message("a21", "a2", "prompter"),
        message("a211", "a21", "assistant"),
        message("a22", "a2", "prompter"),  # nobody answered
        message("a3", "a", "assistant", rank=2, deleted=True),
        message("a31", "a3", "prompter"),  # below a deleted one
        message("b", None, "prompter", lang="es"),
        message("b1", "b", "assistant", lang="es"),
        message("c", None, "prompter"),  # nobody answered at all
        message("d1", "d", "assistant"),  # its parent is not there
    ]


SLIMORCA = [
    ["system: Think.", "user: Why?", "assistant: Because."],
    ["user: Who?", "assistant: <image> is a tag."],
    ["user: What?", "assistant: That."],
    ["refused: bad-role"],
]
DATASETS = (
    Published(
        name="Open-Orca/SlimOrca", rows=slimorca, suffix="jsonl", spec={"normalizer": "sharegpt"}, becomes=SLIMORCA
    ),
    Published(
        name="teknium/OpenHermes-2.5",
        rows=openhermes,
        spec={"normalizer": "sharegpt", "columns": {"system": "system_prompt"}},
        becomes=[["user: Hi.", "assistant: Hello."], ["system: Be brief.", "user: Hi.", "assistant: Hello."]],
    ),
    Published(
        name="sharegpt with tools",
        rows=tools,
        spec={"normalizer": "sharegpt"},
        becomes=[
            ["system: Tools: time", "user: Time?", 'assistant: {"name": "time"}', "tool: 12:00", "assistant: Noon."]
        ],
    ),
    Published(
        name="m-a-p/Code-Feedback",
        rows=code_feedback,
        suffix="jsonl",
        spec={"normalizer": "messages", "columns": {"id": "id"}},
        becomes=[["user: Write f.", "assistant: def f(): 1/0", "user: ZeroDivisionError", "assistant: Sorry."]],
    ),
    Published(
        name="HuggingFaceH4/no_robots",
        rows=no_robots,
        spec={"normalizer": "messages", "columns": {"id": "prompt_id", "category": "category"}},
        becomes=[
            ["user: Tell me.", "assistant: Told."],
            ["system: You are Bo.", "user: Tell me.", "assistant: Told."],
            ["user: Tell me.", "assistant: Told."],
        ],
    ),
    Published(
        name="LDJnr/Pure-Dove",
        rows=pure_dove,
        suffix="jsonl",
        spec={"normalizer": "turns", "columns": {"turns": "conversation"}},
        becomes=[["user: One?", "assistant: Two.", "user: Three?", "assistant: Four."], ["refused: missing-field"]],
    ),
    Published(
        name="OpenAssistant/oasst2",
        rows=oasst2,
        spec={"normalizer": "tree", "columns": {"id": "message_id", "category": "lang"}, "gather": {"tree": True}},
        becomes=[
            ["user: text a", "assistant: text a1"],
            ["user: text a", "assistant: text a2", "user: text a21", "assistant: text a211"],
            ["passed: 3"],
            ["user: text b", "assistant: text b1"],
            ["passed: 1"],
            ["refused: no-parent"],
        ],
    ),
    Published(
        name="OpenAssistant/oasst2#ranks",
        rows=oasst2,
        spec={
            "normalizer": "ranked_replies",
            "gather": {"tree": True, "siblings": True},
            "where": {"lang": "en"},
        },
        becomes=[
            ["user: text a", "chosen: text a2", "rejected: text a1"],
            ["passed: 5"],
            ["passed: 2"],
            ["passed: 1"],
            ["refused: no-parent"],
        ],
    ),
)
