"""What is compared of a sample: its texts, the hashes of its photos, a digest of all that has to be equal.

Here: from an item to its features.
Elsewhere: fingerprints of many at once (fingerprints.py), hashes and digests themselves (text, images, audio).
"""

from __future__ import annotations

from typing import NamedTuple

import xxhash

from shardkit.curate.audio import digest_sound
from shardkit.curate.images import PERCEPTUAL, digest_image, hash_photo
from shardkit.read.item import Item
from shardkit.records.marks import Mark, split_marks, unescape_marks
from shardkit.records.row import Draft
from shardkit.records.sample import Sample
from shardkit.spec import DedupOptions


class Features(NamedTuple):
    """`parts`: the text of each message and answer; `spoken`: those of them that are compared, by their numbers.

    `photos`: perceptual hashes in order. `exact` is equal where everything is that must be equal: sounds, pixels, how
    many photos, whether there is text; NOTHING where there is nothing to compare.
    """

    parts: tuple[str, ...]
    spoken: tuple[int, ...]
    photos: tuple[int, ...]
    exact: int


NOTHING = 0


def features_of(item: Item, options: DedupOptions) -> Features:
    """The features of an item. Raises ShardDamaged, and Refused for a sample of others that has no record."""
    sample = item.sample
    said = turns(sample)
    parts = tuple(plain_text(content) for _, content in said)
    spoken: tuple[int, ...] = ()
    if "text" in options.compare:
        spoken = tuple(at for at, (role, _) in enumerate(said) if role != "system") or tuple(range(len(said)))
    photos, digests = _media(item, sample, options)
    has_text = any(parts[at].strip() for at in spoken)
    exact = NOTHING
    if has_text or digests:
        exact = xxhash.xxh3_64_intdigest(b"%d %d " % (has_text, len(photos)) + b"".join(digests))
    return Features(parts, spoken, tuple(photos), exact)


def turns(sample: Sample | Draft) -> list[tuple[str, str]]:
    """(role, text) of each message, then of both answers of a preference."""
    found: list[tuple[str, str]] = [(message.role, message.content) for message in sample.messages]
    if sample.preference is not None:
        found += [("chosen", sample.preference.chosen), ("rejected", sample.preference.rejected)]
    return found


def plain_text(content: str) -> str:
    """A message without its marks of media."""
    if "<|" not in content:
        return content
    return "\n".join(unescape_marks(part) for part in split_marks(content) if not isinstance(part, Mark))


def pictures(sample: Sample) -> list[tuple[str, bool]]:
    """(member, whether it is compared by its shapes) of every image and keyframe, in stored order."""
    found = [(image.member, image.type in PERCEPTUAL) for image in sample.modalities.image]
    for video in sample.modalities.video:
        found += [(frame.member, video.type in PERCEPTUAL) for frame in video.keyframes]
    return found


def _media(item: Item, sample: Sample, options: DedupOptions) -> tuple[list[int], list[bytes]]:
    if not (sample.modalities.image or sample.modalities.audio or sample.modalities.video):
        return [], []
    photos: list[int] = []
    digests: list[bytes] = []
    if "images" in options.compare:
        for member, by_shapes in pictures(sample):
            found = hash_photo(item.members[member]) if by_shapes else None
            if found is None:
                digests.append(b"image" + digest_image(item.members[member]))
            else:
                photos.append(found)
                digests.append(b"photo")
    if "audio" in options.compare:
        sounds = [sound.member for sound in sample.modalities.audio]
        sounds += [video.audio for video in sample.modalities.video if video.audio]
        digests += [b"sound" + digest_sound(item.members[member]) for member in sounds]
    return photos, digests
