"""Fingerprints of a shard's samples, batch by batch: all that a comparison needs, without the samples.

Here: the row of a sample, batches of bounded size, the bands under which candidates meet, hits of benchmarks.
Elsewhere: the table on disk (table.py), features of one sample (features.py), several processes (workers.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from shardkit.curate.features import NOTHING, Features, features_of
from shardkit.curate.images import IMAGE_BANDS, band_images
from shardkit.curate.ngrams import Grams
from shardkit.curate.text import PERMUTATIONS, band, band_rows, shingle, shorten, sign
from shardkit.curate.words import U64, hash_texts
from shardkit.errors import Refused
from shardkit.read.dataset import Dataset
from shardkit.read.item import Item
from shardkit.spec import DedupOptions

ROW = np.dtype(
    [
        ("shard", "<u4"), ("ordinal", "<u4"), ("key", "<u8", 2), ("exact", "<u8"),
        ("shingles_at", "<u8"), ("shingles", "<u4"), ("photos", "<u4"), ("photos_at", "<u8"),
        ("signature", "u1", PERMUTATIONS),
    ]
)  # fmt: skip
"""A sample's place, its key, and what is compared; where its shingles and photos' hashes begin, by their numbers."""

BAND = np.dtype([("value", "<u8"), ("row", "<u4")])
HIT = np.dtype([("shard", "<u4"), ("ordinal", "<u4"), ("benchmark", "<u4"), ("row", "<u4")])
"""A sample that holds what a row of a benchmark says."""

MOST_BANDS = max(PERMUTATIONS // 3, IMAGE_BANDS)
BATCH_SAMPLES, BATCH_CHARACTERS = 512, 1 << 20

Rows = npt.NDArray[np.void]


class Batch(NamedTuple):
    """Fingerprints of neighbours; offsets and rows count from the batch's beginning.

    `passed` counts samples that nothing could be compared of, `unreadable` those of others that have no record.
    """

    rows: Rows
    shingles: npt.NDArray[np.uint32]
    photos: U64
    bands: Rows
    hits: Rows
    passed: int = 0
    unreadable: int = 0


class Named(NamedTuple):
    """Features of a sample, where it lies and its key."""

    shard: int
    ordinal: int
    key: str
    features: Features


def fingerprint_shard(dataset: Dataset, shard: int, options: DedupOptions, grams: Grams | None) -> Iterator[Batch]:
    """The fingerprints of a shard's live samples in stored order; those of a benchmark itself hold nobody's rows.

    Raises ShardDamaged, StorageFailed.
    """
    if dataset.manifest.shards[shard].source in dataset.manifest.plan.held_out:
        grams = None
    waiting: list[Named] = []
    characters = unreadable = 0
    for item in dataset.shard_items(shard):
        named = _named(item, options)
        if named is None:
            unreadable += 1
            continue
        waiting.append(named)
        characters += sum(map(len, named.features.parts))
        if len(waiting) >= BATCH_SAMPLES or characters >= BATCH_CHARACTERS:
            yield fingerprint(waiting, options, grams, unreadable)
            waiting, characters, unreadable = [], 0, 0
    if waiting or unreadable:
        yield fingerprint(waiting, options, grams, unreadable)


def fingerprint(
    samples: Sequence[Named], options: DedupOptions, grams: Grams | None = None, unreadable: int = 0
) -> Batch:
    """Fingerprints of samples; those that hold a benchmark's row get no row here, since they cannot stay anyway."""
    parts = _words(samples)
    hits = _hits(samples, parts, grams)
    gone = {(int(hit["shard"]), int(hit["ordinal"])) for hit in hits}
    left = [at for at, named in enumerate(samples) if (named.shard, named.ordinal) not in gone]
    compared = [at for at in left if samples[at].features.exact != NOTHING]
    own = [samples[at] for at in compared]
    shingles = shingle([_spoken(samples[at].features, parts[at]) for at in compared])
    rows = np.zeros(len(own), ROW)
    for column, values in _plain_columns(own).items():
        rows[column] = values
    rows["shingles_at"], rows["shingles"] = shingles.starts[:-1], shingles.counts
    rows["photos_at"] = np.cumsum(rows["photos"]) - rows["photos"]
    photos = np.array([photo for named in own for photo in named.features.photos], np.uint64)
    signatures = sign(shingles) if len(shingles.values) else np.zeros((len(own), PERMUTATIONS), np.uint32)
    rows["signature"] = shorten(signatures) * (rows["shingles"] > 0)[:, None]
    bands = _bands(rows, signatures, photos, band_rows(options.threshold))
    return Batch(rows, shingles.values, photos, bands, hits, len(left) - len(own), unreadable)


def _words(samples: Sequence[Named]) -> list[list[U64]]:
    """Hashes of the words of each part of each sample."""
    flat = iter(hash_texts([part for named in samples for part in named.features.parts]))
    return [[next(flat) for _ in named.features.parts] for named in samples]


def _spoken(features: Features, parts: Sequence[U64]) -> U64:
    return np.concatenate([parts[at] for at in features.spoken]) if features.spoken else np.zeros(0, np.uint64)


def _named(item: Item, options: DedupOptions) -> Named | None:
    try:
        return Named(item.shard, item.ordinal, item.key, features_of(item, options))
    except Refused:
        return None


def _plain_columns(samples: Sequence[Named]) -> dict[str, npt.NDArray[np.uint64]]:
    keys = np.frombuffer(b"".join(key_bytes(named.key) for named in samples), ">u8").reshape(-1, 2)
    numbers = {
        "shard": [named.shard for named in samples],
        "ordinal": [named.ordinal for named in samples],
        "exact": [named.features.exact for named in samples],
        "photos": [len(named.features.photos) for named in samples],
    }
    return {"key": keys.astype(np.uint64)} | {name: np.array(found, np.uint64) for name, found in numbers.items()}


def key_bytes(key: str) -> bytes:
    """16 bytes of a sample's key, or of the digest of its name in a tar that others made."""
    if len(key) == 32 and not key.strip("0123456789abcdef"):
        return bytes.fromhex(key)
    return xxhash.xxh3_128_digest(key.encode())


def _bands(rows: Rows, signatures: npt.NDArray[np.uint32], photos: U64, entries: int) -> Rows:
    """Where each sample meets others: by its first photo, else by its text, else by all that must be equal.

    Text comes last but one since thousands of photos may share a question; exact digests are part of every band.
    """
    exact = rows["exact"].astype(np.uint64)
    by_photo = rows["photos"] > 0
    by_text = ~by_photo & (rows["shingles"] > 0)
    neither = ~by_photo & ~by_text
    parts = [
        (by_photo, band_images(photos[rows["photos_at"][by_photo].astype(np.int64)], exact[by_photo])),
        (by_text, band(signatures[by_text], exact[by_text], entries)),
        (neither, exact[neither][:, None]),
    ]
    made = []
    for chosen, values in parts:
        numbers = np.flatnonzero(chosen)
        bands = np.zeros(values.size, BAND)
        bands["value"], bands["row"] = values.ravel(), np.repeat(numbers, values.shape[1])
        made.append(bands)
    return np.concatenate(made)


def _hits(samples: Sequence[Named], parts: Sequence[Sequence[U64]], grams: Grams | None) -> Rows:
    found = grams.find(parts) if grams is not None else []
    hits = np.zeros(len(found), HIT)
    for at, (number, benchmark, row) in enumerate(found):
        hits[at] = (samples[number].shard, samples[number].ordinal, benchmark, row)
    return hits
