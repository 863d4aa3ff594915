"""Text and code, as in the first part of the catalog."""

from __future__ import annotations

from tests.records.published.shape import Published, Rows


def magicoder_oss() -> Rows:
    return [
        {
            "lang": "python", "raw_index": 105533, "index": 1, "seed": "def f(x):", "openai_fingerprint": "fp_eeff",
            "problem": "Write f.", "solution": "```python\ndef f(x):\n    return x\n```",
        },
    ]  # fmt: skip


def magicoder_evol() -> Rows:
    return [{"instruction": "Sort a list.", "response": "`sorted(a)`"}, {"instruction": "Nothing.", "response": ""}]


def openmathinstruct() -> Rows:
    shared = {"question": "What is 2 + 2?", "expected_answer": "4", "dataset": "gsm8k"}
    code = "<llm-code>\nprint(2 + 2)\n</llm-code>\n<llm-code-output>\n4\n</llm-code-output>\nThus \\boxed{4}."
    return [
        {**shared, "generated_solution": code, "predicted_answer": "4", "error_message": "", "is_correct": True,
         "generation_type": "without_reference_solution"},
        {**shared, "generated_solution": "It is 5.", "predicted_answer": "5", "error_message": "<not_executed>",
         "is_correct": False, "generation_type": "masked_reference_solution"},
    ]  # fmt: skip


def openmathinstruct_2() -> Rows:
    return [
        {"problem": "1 + 1?", "generated_solution": "\\boxed{2}", "expected_answer": "2", "problem_source": "gsm8k"}
    ]


def codealpaca() -> Rows:
    return [
        {"instruction": "Double the number.", "input": "21", "output": "42"},
        {"instruction": "Print hello.", "input": "", "output": "print('hello')"},
    ]


def dolphin() -> Rows:
    return [
        {"instruction": "You are helpful.", "input": "Who are you?", "output": "A helper."},
        {"instruction": "", "input": "And now?", "output": "Still a helper."},
    ]


def glaive() -> Rows:
    return [{"question": "How do I loop?", "answer": "With `for`."}]


def codefeedback_filtered() -> Rows:
    return [{"query": "Reverse a string.", "answer": "`s[::-1]`", "resource": "evolinstruct", "lang": "python"}]


def commitpackft() -> Rows:
    shared = {"message": "m", "lang": "Python", "repos": "a/b,c/d"}
    return [
        {"commit": "c1", "old_file": "src/a.py", "new_file": "src/a.py", "old_contents": "x = 1\n",
         "new_contents": "x = 2\n", "subject": "Make x two", "license": "apache-2.0", **shared},
        {"commit": "c2", "old_file": "b.md", "new_file": "b.md", "old_contents": "", "new_contents": "```\ncode\n```",
         "subject": "Add notes", "license": "bsd-3-clause", **shared},
        {"commit": "c3", "old_file": "a.py", "new_file": "b.py", "old_contents": "x", "new_contents": "x",
         "subject": "Rename", "license": "mit", **shared},
        {"commit": "c4", "old_file": "a.py", "new_file": "a.py", "old_contents": "x", "new_contents": "",
         "subject": "Remove", "license": "mit", **shared},
    ]  # fmt: skip


def fineweb() -> Rows:
    return [
        {"text": "A page.\nOf text.", "id": "<urn:uuid:1>", "dump": "CC-MAIN-2013-20", "url": "http://a.example",
         "date": "2013-05-18T05:48:54Z", "file_path": "s3://x", "language": "en", "language_score": 0.97,
         "token_count": 5},
        {"text": "Une page.", "id": "<urn:uuid:2>", "dump": "CC-MAIN-2013-20", "url": "http://b.example",
         "date": "2013-05-18T05:48:54Z", "file_path": "s3://x", "language": "fr", "language_score": 0.9,
         "token_count": 3},
    ]  # fmt: skip


def cosmopedia() -> Rows:
    return [
        {"prompt": "Write a story.", "text_token_length": 3, "text": "Once.", "seed_data": "ultrachat",
         "format": "story_children", "audience": "children"},
    ]  # fmt: skip


