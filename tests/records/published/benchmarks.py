"""Benchmarks: multiple choice, mathematics, programs."""

from __future__ import annotations

from typing import Any

from tests.records.published.shape import Published, Rows, image

PROGRAM = 'def f(x):\n    """Same."""\n'


def mmlu() -> Rows:
    return [
        {"question": "2 + 2?", "subject": "algebra", "choices": ["1", "2", "3", "4"], "answer": 3},
        {"question": "Say <|image|>?", "subject": "algebra", "choices": ["<|audio|>", "b", "c", "d"], "answer": -1},
    ]


def mmlu_train() -> Rows:
    return [{"train": {"answer": 0, "choices": ["a", "b", "c", "d"], "question": "Which?", "subject": ""}}]


def gsm8k() -> Rows:
    return [
        {"question": "How many?", "answer": "She sold 48/2 = <<48/2=24>>24 clips.\nSo 72.\n#### 72"},
        {"question": "Half?", "answer": "It is .5.\n#### .5"},
    ]


def humaneval() -> Rows:
    return [
        {"task_id": "HumanEval/0", "prompt": PROGRAM, "canonical_solution": "    return x\n",
         "test": "def check(f):\n    assert f(1) == 1\n", "entry_point": "f"},
    ]  # fmt: skip


def arc() -> Rows:
    """A file of ARC holds one task."""
    pair = {"input": [[0, 1], [2, 3]], "output": [[4]]}
    return [{"train": [pair, {"input": [[5]], "output": [[6], [7]]}], "test": [{"input": [[8, 9]], "output": [[0]]}]}]


def mbpp() -> Rows:
    return [
        {"task_id": 1, "text": "Write f.", "code": "def f(): return 1", "test_list": ["assert f() == 1", "assert f()"],
         "test_setup_code": "", "challenge_test_list": []},
    ]  # fmt: skip


def mbpp_sanitized() -> Rows:
    return [
        {"source_file": "a.ipynb", "task_id": 2, "prompt": "Write g.", "code": "def g(): return 2",
         "test_imports": ["import math"], "test_list": ["assert g() == 2"]},
    ]  # fmt: skip


def mmmu_row(name: str, question: str, options: str, answer: str, *pictures: int) -> dict[str, Any]:
    """A row of MMMU, with all of its columns."""
    images = {f"image_{at}": image(at) if at in pictures else None for at in range(1, 8)}
    kind = "multiple-choice" if options != "[]" else "open"
    return {
        "id": name, "question": question, "options": options, "explanation": "", **images, "img_type": "['Diagrams']",
        "answer": answer, "topic_difficulty": "Easy", "question_type": kind, "subfield": "Art",
    }  # fmt: skip


def mmmu() -> Rows:
    return [
        mmmu_row("v_1", "See <image 1>. Which?", "['it\\'s one', \"two\", '3']", "B", 1),
        mmmu_row("v_2", "<image 2> or <image 1>, as in <image 2>?", "['<image 3>', 'none']", "A", 1, 2, 3),
        mmmu_row("v_3", "How much in <image 1>?", "[]", "['24/7', '3.429']", 1),
        mmmu_row("v_4", "And in <image 1>?", "['a', 'b']", "?", 1),
        mmmu_row("v_5", "And in <image 2>?", "['a', 'b']", "A", 1),
        mmmu_row("v_6", "And?", "__import__('os').getcwd()", "A", 1),
        mmmu_row("v_7", "And?", "['a', 'b']", "C", 1),
    ]


def mmmu_pro() -> Rows:
    options = str([f"option {at}" for at in range(10)])
    return [{"id": "p_1", "image": image(1), "options": options, "answer": "J", "subject": "Art"}]


def mathvista() -> Rows:
    def row(pid: str, query: str, answer: str, choices: list[str] | None) -> dict[str, Any]:
        return {
            "pid": pid, "question": "Which?", "image": f"images/{pid}.jpg", "decoded_image": image(1),
            "choices": choices, "unit": None, "precision": 1.0, "answer": answer, "question_type": "multi_choice",
            "answer_type": "text", "metadata": {"category": "general-vqa", "language": "english"}, "query": query,
        }  # fmt: skip

    return [row("1", "Hint: …\nQuestion: Which?\nChoices:\n(A) a\n(B) b", "b", ["a", "b"]), row("2", "How?", "", None)]


def reasons() -> Rows:
    return [{"question": "2 + 2?", "rationale": "Two and two are four.", "answer": "4"}]


def github_issue() -> Rows:
    shared = {"url": "https://github.example/a/b/issues/1", "image": [image(1)]}
    return [
        {"title": "Blank page", "body": "It stays blank.", "code": "render(<|x|>)", **shared},
        {"title": "Blank page", "body": None, "code": "", **shared},
    ]


