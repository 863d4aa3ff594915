"""Endless training batches from a dataset, each with the reading state behind it.

Here: drawing from the loader, leaving out what is held out or unfit, preparing ahead in one thread.
Elsewhere: reading and its order (shardkit), packs (packs.py), which samples are fit (reading.py), batches (collate.py).

A step always takes its `batch_size` positions of the epoch: samples left out make it smaller, never shift the rest.
Packed, it takes `batch_size` packs, which are full. So the state is the loader's own, at every step, for any number
of ranks.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from shardkit import Batch, Mixture, SpecError, open_loader
from trainer.data.collate import Row, collate
from trainer.data.media import Senses, Unfit
from trainer.data.packs import draw_packs
from trainer.data.reading import Drawn, Reading, encode_item, is_held_out, loader_fields, named, nothing_to_train_on
from trainer.data.sources import Data
from trainer.data.tokenise import Speech


def open_stream(
    dataset: Data, reading: Reading, speech: Speech, senses: Senses, state: dict[str, Any] | None = None
) -> Iterator[Drawn]:
    """Batches for ever, epoch after epoch, from `state` on; prepared up to `prefetch` ahead in one thread.

    Raises SpecError where a whole epoch has nothing to train on; what the loader raises comes through.
    """
    draw = draw_packs if reading.data.pack else _draw
    return _ahead(draw(dataset, reading, speech, senses, state), reading.data.prefetch)


def epoch_of(state: dict[str, Any]) -> int:
    """The epoch in which a reading state stands; with packs that of the lane that is furthest behind."""
    lanes = state.get("lanes")
    return min(lane[2] for lane in lanes) if isinstance(lanes, list) else int(state["epoch"])


def _draw(
    dataset: Data, reading: Reading, speech: Speech, senses: Senses, state: dict[str, Any] | None
) -> Iterator[Drawn]:
    mixed = isinstance(dataset, Mixture)
    loader = open_loader(dataset, **loader_fields(reading, mixed))
    if state is not None:
        loader.load_state_dict(state)
    empty: Counter[str] = Counter()
    while True:
        for items in loader:
            drawn = _prepare(items, reading, speech, senses)
            yield msgspec.structs.replace(drawn, source_epochs=loader.source_epochs) if mixed else drawn
            empty = Counter() if drawn.batch else empty + Counter(drawn.left_out)
            if sum(empty.values()) >= max(1, len(dataset)):
                raise SpecError(nothing_to_train_on(len(dataset), empty))


def _prepare(items: Batch, reading: Reading, speech: Speech, senses: Senses) -> Drawn:
    kept: list[Row] = []
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
    if items.skipped:
        left_out["damaged"] = len(items.skipped)
    return Drawn(
        batch=collate(kept, senses, speech.pad_id) if kept else None,
        state=dict(items.state),
        read=len(items),
        left_out=dict(left_out),
        cut_tokens=sum(row.cut_tokens for _, row in kept),
        cut_seconds=sum(row.cut_seconds for _, row in kept),
        damaged=named(items.skipped),
    )


def _ahead(made: Iterator[Drawn], size: int) -> Iterator[Drawn]:
    """The same values, made ahead by one thread: the order cannot depend on timing. Errors come in their place."""
    waiting: queue.Queue[Drawn | BaseException] = queue.Queue(maxsize=size)
    stop = threading.Event()

    def put(value: Drawn | BaseException) -> None:
        while not stop.is_set():
            try:
                waiting.put(value, timeout=0.1)
            except queue.Full:
                continue
            return

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
