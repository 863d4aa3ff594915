"""Batches of packed samples for ever, each with the reading state behind it.

Here: what a sample costs of a pack, drawing packs from the loader.
Elsewhere: choosing what goes together (shardkit), unpacked batches (stream.py), stacking packs (collate.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec

from shardkit import Cost, Item, Mixture, NothingToPack, Pack, PackedBatch, PackedLoader, SpecError, open_loader
from trainer.data.collate import Row, collate_packs
from trainer.data.later import decode_images, decode_windows
from trainer.data.media import Senses, Unfit, undecodable
from trainer.data.reading import Drawn, Reading, encode_item, is_held_out, loader_fields, named, nothing_to_train_on
from trainer.data.sounds import HOP, RATE
from trainer.data.sources import Data
from trainer.data.tokenise import Encoded, Speech
from trainer.spec import PackSpec

TOKEN_BYTES = 44
"""Memory of a token as a Python number in a tuple, and of its mark."""


def draw_packs(
    dataset: Data, reading: Reading, speech: Speech, senses: Senses, state: dict[str, Any] | None
) -> Iterator[Drawn]:
    """Packed batches for ever, from `state` on. Raises SpecError where there is nothing to train on."""
    assert reading.data.pack is not None, "open_stream draws packs only where they are asked for"
    mixed = isinstance(dataset, Mixture)
    loader = open_loader(
        dataset,
        pack=to_pack(reading.data.pack),
        cost=cost_of,
        decode=partial(encode_or_why, reading=reading, speech=speech, senses=senses),
        finish=decode_media,
        **{name: value for name, value in loader_fields(reading, mixed).items() if name != "tail"},
    )
    if state is not None:
        loader.load_state_dict(state)
    seen = 0
    try:
        for batch in loader:
            drawn = _prepare(batch, senses, speech.pad_id)
            if loader.num_skipped > seen:
                drawn = _with_damage(drawn, loader, seen)
                seen = loader.num_skipped
            yield msgspec.structs.replace(drawn, source_epochs=loader.source_epochs) if mixed else drawn
    except NothingToPack as error:
        reasons = Counter(map(str, error.passed))
        raise SpecError(nothing_to_train_on(len(dataset), reasons)) from None


def _with_damage(drawn: Drawn, loader: PackedLoader, seen: int) -> Drawn:
    """A step that also says what was left out as damaged since `seen` samples; reading ahead, a step may come early."""
    count = loader.num_skipped - seen
    left_out = drawn.left_out | {"damaged": count}
    return msgspec.structs.replace(drawn, left_out=left_out, damaged=named(loader.skipped[seen : seen + count]))


def to_pack(spec: PackSpec) -> Pack:
    """The loader's packing for a run's."""
    return Pack(
        tokens=spec.tokens,
        images=spec.images,
        audio_seconds=spec.audio_seconds,
        candidates=spec.candidates,
        lanes=spec.lanes,
    )


def encode_or_why(item: Item, *, reading: Reading, speech: Speech, senses: Senses) -> Row | str:
    """A sample with its key, encoded; or the reason why it is left out."""
    if is_held_out(item.key, reading.data.held_out):
        return "held-out"
    try:
        later = (
            not item.is_foreign
        )  # of those, what does not decode is left out: that must be known before it is packed
        return item.key, encode_item(item, speech, senses, reading.data.max_tokens, later)
    except Unfit as reason:
        return str(reason)


def decode_media(row: Row) -> Row:
    """The sample as it is handed out, its media decoded. Raises Undecodable."""
    key, encoded = row
    try:
        images, windows = decode_images(encoded.images), decode_windows(encoded.windows)
    except (OSError, ValueError, SyntaxError) as error:
        raise undecodable(key, error) from None
    return key, msgspec.structs.replace(encoded, images=images, windows=windows)


def cost_of(row: Row | str) -> Cost | None:
    """What an encoded sample takes of a pack: its tokens, placeholders of media included, images, seconds heard."""
    if isinstance(row, str):
        return None
    encoded = row[1]
    return Cost(
        tokens=len(encoded.ids),
        images=len(encoded.images),
        audio_seconds=sum(encoded.sounding) * HOP / RATE,
        size_bytes=TOKEN_BYTES * len(encoded.ids) + _media_bytes(encoded),
    )


def _media_bytes(encoded: Encoded) -> int:
    return sum(int(array.nbytes) for array in (*encoded.images, *encoded.windows))


def _prepare(batch: PackedBatch, senses: Senses, pad_id: int) -> Drawn:
    left_out = Counter(reason for pack in batch for reason in pack.passed)
    oversized = sum(pack.num_oversized for pack in batch)
    if oversized:
        left_out["oversized"] = oversized
    rows: list[Row] = [row for pack in batch for row in pack]
    return Drawn(
        batch=collate_packs(batch, senses, pad_id),
        state=batch.state,
        read=len(rows) + left_out.total(),
        left_out=dict(left_out),
        cut_tokens=sum(row.cut_tokens for _, row in rows),
        cut_seconds=sum(row.cut_seconds for _, row in rows),
    )
