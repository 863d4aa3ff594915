"""How a run reads: its settings, which samples it may train on, what one step drew.

Here: the structs, the loader's arguments, held-out samples, encoding one sample.
Elsewhere: endless batches (stream.py, packs.py), tokens and media (tokenise.py, media.py).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
import torch

from shardkit import Item, Mix, Refused, Sample, Skipped
from trainer.data.collate import TrainBatch
from trainer.data.media import Senses, Undecodable, Unfit, load_media
from trainer.data.tokenise import Encoded, Speech
from trainer.spec import DataSpec


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """What one step reads: its batch (none if no sample was fit), the state behind it, and why samples were left out.

    `read` counts samples read; `cut_tokens` and `cut_seconds` what did not fit the model's limits. `source_epochs` says
    of each dataset of a mixture how often it was read. `damaged` names samples left out as damaged, `SHARD/ORDINAL`.
    """

    batch: TrainBatch | None
    state: dict[str, Any]
    read: int
    left_out: dict[str, int]
    cut_tokens: int = 0
    cut_seconds: float = 0.0
    source_epochs: dict[str, float] = {}
    damaged: tuple[str, ...] = ()

    def to(self, device: torch.device) -> Drawn:
        """The same with its batch on a device; from pinned memory without waiting for the copy."""
        return self if self.batch is None else msgspec.structs.replace(self, batch=self.batch.to(device))


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream reads: the run's data settings, its seed, samples a batch (this rank's), rank and world size.

    A step of the run takes `accumulate` batches.
    """

    data: DataSpec
    seed: int
    batch_size: int
    accumulate: int = 1
    rank: int = 0
    world_size: int = 1


def is_held_out(key: str, share: float) -> bool:
    """Whether a sample is kept for evaluation: a keyed hash of its key, the same in every run and version."""
    digest = hashlib.blake2b(key.encode(), digest_size=8, key=b"shardkit held out").digest()
    return int.from_bytes(digest, "big") < share * 2.0**64


def named(skipped: Iterable[Skipped]) -> tuple[str, ...]:
    """Samples left out as damaged, as the metrics name them: digest of the shard and number in it."""
    return tuple(f"{sample.shard}/{sample.ordinal}" for sample in skipped)


def loader_fields(reading: Reading, mixed: bool = False) -> dict[str, Any]:
    """Arguments of open_loader.

    `mixed`: several datasets are read.
    """
    mix = {"mix": to_mix(reading)} if mixed else {}
    return mix | {
        "batch_size": reading.batch_size,
        "seed": reading.seed,
        "lanes": reading.data.lanes,
        "window": reading.data.window,
        "tail": tail_of(reading),
        "rank": reading.rank,
        "world_size": reading.world_size,
        "num_workers": reading.data.decoders,
        "on_damage": reading.data.on_damage,
        "where": reading.data.where,
        "cache": reading.data.cache,
        "cache_bytes": reading.data.cache_bytes,
    }


def tail_of(reading: Reading) -> Literal["split", "pad"]:
    """How an epoch ends: no sample is left out, and a step holds the same samples whatever the number of ranks.

    Padding is left out again, so that both ways read the same.
    """
    return "split" if reading.world_size == 1 else "pad"


def state_for(reading: Reading, states: Sequence[dict[str, Any]]) -> Any:
    """A reading state as its loader takes it, from those of all ranks, however many they were; none from none."""
    if not states:
        return None
    if reading.data.pack:  # every rank has lanes of its own
        return list(states) if len(states) > 1 else states[0]
    return {**states[0], "tail": tail_of(reading)}


def to_mix(reading: Reading) -> Mix | None:
    """The loader's mix for a run's; its steps are the loader's, of which a step of the run takes `accumulate`."""
    spec = reading.data.mix
    if spec is None:
        return None
    times = 1 if reading.data.pack else reading.accumulate
    return Mix(
        temperature=spec.temperature,
        exhausted=spec.exhausted,
        schedule=tuple((change.step * times, change.weights) for change in spec.schedule),
    )


def nothing_to_train_on(total: int, left_out: Counter[str]) -> str:
    """The message for a dataset without a single sample that this run can train on."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    return (
        f"none of {total} samples can be trained on ({reasons}); wanted samples with an assistant message, or with a "
        f"preference where the loss compares answers. "
        f"See `shardkit stats` for what the dataset holds"
    )


def encode_item(item: Item, speech: Speech, senses: Senses, max_tokens: int, later: bool = False) -> Encoded:
    """One item of a dataset as tokens and media; raises Unfit, or Undecodable for a medium.

    `later`: with media as their files' bytes, to be decoded when they are needed (later.py).

    In tars that others made, what is no record or does not decode is left out and counted: it is not damage.
    """
    try:
        sample = item.sample
        speech.check(sample)  # before its media are decoded for nothing
        return speech.encode(sample, load_media(item, senses, later), senses, max_tokens)
    except Refused as refused:
        raise Unfit(refused.reason) from None
    except Undecodable:
        if item.is_foreign:
            raise Unfit("undecodable") from None
        raise


def record_of(item: Item) -> Sample | None:
    """The item's record; none where a sample that others made is no record."""
    try:
        return item.sample
    except Refused:
        return None
