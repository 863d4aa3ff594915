"""Samples listed from the index alone: keys, where they lie, what the index says of them; and rows that are none.

Here: what `shardkit ls` prints.
Elsewhere: one sample whole (report.show), the filter's grammar (read.where).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec
import numpy as np

from shardkit.errors import REASONS
from shardkit.read.dataset import Dataset
from shardkit.read.find import keys_of, read_indexes
from shardkit.read.view import resolve_view
from shardkit.read.where import parse_where
from shardkit.store.index import IndexHead, IndexPage
from shardkit.store.manifest import read_dead_letters

NUMBERS = ("text_characters", "images", "pixels", "audio_ms", "frames", "sizes")


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """One sample as the index knows it. `bytes` in the tar, headers included; `audio_ms` in milliseconds."""

    key: str
    shard: int
    ordinal: int
    source: str
    category: str
    modalities: str
    licence: str
    bytes: int
    text_characters: int
    images: int
    pixels: int
    audio_ms: int
    frames: int

    def text(self) -> str:
        """One line for a terminal."""
        media = [f"{self.text_characters:,} characters"] if self.text_characters else []
        media += [f"{self.images} image" + "s" * (self.images > 1)] if self.images else []
        media += [f"{self.frames} frames"] if self.frames else []
        media += [f"{self.audio_ms / 1000:.1f} s"] if self.audio_ms else []
        about = "/".join(word for word in (self.source, self.category) if word)
        return f"{self.key}  {self.bytes:>11,}  {self.modalities or '-':<12}  {about}  {', '.join(media)}"


class RefusedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row that became no sample: where it lies in its source, the reason's code, what the code means, a detail."""

    source: str
    position: str
    reason: str
    meaning: str
    detail: str

    def text(self) -> str:
        """One line for a terminal."""
        return f"{self.source}  {self.position}  {self.reason}: {self.detail or self.meaning}"


def list_refused(dataset: Dataset, limit: int | None = None) -> Iterator[RefusedRow]:
    """The rows that the dataset's builds refused, in the order of its lanes. Raises ShardDamaged, StorageFailed."""
    letters = (letter for ref in dataset.manifest.dead_letters for letter in read_dead_letters(dataset.store, ref))
    for letter in islice(letters, limit):
        yield RefusedRow(
            source=letter.source,
            position=letter.position,
            reason=letter.reason,
            meaning=REASONS.get(letter.reason, ""),
            detail=letter.detail,
        )


def list_samples(dataset: Dataset, where: str | None = None, limit: int | None = None) -> Iterator[Listed]:
    """The live samples in stored order that the filter takes, the first `limit` of them; no sample is read.

    Raises SpecError (the filter, or a split that the dataset does not have), ShardDamaged, StorageFailed.
    """
    chosen = dataset.live if where is None else resolve_view(dataset, parse_where(where))
    shards = np.flatnonzero(chosen.live).tolist()
    left = limit
    for shard, head, page in read_indexes(dataset, shards):
        live = np.arange(int(chosen.live[shard]))[:left]
        yield from _rows(shard, head, page, chosen.ordinals(np.full(len(live), shard), live))
        if left is not None:
            left -= len(live)
            if left <= 0:
                return


def _rows(shard: int, head: IndexHead, page: IndexPage, ordinals: np.ndarray) -> Iterator[Listed]:
    keys = keys_of(page)
    numbers = [page.column(name)[ordinals].tolist() for name in NUMBERS]
    words = [
        [table[at] for at in page.column(name)[ordinals].tolist()]
        for name, table in (
            ("sources", head.sources),
            ("categories", head.categories),
            ("modality_sets", head.modality_sets),
            ("licences", head.licences),
        )
    ]
    for row, ordinal in enumerate(ordinals.tolist()):
        text, images, pixels, audio, frames, size = (column[row] for column in numbers)
        source, category, modalities, licence = (column[row] for column in words)
        yield Listed(
            key=keys[ordinal],
            shard=shard,
            ordinal=ordinal,
            source=source,
            category=category,
            modalities=modalities,
            licence=licence,
            bytes=size,
            text_characters=text,
            images=images,
            pixels=pixels,
            audio_ms=audio,
            frames=frames,
        )
