"""Small datasets that are built once a test session, and tiny runs on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from shardkit import BuildSpec, build_dataset, convert_spec
from trainer.spec import ModelSpec, RunSpec


def generated(name: str, generator: str, normalizer: str, count: int, **more: Any) -> dict[str, Any]:
    return {
        "kind": "generated", "name": name, "generator": generator, "normalizer": normalizer, "count": count,
        "domain": "test", "category": name, **more,
    }  # fmt: skip


def build_small(folder: Path, *sources: dict[str, Any]) -> Path:
    spec = convert_spec({"name": folder.name, "seed": 7, "sources": list(sources)}, BuildSpec, "test")
    build_dataset(spec, out=folder, workers=0)
    return folder


def mixed(folder: Path, each: int = 12) -> Path:
    """Text, screens and tones, `each` of them."""
    return build_small(
        folder,
        generated("notes", "notes", "question_answer", each),
        screens(each),
        tones(each),
    )


def screens(count: int) -> dict[str, Any]:
    """Screens with a question about a colour."""
    parameters = {"questions": "colour"}
    return generated("screens", "ui_mockup", "question_answer", count, media_type="ui_mock", parameters=parameters)


def tones(count: int, digits: int = 1) -> dict[str, Any]:
    """Recordings of up to so many tone-coded digits with their transcript."""
    return generated("tones", "dtmf", "transcript", count, media_type="tones", parameters={"digits": digits})


def tiny_run(model: ModelSpec, **more: Any) -> RunSpec:
    raw = {
        "name": "tiny", "seed": 3, "steps": 6, "batch_size": 4, "device": "cpu",
        "model": msgspec.to_builtins(model), "tokenizer": {"vocabulary": 300},
        "data": {"max_tokens": 128, "held_out": 0.2}, "checkpoint": {"every": 2},
        "optimizer": {"warmup": 2, "rate": 1e-2}, "eval": {"samples": 6},
    }  # fmt: skip
    return convert_spec({**raw, **more}, RunSpec, "test")
