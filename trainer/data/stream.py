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
import weakref
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
    return Ahead(draw(dataset, reading, speech, senses, state), reading.data.prefetch)


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


class Ahead(Iterator[Drawn]):
    """The same values, made ahead by one thread: the order cannot depend on timing. Errors come in their place.

    No generator: what a signal's handler raises while one is being collected is lost, with a traceback in its place.
    """

    def __init__(self, made: Iterator[Drawn], size: int) -> None:
        self._waiting: queue.Queue[Drawn | BaseException] = queue.Queue(maxsize=size)
        self._stop = threading.Event()
        weakref.finalize(self, self._stop.set)  # where nobody closes it
        work = (made, self._waiting, self._stop)
        self._thread = threading.Thread(target=_make, args=work, name="trainer-data", daemon=True)
        self._thread.start()

    def __next__(self) -> Drawn:
        """The next value; raises what making it raised, and StopIteration behind an error."""
        if self._stop.is_set():
            raise StopIteration
        value = self._waiting.get()
        if isinstance(value, BaseException):
            self._stop.set()
            raise value
        return value

    def close(self) -> None:
        """End the thread and wait for it, up to ten seconds: it may be in the middle of a slow read."""
        self._stop.set()
        self._thread.join(timeout=10)


def _make(made: Iterator[Drawn], waiting: queue.Queue[Drawn | BaseException], stop: threading.Event) -> None:
    try:
        for drawn in made:
            _put(drawn, waiting, stop)
            if stop.is_set():
                return
    except BaseException as error:  # handed to the caller, whatever it is
        _put(error, waiting, stop)


def _put(value: Drawn | BaseException, waiting: queue.Queue[Drawn | BaseException], stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            waiting.put(value, timeout=0.1)
        except queue.Full:
            continue
        return
