"""Batches of pictures and tones with answers, for tests of models that see and hear."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from shardkit.records.sample import Message, Sample
from trainer.data.collate import TrainBatch, collate, collate_packs
from trainer.data.media import Medium, Senses
from trainer.data.tokenise import Encoded, Speech
from trainer.spec import ModelSpec

WORDS = ("red", "green", "blue", "yellow", "one", "two", "three", "four")
Asked = tuple[str, str, str]
"""What is shown (`image`, `audio`, `video`, `text`), the question, the answer."""


def fusion_spec(tiny: ModelSpec, **fields: Any) -> ModelSpec:
    """The tiny encoders with a tiny transformer behind them."""
    shape: dict[str, Any] = {"width": 32, "layers": 2, "heads": 4, "positions": 256, "spread": 0.1, **fields}
    parts: dict[str, Any] = {}
    for name, part in (("vision", tiny.vision), ("audio", tiny.audio)):
        raw = msgspec.to_builtins(part)
        parts[name] = {field: raw[field] for field in ("config", "trainable")}
    parts["audio"]["config"] = {**parts["audio"]["config"], "init_std": 0.3}
    return msgspec.convert({"kind": "fusion", "fusion": shape, **parts}, ModelSpec)


def shown(kind: str, at: int, senses: Senses) -> tuple[Medium, ...]:
    """A medium of its own look or sound for every number."""
    draws = np.random.default_rng(at)
    size = senses.image_size
    if kind in ("image", "video"):
        count = 1 if kind == "image" else 2
        images = tuple(draws.integers(0, 255, (3, size, size), dtype=np.uint8) for _ in range(count))
        return (Medium(modality=kind, images=images),)
    if kind == "audio":
        window = draws.standard_normal((senses.mels, senses.window_frames)).astype(np.float32)
        return (Medium(modality="audio", windows=(window,), sounding=(senses.window_frames // 2,)),)
    return ()


def encoded(speech: Speech, senses: Senses, asked: Sequence[Asked]) -> list[tuple[str, Encoded]]:
    rows = []
    for at, (kind, question, answer) in enumerate(asked):
        turns = (Message(role="user", content=question), Message(role="assistant", content=answer))
        sample = Sample(id=str(at), messages=turns, domain="d", category="c", source="s")
        rows.append((f"key{at}", speech.encode(sample, shown(kind, at, senses), senses, 200)))
    return rows


def media_batch(speech: Speech, senses: Senses, asked: Sequence[Asked]) -> TrainBatch:
    return collate(encoded(speech, senses, asked), senses, speech.pad_id)


def media_pack(speech: Speech, senses: Senses, asked: Sequence[Asked]) -> TrainBatch:
    """All samples in one row."""
    return collate_packs([encoded(speech, senses, asked)], senses, speech.pad_id)
