"""How full packs and length buckets are on real data, beside plain batches: `python -m tools.pack_fill --json`.

Here: tokens of the real mix by a byte-level BPE trained on it, the figures, the command.
Elsewhere: packing (shardkit.read.pack), the tokeniser (trainer.data.tokenise).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from shardkit import (
    Buckets,
    BuildSpec,
    Cost,
    Dataset,
    Item,
    Pack,
    build_dataset,
    load_spec,
    open_dataset,
    open_loader,
    split_marks,
    unescape_marks,
)
from trainer.data.tokenise import Speech, texts_of, train_speech

ROOT = Path(__file__).resolve().parent.parent
MEDIUM_TOKENS = 64
"""Latents of an image, a keyframe or a window of sound, as in specs/runs/omni-1.5b-lora.yaml."""
WINDOW_SECONDS = 30.0
FRAME_TOKENS = 2
"""Tokens around a message: who speaks, and its end."""


class Asked(NamedTuple):
    """What is measured: budget of a pack in tokens, images and seconds of sound, packs of each kind, threads."""

    tokens: int = 4096
    images: int = 16
    audio_seconds: float = 120.0
    packs: int = 200
    threads: int = 0


class Sized(NamedTuple):
    """A sample as it will lie in a row: tokens (cut at the budget, `cut` behind it), images, seconds of sound."""

    tokens: int
    images: int
    audio_seconds: float
    cut: int


def main() -> int:
    """Measure, print figures; progress goes to stderr."""
    parser = argparse.ArgumentParser(prog="python -m tools.pack_fill", description=__doc__)
    parser.add_argument("--data", help="a dataset; default: specs/builds/real.yaml built from ../shared/data")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens of a pack (default 4096)")
    parser.add_argument("--packs", type=int, default=200, help="packs measured of each kind (default 200)")
    parser.add_argument("--threads", type=int, default=0, help="threads that read and tokenise (default 0)")
    parser.add_argument("--vocabulary", type=int, default=4096, help="tokens of the BPE (default 4096)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    options = parser.parse_args()
    if options.tokens < 256 or options.packs < 1 or options.threads < 0 or options.vocabulary < 300:
        parser.error("--tokens is at least 256, --vocabulary 300, --packs 1, --threads 0")
    with tempfile.TemporaryDirectory(prefix="shardkit-pack-") as folder:
        dataset = open_dataset(options.data or build_real(ROOT.parent / "shared" / "data", Path(folder)))
        asked = Asked(tokens=options.tokens, packs=options.packs, threads=options.threads)
        figures = measure(dataset, train_bpe(dataset, options.vocabulary), asked)
    print(json.dumps(figures) if options.json else table(figures))
    return 0


def build_real(data: Path, folder: Path) -> str:
    """The real mix, built in a folder; its path."""
    if not data.is_dir():
        raise SystemExit(f"no real data at {data}; give --data DATASET")
    spec = load_spec(ROOT / "specs" / "builds" / "real.yaml", {"root": str(data)})
    assert isinstance(spec, BuildSpec)
    build_dataset(spec, out=folder / "real", workers=0)
    return str(folder / "real")


def train_bpe(dataset: Dataset, vocabulary: int) -> Speech:
    """A byte-level BPE of the dataset's own text."""
    return train_speech(texts_of(item.sample for item in dataset), vocabulary)


def measure(dataset: Dataset, speech: Speech, asked: Asked) -> dict[str, Any]:
    """Figures of packs, buckets and plain batches over the same budget, each from the beginning of the first epoch.

    `fill` is the share of the budget that is tokens, `padding` the share of the rows' tokens that is none.
    """
    size = partial(size_of, speech=speech, most=asked.tokens)
    pack = Pack(tokens=asked.tokens, images=asked.images, audio_seconds=asked.audio_seconds)
    packed = _timed(_packs(dataset, pack, size, asked))
    mean = sum(len(part) for part in packed["parts"]) / len(packed["parts"])
    plain = _plain(dataset, size, max(1, round(mean)), asked)
    return {
        "event": "pack_fill",
        "dataset": dataset.version,
        "samples": len(dataset),
        "tokens": asked.tokens,
        "pack": _figures(packed, asked.tokens, padded=False),
        "buckets": _figures(_timed(_packs(dataset, Buckets(tokens=asked.tokens), size, asked)), asked.tokens),
        "plain": _figures(_timed(plain), None),
    }


