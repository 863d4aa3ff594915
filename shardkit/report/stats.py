"""Figures of a dataset, as one object for machines and as a table for people.

Here: what `shardkit stats` prints.
Elsewhere: the page (page.py), progress of a build (build.status).
"""

from __future__ import annotations

import msgspec

from shardkit.read.dataset import Dataset


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What a version holds. `bytes` are those of its shards; durations in seconds; `refused` counts dead letters.

    `filtered` rows were passed over, since the spec does not want them.
    """

    dataset: str
    name: str
    version: str
    parent: str | None
    samples: int
    omitted: int
    shards: int
    bytes: int
    by_source: dict[str, int]
    by_modality: dict[str, int]
    refused: dict[str, int]
    filtered: int
    images: int
    pixels: int
    audio_seconds: float
    frames: int
    text_characters: int
    licences: tuple[str, ...]

    def text(self) -> str:
        """The figures as lines for a terminal."""
        rows = [("name", self.name), ("version", self.version), ("samples", f"{self.samples:,}")]
        rows += [("omitted", f"{self.omitted:,}")] if self.omitted else []
        rows += [("shards", f"{self.shards:,}"), ("bytes", f"{self.bytes:,}")]
        rows += [(f"source {name}", f"{count:,}") for name, count in self.by_source.items()]
        rows += [(f"modality {name or 'none'}", f"{count:,}") for name, count in self.by_modality.items()]
        rows += [(f"refused {reason}", f"{count:,}") for reason, count in self.refused.items()]
        rows += [("passed over", f"{self.filtered:,}")] if self.filtered else []
        rows += [("images", f"{self.images:,}"), ("video frames", f"{self.frames:,}")]
        rows += [("sound", f"{self.audio_seconds:,.1f} s"), ("text", f"{self.text_characters:,} characters")]
        rows += [("licences", ", ".join(self.licences) or "none given")]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def dataset_stats(dataset: Dataset) -> Stats:
    """The figures of an open dataset, from its manifest alone."""
    manifest = dataset.manifest
    totals = manifest.totals
    refused: dict[str, int] = {}
    for lane in manifest.lanes.values():
        for reason, count in lane.refused.items():
            refused[reason] = refused.get(reason, 0) + count
    return Stats(
        dataset=dataset.url,
        name=manifest.name,
        version=dataset.version,
        parent=manifest.parent,
        samples=totals.samples,
        omitted=totals.omitted,
        shards=totals.shards,
        bytes=totals.bytes,
        by_source=totals.by_source,
        by_modality=totals.by_modality,
        refused=dict(sorted(refused.items())),
        filtered=sum(lane.filtered for lane in manifest.lanes.values()),
        images=totals.sums.images,
        pixels=totals.sums.pixels,
        audio_seconds=totals.sums.audio_ms / 1000,
        frames=totals.sums.frames,
        text_characters=totals.sums.text_characters,
        licences=totals.licences,
    )
