"""Small builds on which faults are tried: real rows of text, image and sound, refusals and duplicates, a few long rows.

Here: their inputs, made from nothing, and their specs.
Elsewhere: running them (runner.py).
"""

from __future__ import annotations

import base64
import io
import json
import random
import wave
from pathlib import Path
from typing import Any, Literal

from shardkit.spec import BuildSpec, convert_spec

Size = Literal["tiny", "least", "large"]
SHARD_SAMPLES = 4
SPEC_NAME = "spec.yaml"
LONG_CHARACTERS = 4_300_000
"""An answer that the writer does not lay out together with others, and that the file's own thread writes."""


def write_build(folder: Path, size: Size = "tiny") -> Path:
    """Make the inputs of a build and its spec in `folder`; the path of the spec (JSON is YAML)."""
    write_inputs(folder / "input", size)
    path = folder / SPEC_NAME
    path.write_text(json.dumps(raw_spec(folder / "input", size), indent=1), encoding="utf-8")
    return path


def spec_of(folder: Path, size: Size = "tiny") -> BuildSpec:
    """The spec as a struct, for builds in this process."""
    return convert_spec(raw_spec(folder / "input", size), BuildSpec, size)


def raw_spec(inputs: Path, size: Size) -> dict[str, Any]:
    """`tiny`: 5 lanes of text, images and sound, both codecs. `least`: 2 lanes of text, for faults at every call.

    `large`: 2 lanes of a few long rows, both codecs: shards of over 4 MiB, which a thread beside the lane's writes.
    """
    limits = {"shard_samples": SHARD_SAMPLES, "block_samples": 2, "memory_bytes": 1 << 28}
    return {
        "name": size,
        "seed": 7,
        "limits": limits | ({"text_characters": 2 * LONG_CHARACTERS} if size == "large" else {}),
        "sources": SOURCES[size](str(inputs)),
    }


def _tiny(inputs: str) -> list[dict[str, Any]]:
    pictures = {"name": "pictures", "include": ["*.png"], "media_type": "screenshot", "licence": "cc0-1.0"}
    sounds = {"name": "sounds", "include": ["*.wav"], "media_type": "tones", "licence": "cc0-1.0"}
    return [
        _notes(14, partitions=2),
        _questions(inputs),
        {"kind": "files", "path": inputs, "normalizer": "unlabelled", **pictures},
        {"kind": "files", "path": inputs, "normalizer": "unlabelled", **sounds},
    ]


def _least(inputs: str) -> list[dict[str, Any]]:
    return [_notes(5, partitions=1), _questions(inputs)]


def _large(inputs: str) -> list[dict[str, Any]]:
    single = {"name": "single", "path": f"{inputs}/single.jsonl"}
    packed = {"name": "packed", "path": f"{inputs}/packed.jsonl", "codec": "tar.zst"}
    return [{**_questions(inputs), **single}, {**_questions(inputs), **packed}]


SOURCES = {"tiny": _tiny, "least": _least, "large": _large}


def _notes(count: int, partitions: int) -> dict[str, Any]:
    made = {"kind": "generated", "generator": "notes", "count": count, "partitions": partitions}
    return {**made, "name": "notes", "normalizer": "question_answer", "licence": "cc0-1.0", "codec": "tar.zst"}


def _questions(inputs: str) -> dict[str, Any]:
    return {
        "kind": "jsonl",
        "name": "questions",
        "path": f"{inputs}/questions.jsonl",
        "normalizer": "question_answer",
        "licence": "cc0-1.0",
    }


def write_inputs(folder: Path, size: Size = "tiny") -> None:
    """Questions with a refusal, a duplicate in the same shard and one in the next; pictures, one cut short; sounds.

    Of `large`: a long answer among short ones, and answers that are long together in one block of `tar.zst`.
    """
    folder.mkdir(parents=True)
    if size == "large":
        (folder / "single.jsonl").write_bytes(b"".join(map(long_line, (50, LONG_CHARACTERS, 60, 70, 80))))
        (folder / "packed.jsonl").write_bytes(b"".join(map(long_line, (3_100_000, 2_900_000, 90))))
        return
    (folder / "questions.jsonl").write_bytes(b"".join(question_lines()))
    for number in range(6):
        data = picture(number)
        (folder / f"picture{number}.png").write_bytes(data[: len(data) // 2] if number == 3 else data)
    for number in range(2):
        (folder / f"sound{number}.wav").write_bytes(sound(number))


def question_lines() -> list[bytes]:
    """Nine lines: seven samples of which one is a duplicate across shards, one duplicate in its shard, one refusal."""
    lines = [json.dumps({"question": f"What is {n} + {n}?", "answer": str(n + n)}).encode() + b"\n" for n in range(6)]
    return [*lines[:2], lines[0], b"not json\n", *lines[2:], lines[1]]


def long_line(characters: int) -> bytes:
    """A row whose answer has so many characters, which zstd makes a quarter smaller."""
    answer = base64.b64encode(random.Random(characters).randbytes(characters // 4 * 3)).decode()
    return json.dumps({"question": f"What are {characters} characters?", "answer": answer}).encode() + b"\n"


def picture(number: int) -> bytes:
    """A PNG of 12 x 8 pixels."""
    import PIL.Image

    image = PIL.Image.new("RGB", (12, 8), (40 * number, 255 - 40 * number, 90))
    image.putpixel((number, number), (255, 255, 255))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def sound(number: int) -> bytes:
    """A WAV of a tenth of a second, 8 kHz, a square wave."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        period = 20 + 10 * number
        file.writeframes(b"".join((8000 if at % period < period // 2 else -8000).to_bytes(2, "little", signed=True)
                                  for at in range(800)))  # fmt: skip
    return out.getvalue()
