"""A static page of a dataset: what it holds, and samples of every source to look at and listen to.

Here: choosing samples, turning them into what the template shows, writing the file.
Elsewhere: the template (dataset.html.j2), numbers for machines (`shardkit stats --json`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from shardkit.read.dataset import Dataset, Item
from shardkit.read.shapes import record_to_show
from shardkit.records.marks import Mark, split_marks, unescape_marks
from shardkit.records.sample import Sample
from shardkit.store.layout import Manifest

MIME = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif",
    "bmp": "image/bmp", "flac": "audio/flac", "wav": "audio/wav", "mp3": "audio/mpeg", "ogg": "audio/ogg",
}  # fmt: skip
LONGEST_TEXT = 4000


class Medium(msgspec.Struct, frozen=True, kw_only=True):
    """One medium as the page shows it: pictures with captions, or a sound, as data URIs."""

    kind: str
    label: str
    pictures: tuple[tuple[str, str], ...] = ()
    sound: str = ""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message: its role and its pieces, text (str) or media, in order."""

    role: str
    pieces: tuple[str | Medium, ...]


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """One sample as the page shows it."""

    key: str
    category: str
    turns: tuple[Turn, ...]
    licence: str
    provenance: str


def write_report(
    dataset: Dataset, path: Path, *, per_source: int = 4, training: Mapping[str, Any] | None = None
) -> Path:
    """Write one self-contained HTML file about `dataset` to `path` and give its path back.

    Shows `per_source` samples of each source, spread over its shards. `training`, where given, has `plot`
    (a PNG's path) and `figures` (name to text) of a run to show beside the data.
    """
    cards = {source: [_card(item) for item in items] for source, items in _choose(dataset, per_source).items()}
    plot = _data_uri("png", Path(training["plot"]).read_bytes()) if training and training.get("plot") else ""
    page = _template().render(
        manifest=dataset.manifest,
        version=dataset.version,
        facts=_facts(dataset.manifest),
        cards=cards,
        plot=plot,
        figures=dict(training.get("figures", {})) if training else {},
        is_text=lambda piece: isinstance(piece, str),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def _choose(dataset: Dataset, per_source: int) -> dict[str, list[Item]]:
    """Evenly spread samples of every source, in the manifest's order of sources; only the chosen ones are read."""
    spans: dict[str, list[range]] = {}
    before = dataset.live.live_before
    for number, entry in enumerate(dataset.manifest.shards):
        spans.setdefault(entry.source, []).append(range(int(before[number]), int(before[number + 1])))
    return {source: [dataset[at] for at in _spread(parts, per_source)] for source, parts in spans.items()}


def _spread(parts: Sequence[range], count: int) -> list[int]:
    """`count` numbers, evenly spread over ranges laid end to end; fewer where there are fewer."""
    total = sum(len(part) for part in parts)
    chosen = []
    for number in range(min(count, total)):
        at = number * total // min(count, total)
        for part in parts:
            if at < len(part):
                chosen.append(part[at])
                break
            at -= len(part)
    return chosen


def _card(item: Item) -> Card:
    sample = record_to_show(item)
    media = _media(item, sample)
    turns = [_turn(message.role, message.content, media) for message in sample.messages]
    left = [medium for queue in media.values() for medium in queue]
    if left:
        turns.insert(0, Turn(role="media" if turns else "unlabelled", pieces=tuple(left)))
    if sample.preference:
        turns.append(Turn(role="chosen", pieces=(_cut(sample.preference.chosen),)))
        turns.append(Turn(role="rejected", pieces=(_cut(sample.preference.rejected),)))
    origin = ", ".join(f"{name} {value[:60]}" for name, value in sorted(sample.provenance.items()))
    return Card(key=item.key, category=sample.category, turns=tuple(turns), licence=sample.licence, provenance=origin)


def _turn(role: str, content: str, media: dict[Mark, list[Medium]]) -> Turn:
    pieces: list[str | Medium] = []
    for piece in split_marks(content):
        if isinstance(piece, Mark):
            pieces.append(media[piece].pop(0) if media[piece] else f"[{piece} missing]")
        elif piece.strip():
            pieces.append(_cut(unescape_marks(piece).strip("\n")))
    return Turn(role=role, pieces=tuple(pieces))


def _media(item: Item, sample: Sample) -> dict[Mark, list[Medium]]:
    """The sample's media by their marks, in order; each is taken from the front as its mark comes."""
    media = sample.modalities
    images = [
        Medium(
            kind="image",
            label=f"{image.type} {image.width}x{image.height}",
            pictures=((_member(item, image.member), ""),),
        )
        for image in media.image
    ]
    sounds = [
        Medium(kind="audio", label=f"{sound.type} {sound.duration_seconds:.2f} s", sound=_member(item, sound.member))
        for sound in media.audio
    ]
    videos = [
        Medium(
            kind="video",
            label=f"{video.type} {video.duration_seconds:.2f} s, {video.width}x{video.height}, {video.fps:g} fps",
            pictures=tuple((_member(item, frame.member), f"{frame.pts_seconds:.2f} s") for frame in video.keyframes),
            sound=_member(item, video.audio) if video.audio else "",
        )
        for video in media.video
    ]
    return {Mark.IMAGE: images, Mark.AUDIO: sounds, Mark.VIDEO: videos}


def _member(item: Item, name: str) -> str:
    return _data_uri(name.rsplit(".", 1)[-1], bytes(item.members[name]))


def _data_uri(suffix: str, data: bytes) -> str:
    return f"data:{MIME.get(suffix, 'application/octet-stream')};base64,{base64.b64encode(data).decode()}"


def _cut(text: str) -> str:
    return (
        text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}\n… {len(text) - LONGEST_TEXT:,} characters more"
    )


def _facts(manifest: Manifest) -> dict[str, str]:
    totals = manifest.totals
    return {
        "samples": f"{totals.samples:,}",
        "shards": f"{totals.shards:,}",
        "bytes": f"{totals.bytes:,}",
        "images": f"{totals.sums.images:,}",
        "video frames": f"{totals.sums.frames:,}",
        "sound": f"{totals.sums.audio_ms / 1000:,.1f} s",
        "characters of text": f"{totals.sums.text_characters:,}",
        "refused": f"{sum(sum(lane.refused.values()) for lane in manifest.lanes.values()):,}",
    }


def _template() -> Any:
    import jinja2

    loader = jinja2.PackageLoader("shardkit", "report")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(
        "dataset.html.j2"
    )
