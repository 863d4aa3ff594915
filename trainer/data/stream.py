"""Endless training batches from a dataset, each with the reading state behind it.

Here: drawing from the loader, leaving out what is held out or unfit, preparing ahead in one thread.
Elsewhere: reading and its order (shardkit), encoding (tokenise.py, media.py), stacking (collate.py).

A step always takes its `batch_size` positions of the epoch: samples left out make it smaller, never shift the rest.
So the state is the loader's own, at every step, for any number of ranks.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from shardkit import Batch, Dataset, Item, SpecError, open_loader
from trainer.data.collate import TrainBatch, collate
from trainer.data.media import Senses, Unfit, load_media
from trainer.data.tokenise import Encoded, Speech
from trainer.spec import DataSpec


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """What one step reads: its batch (none if no sample was fit), the state behind it, and why samples were left out.

    `read` counts samples read; `cut_tokens` and `cut_seconds` what did not fit the model's limits.
    """

    batch: TrainBatch | None
    state: dict[str, Any]
    read: int
    left_out: dict[str, int]
    cut_tokens: int = 0
    cut_seconds: float = 0.0


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream reads: the run's data settings, its seed, samples a batch (this rank's), rank and world size."""

    data: DataSpec
    seed: int
    batch_size: int
    rank: int = 0
    world_size: int = 1


def is_held_out(key: str, share: float) -> bool:
    """Whether a sample is kept for evaluation: a keyed hash of its key, the same in every run and version."""
    digest = hashlib.blake2b(key.encode(), digest_size=8, key=b"shardkit held out").digest()
    return int.from_bytes(digest, "big") < share * 2.0**64


def open_stream(
    dataset: Dataset, reading: Reading, speech: Speech, senses: Senses, state: dict[str, Any] | None = None
) -> Iterator[Drawn]:
    """Batches for ever, epoch after epoch, from `state` on; prepared up to `prefetch` ahead in one thread.

    Raises SpecError where a whole epoch has nothing to train on; what the loader raises comes through.
    """
    made = _draw(dataset, reading, speech, senses, state)
    return _ahead(made, reading.data.prefetch)


def _draw(
    dataset: Dataset, reading: Reading, speech: Speech, senses: Senses, state: dict[str, Any] | None
) -> Iterator[Drawn]:
    loader = open_loader(dataset, **loader_fields(reading))
    if state is not None:
        loader.load_state_dict(state)
    empty: Counter[str] = Counter()
    while True:
        for items in loader:
            drawn = _prepare(items, reading, speech, senses)
            yield drawn
            empty = Counter() if drawn.batch else empty + Counter(drawn.left_out)
            if sum(empty.values()) >= max(1, len(dataset)) // reading.world_size:
                raise SpecError(nothing_to_train_on(len(dataset), empty))


def loader_fields(reading: Reading) -> dict[str, Any]:
    """Arguments of open_loader: a last partial batch is split among the ranks, so that no sample is left out."""
    return {
        "batch_size": reading.batch_size,
        "seed": reading.seed,
        "lanes": reading.data.lanes,
        "window": reading.data.window,
        "tail": "split" if reading.world_size == 1 else "drop",
        "rank": reading.rank,
        "world_size": reading.world_size,
        "num_workers": reading.data.decoders,
    }


def nothing_to_train_on(total: int, left_out: Counter[str]) -> str:
    """The message for a dataset without a single sample that this run can train on."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    return (
        f"none of {total} samples can be trained on ({reasons}); wanted samples with an assistant message. "
        f"See `shardkit stats` for what the dataset holds"
    )


def _prepare(items: Batch, reading: Reading, speech: Speech, senses: Senses) -> Drawn:
    kept: list[tuple[str, Encoded]] = []
    left_out: Counter[str] = Counter()
    for item in items:
        if is_held_out(item.key, reading.data.held_out):
            left_out["held-out"] += 1
            continue
        if item.padded:
            left_out["padding"] += 1
            continue
        try:
            kept.append((item.key, encode_item(item, speech, senses, reading.data.max_tokens)))
        except Unfit as reason:
            left_out[str(reason)] += 1
    return Drawn(
        batch=collate(kept, senses, speech.pad_id) if kept else None,
        state=dict(items.state),
        read=len(items),
        left_out=dict(left_out),
        cut_tokens=sum(row.cut_tokens for _, row in kept),
        cut_seconds=sum(row.cut_seconds for _, row in kept),
    )


def encode_item(item: Item, speech: Speech, senses: Senses, max_tokens: int) -> Encoded:
    """One item of a dataset as tokens and media; raises Unfit, or Undecodable for a medium."""
    if not any(message.role == "assistant" for message in item.sample.messages):
        raise Unfit("unlabelled")  # before its media are decoded for nothing
    return speech.encode(item.sample, load_media(item, senses), senses, max_tokens)


def _ahead(made: Iterator[Drawn], size: int) -> Iterator[Drawn]:
    """The same values, made ahead by one thread: the order cannot depend on timing. Errors come in their place."""
    waiting: queue.Queue[Drawn | BaseException] = queue.Queue(maxsize=size)
    stop = threading.Event()

    def put(value: Drawn | BaseException) -> None:
        while not stop.is_set():
            try:
                return waiting.put(value, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for drawn in made:
                put(drawn)
                if stop.is_set():
                    return
        except BaseException as error:  # handed to the caller, whatever it is
            put(error)

    thread = threading.Thread(target=work, name="trainer-data", daemon=True)
    thread.start()
    try:
        while True:
            value = waiting.get()
            if isinstance(value, BaseException):
                raise value
            yield value
    finally:
        stop.set()
        thread.join(timeout=10)