BY_LETTER = "\n\nAnswer with the letter of the right option."
SOLVED = "She sold 48/2 = 24 clips.\nSo 72."
HUMANEVAL = {"task": "prompt", "solution": "canonical_solution", "tests": "test"}
DATASETS = (
    Published(
        name="cais/mmlu",
        rows=mmlu,
        spec={
            "normalizer": "mcq",
            "columns": {"options": "choices", "category": "subject"},
            "options": {"form": "both", "answer_is": "index"},
        },
        becomes=[
            [f"user: 2 + 2?\n\nA. 1\nB. 2\nC. 3\nD. 4{BY_LETTER}", "assistant: D. 4"],
            ["refused: missing-field"],
        ],
    ),
    Published(
        name="cais/mmlu#auxiliary_train",
        rows=mmlu_train,
        spec={
            "normalizer": "mcq",
            "columns": {"question": "train.question", "options": "train.choices", "answer": "train.answer"},
            "options": {"instruction": ""},
        },
        becomes=[["user: Which?\n\nA. a\nB. b\nC. c\nD. d", "assistant: A"]],
    ),
    Published(
        name="fchollet/ARC-AGI",
        rows=arc,
        spec={"normalizer": "grid_task", "options": {"instruction": ""}},
        becomes=[
            [
                "user: Input 1:\n0 1\n2 3\n\nOutput 1:\n4\n\nInput 2:\n5\n\nOutput 2:\n6\n7\n\nInput:\n8 9",
                "assistant: 0",
            ],
        ],
        suffix="jsonl",
    ),
    Published(
        name="openai/gsm8k",
        rows=gsm8k,
        spec={"normalizer": "math", "columns": {"solution": "answer"}},
        becomes=[
            ["user: How many?", f"assistant: {SOLVED}\n#### 72"],
            ["user: Half?", "assistant: It is .5.\n#### .5"],
        ],
    ),
    Published(
        name="openai/gsm8k#sentence",
        rows=gsm8k,
        spec={"normalizer": "math", "columns": {"solution": "answer"}, "options": {"final": "sentence"}},
        becomes=[
            ["user: How many?", f"assistant: {SOLVED}\n\nThe answer is 72."],
            ["user: Half?", "assistant: It is .5.\n\nThe answer is .5."],
        ],
    ),
    Published(
        name="openai/openai_humaneval",
        rows=humaneval,
        spec={"normalizer": "code_task", "columns": {**HUMANEVAL, "id": "task_id"}},
        becomes=[[f"user: {PROGRAM}", "assistant:     return x\n"]],
    ),
    Published(
        name="openai/openai_humaneval#whole",
        rows=humaneval,
        spec={"normalizer": "code_task", "columns": HUMANEVAL, "options": {"whole": True}},
        becomes=[[f"user: {PROGRAM}", f"assistant: {PROGRAM}    return x\n"]],
    ),
    Published(
        name="google-research-datasets/mbpp",
        rows=mbpp,
        spec={
            "normalizer": "code_task",
            "columns": {
                "task": "text",
                "solution": "code",
                "tests": "test_list",
                "setup": "test_setup_code",
                "id": "task_id",
            },
            "options": {"tests": "message"},
        },
        becomes=[
            [
                "user: Write f.\n\nThe code must pass these tests:\n\nassert f() == 1\nassert f()",
                "assistant: def f(): return 1",
            ]
        ],
    ),
    Published(
        name="google-research-datasets/mbpp#sanitized",
        rows=mbpp_sanitized,
        spec={
            "normalizer": "code_task",
            "columns": {"task": "prompt", "solution": "code", "tests": "test_list", "setup": "test_imports"},
        },
        becomes=[["user: Write g.", "assistant: def g(): return 2"]],
    ),
    Published(
        name="MMMU/MMMU",
        rows=mmmu,
        spec={"normalizer": "mcq", "columns": {"id": "id", "category": "subfield"}, "options": {"answer_is": "letter"}},
        becomes=[
            [f"user: See <|image|>. Which?\n\nA. it's one\nB. two\nC. 3{BY_LETTER}", "assistant: B"],
            [
                f"user: <|image|> or <|image|>, as in [image 2]?\n\nA. <|image|>\nB. none{BY_LETTER}",
                "assistant: A",
            ],
            ["user: How much in <|image|>?", "assistant: 24/7"],
            ["refused: missing-field"],
            ["refused: no-media"],
            ["refused: schema"],
            ["refused: schema"],
        ],
    ),
    Published(
        name="MMMU/MMMU_Pro",
        rows=mmmu_pro,
        spec={"normalizer": "mcq", "columns": {"id": "id", "category": "subject"}},
        becomes=[["user: <|image|>\nAnswer with the letter of the right option.", "assistant: J"]],
    ),
    Published(
        name="AI4Math/MathVista",
        rows=mathvista,
        spec={"normalizer": "vqa", "columns": {"image": "decoded_image", "question": "query", "id": "pid"}},
        becomes=[
            ["user: <|image|>\nHint: …\nQuestion: Which?\nChoices:\n(A) a\n(B) b", "assistant: b"],
            ["refused: missing-field"],
        ],
    ),
    Published(
        name="chain of thought",
        rows=reasons,
        spec={"normalizer": "chain_of_thought", "options": {"form": "think"}},
        becomes=[["user: 2 + 2?", "assistant: <think>\nTwo and two are four.\n</think>\n\n4"]],
    ),
    Published(
        name="issues of a repository",
        rows=github_issue,
        spec={"normalizer": "github_issue"},
        becomes=[
            ["user: <|image|>\nBlank page\n\nIt stays blank.", "assistant: ```\nrender(<|x|>)\n```"],
            ["refused: missing-field"],
        ],
    ),
)
