"""What is compared of a sample: its words, the hashes of its photos, a digest of all that has to be equal.

Here: from an item to its features.
Elsewhere: fingerprints of many at once (fingerprints.py), hashes and digests themselves (text, images, audio).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xxhash

from shardkit.curate.audio import digest_sound
from shardkit.curate.images import PERCEPTUAL, digest_image, hash_photo
from shardkit.curate.options import DedupOptions
from shardkit.curate.text import text_words
from shardkit.curate.words import U64
from shardkit.read.item import Item
from shardkit.records.marks import Mark, split_marks, unescape_marks
from shardkit.records.sample import Sample

NO_WORDS: U64 = np.zeros(0, np.uint64)


class Features(NamedTuple):
    """`words`: hashes of the words that are compared. `photos`: perceptual hashes in order.

    `exact` is equal where everything is that must be equal: sounds, pixels, how many photos, whether there is text.
    `parts`: hashes of the words of each message and answer, the system's too.
    """

    words: U64
    photos: tuple[int, ...]
    exact: int
    parts: tuple[U64, ...]

    @property
    def is_compared(self) -> bool:
        """Whether the sample has anything of what is compared."""
        return bool(len(self.words) or self.photos or self.exact != NOTHING)


NOTHING = 0


def features_of(item: Item, options: DedupOptions) -> Features:
    """The features of an item. Raises ShardDamaged, and Refused for a sample of others that has no record."""
    sample = item.sample
    parts = [(role, text_words(plain_text(content))) for role, content in turns(sample)]
    words = NO_WORDS
    if "text" in options.compare:
        said = [own for role, own in parts if role != "system"] or [own for _, own in parts]
        words = np.concatenate(said) if said else NO_WORDS
    photos, digests = _media(item, sample, options)
    exact = NOTHING
    if photos or digests or len(words):
        exact = xxhash.xxh3_64_intdigest(b"%d %d " % (bool(len(words)), len(photos)) + b"".join(digests))
    return Features(words, tuple(photos), exact, tuple(own for _, own in parts))


def turns(sample: Sample) -> list[tuple[str, str]]:
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
