"""Rows of benchmarks in the schemas that are published, as repositories of a Hub on loopback."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from tests.curate.making import texts
from tests.records.published import PUBLISHED

__all__ = ["CODE", "IDS", "SUMS", "parquet", "repository", "rewritten"]

IDS = {"gsm8k": "openai/gsm8k", "humaneval": "openai/openai_humaneval", "chartqa-test": "lmms-lab-encoder/ChartQA"}

SUMS = [
    *PUBLISHED["openai/gsm8k"].rows(),
    *(
        {
            "question": f"Mara bakes {at} trays of rolls on Monday, and twice as many on Tuesday, {one}. How many "
            "trays does she bake in the two days altogether?",
            "answer": f"On Tuesday she bakes {at}*2 = <<{at}*2={2 * at}>>{2 * at} trays, {one}.\n#### {3 * at}",
        }
        for at, one in enumerate(texts(30, seed=40, words=12), 11)
    ),
]
"""Rows of GSM8K: the published ones, and longer ones that are made up."""

CODE = [
    *PUBLISHED["openai/openai_humaneval"].rows(),
    *(
        {
            "task_id": f"HumanEval/{at}",
            "prompt": f'def solve_{at}(numbers):\n    """Give back the {one} of all even numbers in order."""\n',
            "canonical_solution": "    return sorted(number for number in numbers if number % 2 == 0)\n",
            "test": "def check(candidate):\n    assert candidate([]) == []\n",
            "entry_point": f"solve_{at}",
        }
        for at, one in enumerate(texts(10, seed=41, words=8), 1)
    ),
]
"""Rows of HumanEval."""


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(rows), buffer, compression="none")
    return buffer.getvalue()


def repository(config: str, split: str, rows: list[dict[str, Any]]) -> dict[str, bytes | str]:
    """A repository of the Hub with one split of one config."""
    path = f"{config}/{split}-00000-of-00001.parquet"
    card = {"configs": [{"config_name": config, "data_files": [{"split": split, "path": path}]}]}
    return {"README.md": f"---\n{json.dumps(card)}\n---\n", path: parquet(rows)}


def rewritten(text: str, seed: int) -> str:
    """The text with other white space and case."""
    draw = random.Random(seed)
    words = [word.upper() if draw.random() < 0.4 else word.lower() for word in text.split()]
    return "".join(word + draw.choice((" ", "  ", "\n", " \t", "\u00a0")) for word in words)