def size_of(item: Item, *, speech: Speech, most: int) -> Sized:
    """What a sample takes: its messages by the BPE, media by their latents; unlabelled media are latents alone."""
    sample = item.sample
    parts = (part for message in sample.messages for part in split_marks(message.content))
    text = sum(len(speech.encode_text(unescape_marks(part))) for part in parts if type(part) is str)
    media = sample.modalities
    images = len(media.image) + sum(len(video.keyframes) for video in media.video)
    sounds = [audio.duration_seconds for audio in media.audio]
    sounds += [video.duration_seconds for video in media.video if video.audio]
    windows = sum(max(1, -int(-seconds // WINDOW_SECONDS)) for seconds in sounds)
    tokens = text + FRAME_TOKENS * max(1, len(sample.messages)) + MEDIUM_TOKENS * (images + windows)
    return Sized(min(tokens, most), images, min(sum(sounds), WINDOW_SECONDS), max(0, tokens - most))


def table(figures: dict[str, Any]) -> str:
    """The figures as a table in Markdown."""
    columns = ("fill", "padding", "packs", "samples", "samples_per_second", "tokens_per_second")
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for kind in ("pack", "buckets", "plain"):
        values = (figures[kind][name] for name in columns)
        lines.append(f"| {kind} | " + " | ".join("" if value is None else f"{value:,}" for value in values) + " |")
    return "\n".join(lines)


def _packs(dataset: Dataset, pack: Pack | Buckets, size: Any, asked: Asked) -> Iterator[list[Sized]]:
    loader = open_loader(dataset, pack=pack, cost=_cost, decode=size, num_workers=asked.threads)
    for batch in islice(loader, asked.packs):
        yield list(batch[0])


def _plain(dataset: Dataset, size: Any, samples: int, asked: Asked) -> Iterator[list[Sized]]:
    """Batches of as many samples as a pack has on average, in the order in which they come."""
    loader = open_loader(dataset, batch_size=samples, decode=size, num_workers=asked.threads)
    endless = (list(batch) for _ in iter(int, 1) for batch in loader)
    return islice(endless, asked.packs)


def _cost(sized: Sized) -> Cost:
    return Cost(tokens=sized.tokens, images=sized.images, audio_seconds=sized.audio_seconds, size_bytes=100)


def _timed(parts: Iterable[list[Sized]]) -> dict[str, Any]:
    began = time.perf_counter()
    return {"parts": list(parts), "seconds": time.perf_counter() - began}


def _figures(timed: dict[str, Any], budget: int | None, *, padded: bool = True) -> dict[str, Any]:
    """Of packs (a row each, as long as the budget), or of rows padded to the longest (`padded`)."""
    parts: list[list[Sized]] = timed["parts"]
    tokens = sum(one.tokens for part in parts for one in part)
    rows = sum(len(part) * max(one.tokens for one in part) for part in parts) if padded else len(parts) * (budget or 0)
    samples = sum(map(len, parts))
    return {
        "fill": None if budget is None else round(tokens / (budget * len(parts)), 4),
        "padding": round(1 - tokens / rows, 4),
        "packs": len(parts),
        "samples": samples,
        "cut_tokens": sum(one.cut for part in parts for one in part),
        "samples_per_second": round(samples / timed["seconds"]),
        "tokens_per_second": round(tokens / timed["seconds"]),
    }


if __name__ == "__main__":
    sys.exit(main())