NEW_NOTES = "user: Add notes\n\nWrite the new file `b.md`."
DATASETS = (
    Published(
        name="ise-uiuc/Magicoder-OSS-Instruct-75K",
        rows=magicoder_oss,
        suffix="jsonl",
        spec={"normalizer": "problem_solution", "columns": {"category": "lang"}},
        becomes=[["user: Write f.", "assistant: ```python\ndef f(x):\n    return x\n```"]],
    ),
    Published(
        name="ise-uiuc/Magicoder-Evol-Instruct-110K",
        rows=magicoder_evol,
        suffix="jsonl",
        spec={"normalizer": "prompt_completion", "columns": {"prompt": "instruction", "completion": "response"}},
        becomes=[["user: Sort a list.", "assistant: `sorted(a)`"], ["refused: empty-text"]],
    ),
    Published(
        name="nvidia/OpenMathInstruct-1",
        rows=openmathinstruct,
        suffix="jsonl",
        spec={"normalizer": "math", "columns": {"solution": "generated_solution", "final": "expected_answer"}},
        becomes=[
            ["user: What is 2 + 2?", f"assistant: {openmathinstruct()[0]['generated_solution']}"],
            ["refused: filtered"],
        ],
    ),
    Published(
        name="nvidia/OpenMathInstruct-1#where",
        rows=openmathinstruct,
        spec={
            "normalizer": "math",
            "columns": {"solution": "generated_solution", "final": "expected_answer"},
            "where": {"is_correct": True},
            "options": {"final": "sentence"},
        },
        becomes=[
            ["user: What is 2 + 2?", f"assistant: {openmathinstruct()[0]['generated_solution']}"],
            ["passed: 1"],
        ],
    ),
    Published(
        name="nvidia/OpenMathInstruct-2",
        rows=openmathinstruct_2,
        spec={
            "normalizer": "math",
            "columns": {"question": "problem", "solution": "generated_solution", "final": "expected_answer"},
        },
        becomes=[["user: 1 + 1?", "assistant: \\boxed{2}"]],
    ),
    Published(
        name="sahil2801/CodeAlpaca-20k",
        rows=codealpaca,
        spec={"normalizer": "alpaca"},
        becomes=[
            ["user: Double the number.\n\n21", "assistant: 42"],
            ["user: Print hello.", "assistant: print('hello')"],
        ],
    ),
    Published(
        name="QuixiAI/dolphin",
        rows=dolphin,
        suffix="jsonl",
        spec={"normalizer": "alpaca", "options": {"instruction_as_system": True}},
        becomes=[
            ["system: You are helpful.", "user: Who are you?", "assistant: A helper."],
            ["user: And now?", "assistant: Still a helper."],
        ],
    ),
    Published(
        name="glaiveai/glaive-code-assistant-v2",
        rows=glaive,
        spec={"normalizer": "question_answer"},
        becomes=[["user: How do I loop?", "assistant: With `for`."]],
    ),
    Published(
        name="m-a-p/CodeFeedback-Filtered-Instruction",
        rows=codefeedback_filtered,
        suffix="jsonl",
        spec={"normalizer": "question_answer", "columns": {"question": "query"}},
        becomes=[["user: Reverse a string.", "assistant: `s[::-1]`"]],
    ),
    Published(
        name="bigcode/commitpackft",
        rows=commitpackft,
        suffix="jsonl",
        spec={"normalizer": "commit", "columns": {"licence": "license", "category": "lang"}, "licence": "mit"},
        becomes=[
            ["user: Make x two\n\n`src/a.py`:\n```py\nx = 1\n```", "assistant: ```py\nx = 2\n```"],
            [NEW_NOTES, "assistant: ````md\n```\ncode\n```\n````"],
            ["refused: filtered"],
            ["refused: empty-text"],
        ],
    ),
    Published(
        name="HuggingFaceFW/fineweb",
        rows=fineweb,
        spec={"normalizer": "plain_text", "where": {"language": ["en", "de"]}},
        becomes=[["assistant: A page.\nOf text."], ["passed: 1"]],
    ),
    Published(
        name="HuggingFaceTB/cosmopedia",
        rows=cosmopedia,
        spec={"normalizer": "prompt_completion", "columns": {"completion": "text", "category": "format"}},
        becomes=[["user: Write a story.", "assistant: Once."]],
    ),
)
