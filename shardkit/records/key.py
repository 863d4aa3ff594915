"""The key of a sample: its identity by content.

Here: the one definition of the key.
Elsewhere: the canonical JSON of a record (sample.py), where keys are written (store), duplicates (build).
"""

from __future__ import annotations

from collections.abc import Sequence

import blake3
import msgspec
import xxhash

from shardkit.errors import Refused
from shardkit.records.row import Member
from shardkit.records.sample import Message, Modalities, Preference, Record, Sample, member_names

MEMBER_DIGEST_BYTES = 16
"""Members are named in the key, and in the index, by the first 16 bytes of their BLAKE3."""


class Identity(Record, frozen=True, kw_only=True):
    """The part of a record that its key depends on; fields as in Sample, in this order."""

    messages: tuple[Message, ...] = ()
    preference: Preference | None = None
    modalities: Modalities = Modalities()


_encoder = msgspec.json.Encoder(order="deterministic")


def sample_key(sample: Sample, members: Sequence[Member]) -> str:
    """The key of a sample with its members in stored order: 32 lower-case hex digits.

    The key is XXH3-128 (seed 0, canonical big-endian form) of these bytes, without anything between them:

    1. the canonical JSON of an object with `messages`, `preference` and `modalities`, in that order, each encoded as
       in KEY.json (fields in declared order, empty parts left out, no white space, UTF-8), then one NUL byte;
    2. for each member in stored order: its name in UTF-8, one NUL byte, and the 16 bytes of BLAKE3-128 (the first 16
       of BLAKE3-256) of its content.

    Never of id, source, domain, category, licence, repetition_style, provenance, split or quality.
    Raises Refused (`not-utf8`) for text with lone surrogates.
    """
    assert tuple(member.name for member in members) == member_names(sample), "members are not those of the record"
    return key_from_digests(sample, [(member.name, member_digest(member.data)) for member in members])


def key_from_digests(sample: Sample, digests: Sequence[tuple[str, bytes]]) -> str:
    """The same key from members that are hashed already: (name, BLAKE3-128) of each, in stored order."""
    identity = Identity(messages=sample.messages, preference=sample.preference, modalities=sample.modalities)
    try:
        encoded = _encoder.encode(identity)
    except UnicodeEncodeError:
        raise Refused("not-utf8", "lone surrogate in text") from None
    key = xxhash.xxh3_128(encoded)
    key.update(b"\0")
    for name, digest in digests:
        key.update(name.encode() + b"\0" + digest)
    return key.hexdigest()


def key_of_record(sample: Sample, record: bytes, digests: Sequence[tuple[str, bytes]]) -> str:
    """The same key where the sample's canonical JSON is at hand: text alone is cut out of it, not encoded again.

    A key of an object begins behind an unescaped quote, so these cannot be found inside of a text.
    """
    media = sample.modalities
    if digests or sample.preference is not None or not sample.messages or media.image or media.audio or media.video:
        return key_from_digests(sample, digests)
    start = record.index(b',"messages":') + 1
    stop = record.index(b',"domain":', start) if sample.provenance else record.rindex(b',"domain":')
    return xxhash.xxh3_128_hexdigest(b"".join((b"{", record[start:stop], b',"modalities":{}}\0')))


def member_digest(data: bytes | memoryview) -> bytes:
    """BLAKE3-128 of a member's content: 16 bytes, as they stand in the index."""
    return blake3.blake3(data).digest(length=MEMBER_DIGEST_BYTES)
