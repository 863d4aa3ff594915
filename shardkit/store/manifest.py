"""Reading a dataset's chain: pointer, manifest, columns, dead letters; every byte checked.

Here: encoding and strict decoding, with caps on what a file may unfold to.
Elsewhere: writing them in the right order (publish.py), the structs (layout.py).
"""

from __future__ import annotations

import itertools
import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import blake3
import msgspec
import numpy as np
import zstandard

from shardkit.errors import FileMissing, NotADataset, ShardDamaged
from shardkit.store.layout import (
    FORMAT,
    POINTER_PATH,
    UNREADABLE,
    ColumnRef,
    DeadLetter,
    FileRef,
    Manifest,
    Pointer,
    canonical,
    column_path,
    dead_letter_path,
    version_path,
)
from shardkit.store.urls import ByteStore

MAX_POINTER_BYTES = 4096
MAX_VERSION_BYTES = 1 << 28
MAX_MANIFEST_BYTES = 1 << 30
MAX_RATIO = 1024
"""No file of ours unfolds to more than so many times its size."""

COLUMN_MAGIC = b"SHKCOL01"
SEAL_MAGIC = b"\x50\x2a\x4d\x18\x10\x00\x00\x00"
SEAL_BYTES = len(SEAL_MAGIC) + 16
OMITTED = "omitted"
SPLIT = "split"
MOST_SPLITS = 255
T = TypeVar("T", bound=msgspec.Struct)


class OmittedColumn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which samples a version leaves out: for shards by position in the manifest, packed little-endian u32 ordinals.

    `shards` ascend; `ordinals[i]` belong to `shards[i]` and ascend strictly.
    """

    format: int = FORMAT
    shards: tuple[int, ...]
    ordinals: tuple[bytes, ...]


class SplitColumn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which split (`train`, `test`, …) each stored sample belongs to, by shard position in the manifest.

    `words` ascend; `values[i]` belongs to `shards[i]` and has one octet a stored sample: 0 for none, else 1 + position
    in `words`. `shards` ascend and leave out shards without any.
    """

    format: int = FORMAT
    words: tuple[str, ...]
    shards: tuple[int, ...]
    values: tuple[bytes, ...]

    def of_shard(self, shard: int, samples: int) -> tuple[tuple[str, ...], np.ndarray]:
        """A dictionary, whose first word is the empty one, and each sample's position in it. Raises ShardDamaged."""
        at = bisect_left(self.shards, shard)
        packed = self.values[at] if at < len(self.shards) and self.shards[at] == shard else bytes(samples)
        if len(packed) != samples:
            raise ShardDamaged(f"the split of shard {shard} has {len(packed)} entries for {samples} samples")
        return ("", *self.words), np.frombuffer(packed, dtype=np.uint8)


def read_pointer(store: ByteStore) -> Pointer:
    """The dataset's current version. Raises NotADataset, ShardDamaged (not canonical to the byte), StorageFailed."""
    try:
        data = store.read(POINTER_PATH, MAX_POINTER_BYTES)
    except FileMissing:
        raise NotADataset(
            f"{store.url} is no dataset: found no {POINTER_PATH} in it; give the folder or URL that holds "
            f"{POINTER_PATH}, or finish its build by running `shardkit build` again; tars that others made are named "
            "themselves, such as FOLDER/*.tar"
        ) from None
    return decode_pointer(data, f"{store.url}/{POINTER_PATH}")


def decode_pointer(data: bytes, where: str) -> Pointer:
    """A pointer from its bytes, which must be canonical. Raises NotADataset (foreign content), ShardDamaged."""
    if not data.startswith(b"{") or b'"version"' not in data:
        raise NotADataset(f"{where} is not a dataset's pointer; found {data[:40]!r}, wanted an object with `version`")
    pointer = _decode(data, Pointer, where)
    if pointer.format > FORMAT:
        raise NotADataset(f"{where}: format {pointer.format}, this version reads up to {FORMAT}; update shardkit")
    sane = pointer.format > 0 and _is_digest(pointer.version) and 0 < pointer.bytes <= MAX_MANIFEST_BYTES
    if not sane or data != encode_pointer(pointer):
        raise ShardDamaged(f"{where} is damaged: it is not in canonical form; publish the version again")
    return pointer


def encode_pointer(pointer: Pointer) -> bytes:
    """The bytes of manifest.json. `format` is always written; a line feed ends the file."""
    fields = {"format": pointer.format, "version": pointer.version, "bytes": pointer.bytes}
    return msgspec.json.encode(fields) + b"\n"


def read_manifest(store: ByteStore, version: str | None = None) -> tuple[str, Manifest]:
    """(digest, manifest) of a version, by default the current one; the digest is checked.

    Raises NotADataset, ShardDamaged, StorageFailed.
    """
    pointer = read_pointer(store) if version is None else None
    digest = pointer.version if pointer is not None else str(version)
    if not _is_digest(digest):
        raise NotADataset(f"{store.url}: {digest[:80]!r} is no version; wanted 64 lower-case hex digits")
    path = version_path(digest)
    try:
        data = store.read(path, MAX_VERSION_BYTES)
    except FileMissing:
        if version is None:
            raise
        raise NotADataset(f"{store.url} has no version {digest}; `shardkit status` lists what it has") from None
    return digest, decode_version(data, digest, f"{store.url}/{path}", pointer.bytes if pointer is not None else None)


def decode_version(data: bytes, digest: str, where: str, raw_bytes: int | None = None) -> Manifest:
    """The manifest in the bytes of a version's file; `raw_bytes` is what the pointer says. Raises ShardDamaged."""
    raw = unseal(data, MAX_MANIFEST_BYTES if raw_bytes is None else raw_bytes, where)
    if raw_bytes is not None and len(raw) != raw_bytes:
        raise ShardDamaged(f"{where}: holds {len(raw)} bytes, {POINTER_PATH} says {raw_bytes}; publish it again")
    found = blake3.blake3(raw).hexdigest()
    if found != digest:
        raise ShardDamaged(f"{where}: its content has digest {found}; fetch the file again from a good copy")
    manifest = _decode(raw, Manifest, where)
    if manifest.format > FORMAT:
        raise ShardDamaged(f"{where}: format {manifest.format}, this version reads up to {FORMAT}; update shardkit")
    return manifest


def encode_version(manifest: Manifest) -> tuple[str, int, bytes]:
    """(digest, bytes of the canonical JSON, bytes of the file) of a version."""
    raw = canonical(manifest)
    return blake3.blake3(raw).hexdigest(), len(raw), seal(raw)


def seal(raw: bytes) -> bytes:
    """`raw` as one zstd frame behind a skippable frame with the frame's BLAKE3-128: no altered bit goes unnoticed.

    A zstd decoder alone accepts some altered bits (reserved, padding); `zstd -d` reads the whole as it is.
    """
    frame = zstandard.ZstdCompressor(level=9, write_checksum=True, write_content_size=True).compress(raw)
    return SEAL_MAGIC + blake3.blake3(frame).digest(length=16) + frame


def unseal(data: bytes, max_bytes: int, where: str) -> bytes:
    """The inverse; at most `max_bytes` come out. Raises ShardDamaged."""
    frame = data[SEAL_BYTES:]
    if data[: len(SEAL_MAGIC)] != SEAL_MAGIC or blake3.blake3(frame).digest(length=16) != data[8:SEAL_BYTES]:
        raise ShardDamaged(f"{where} is damaged: its bytes do not have their digest; fetch it from a good copy")
    return decompress(frame, max_bytes, where)


def decompress(frame: bytes | memoryview, max_bytes: int, where: str, max_ratio: int = MAX_RATIO) -> bytes:
    """What exactly one zstd frame, with its content size in its header, unfolds to. Raises ShardDamaged.

    Nothing is unfolded that claims more than `max_bytes`, or more than `max_ratio` times its size (and a MiB), and
    nothing beyond what a frame claims: a decoder that is not told where to stop unfolds it all before it objects.
    """
    try:
        size = zstandard.get_frame_parameters(frame).content_size
        if size == zstandard.CONTENTSIZE_UNKNOWN or size > min(max_bytes, max_ratio * len(frame) + (1 << 20)):
            raise ShardDamaged(
                f"{where}: a zstd frame claims to hold {size} bytes, more than expected; fetch it from a good copy"
            )
        if size == 0:
            return b""
        raw = zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ShardDamaged(f"{where}: not one whole zstd frame ({error}); fetch it from a good copy") from None
    if len(raw) != size:
        raise ShardDamaged(f"{where}: wanted one whole zstd frame of {size} bytes; fetch it from a good copy")
    return raw


def decompress_block(frame: bytes | memoryview, tar_bytes: int, where: str) -> bytes:
    """A block of a `.tar.zst` shard: the frame must unfold to exactly the bytes that the (checked) index says."""
    raw = decompress(frame, tar_bytes, where, max_ratio=1 << 40)
    if len(raw) != tar_bytes:
        raise ShardDamaged(f"{where}: a frame holds {len(raw)} bytes, the index says {tar_bytes}")
    return raw


def encode_omitted(omitted: dict[int, Iterable[int]]) -> bytes:
    """A file of the column `omitted`: position of a shard in the manifest -> ordinals within the shard."""
    rows = [(shard, sorted(set(ordinals))) for shard, ordinals in sorted(omitted.items())]
    rows = [(shard, ordinals) for shard, ordinals in rows if ordinals]
    packed = tuple(struct.pack(f"<{len(ordinals)}I", *ordinals) for _, ordinals in rows)
    column = OmittedColumn(shards=tuple(shard for shard, _ in rows), ordinals=packed)
    return COLUMN_MAGIC + msgspec.msgpack.encode(column)


def decode_omitted(data: bytes, where: str) -> dict[int, tuple[int, ...]]:
    """The inverse. Raises ShardDamaged."""
    if not data.startswith(COLUMN_MAGIC):
        raise ShardDamaged(f"{where}: is no file of columns")
    try:
        column = msgspec.msgpack.decode(data[len(COLUMN_MAGIC) :], type=OmittedColumn)
    except UNREADABLE as error:
        raise ShardDamaged(f"{where}: cannot be decoded: {error}") from None
    found = {}
    for shard, packed in zip(column.shards, column.ordinals, strict=False):
        if len(packed) % 4:
            raise ShardDamaged(f"{where}: the ordinals of shard {shard} are cut short")
        found[shard] = struct.unpack(f"<{len(packed) // 4}I", packed)
    if encode_omitted(dict(found)) != data:
        raise ShardDamaged(f"{where}: is not in canonical form")
    return found


def encode_split(splits: Mapping[int, Sequence[str]]) -> bytes:
    """A file of the column `split`: position of a shard in the manifest -> each stored sample's split, or `""`.

    Raises ValueError for more than 255 splits.
    """
    used = sorted({word for words in splits.values() for word in words if word}, key=str.encode)
    if len(used) > MOST_SPLITS:
        raise ValueError(f"{len(used)} splits; a column has room for {MOST_SPLITS}")
    numbers = {"": 0} | {word: 1 + at for at, word in enumerate(used)}
    rows = [(shard, bytes(map(numbers.__getitem__, words))) for shard, words in sorted(splits.items())]
    rows = [(shard, packed) for shard, packed in rows if any(packed)]
    shards, values = tuple(shard for shard, _ in rows), tuple(packed for _, packed in rows)
    return COLUMN_MAGIC + msgspec.msgpack.encode(SplitColumn(words=tuple(used), shards=shards, values=values))


def decode_split(data: bytes, where: str) -> SplitColumn:
    """The inverse. Raises ShardDamaged."""
    if not data.startswith(COLUMN_MAGIC):
        raise ShardDamaged(f"{where}: is no file of columns")
    try:
        column = msgspec.msgpack.decode(data[len(COLUMN_MAGIC) :], type=SplitColumn)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ShardDamaged(f"{where}: cannot be decoded: {error}") from None
    words = [word.encode() for word in column.words]
    ascending = _ascends(column.shards) and _ascends(words)
    used: set[int] = set().union(*column.values)
    if (
        column.format != FORMAT
        or not ascending
        or min(column.shards, default=0) < 0
        or len(column.shards) != len(column.values)
        or not all(any(packed) for packed in column.values)
        or used - {0} != set(range(1, len(words) + 1))
        or b"" in words
        or COLUMN_MAGIC + msgspec.msgpack.encode(column) != data
    ):
        raise ShardDamaged(f"{where}: is not in canonical form")
    return column


def read_split(store: ByteStore, manifest: Manifest) -> SplitColumn | None:
    """Which split each sample is in, where this version says so; the digest is checked."""
    for column in manifest.columns:
        if column.name == SPLIT:
            return decode_split(read_column(store, column), column_path(column.file.digest))
    return None


def read_columns(store: ByteStore, manifest: Manifest) -> dict[int, tuple[int, ...]]:
    """Which ordinals each shard (by position in the manifest) leaves out of this version; the digest is checked.

    Other columns are not read: who opens a dataset does not need them, and `reasons` may be long.
    """
    omitted: dict[int, tuple[int, ...]] = {}
    for column in manifest.columns:
        if column.name == OMITTED:
            omitted = decode_omitted(read_column(store, column), column_path(column.file.digest))
    return omitted


def read_column(store: ByteStore, column: ColumnRef) -> bytes:
    """The bytes of a file of columns, checked against its digest."""
    return read_checked(store, column_path(column.file.digest), column.file)


def read_checked(store: ByteStore, path: str, ref: FileRef) -> bytes:
    """A whole small file, checked against its digest. Raises ShardDamaged, FileMissing, StorageFailed."""
    data = store.read(path, ref.bytes)
    digest = blake3.blake3(data).hexdigest()
    if len(data) != ref.bytes or digest != ref.digest:
        raise ShardDamaged(f"{store.url}/{path}: {len(data)} bytes with digest {digest}; wanted {ref.bytes} bytes")
    return data


def encode_dead_letters(letters: Iterable[DeadLetter]) -> bytes:
    """A file of dead letters: one line of canonical JSON each, as one zstd frame."""
    raw = b"".join(canonical(letter) + b"\n" for letter in letters)
    return zstandard.ZstdCompressor(level=9, write_checksum=True, write_content_size=True).compress(raw)


def decode_dead_letters(data: bytes, where: str, max_bytes: int = MAX_MANIFEST_BYTES) -> tuple[DeadLetter, ...]:
    """The inverse. Raises ShardDamaged."""
    raw = decompress(data, max_bytes, where)
    return tuple(_decode(line, DeadLetter, where) for line in raw.splitlines())


def read_dead_letters(store: ByteStore, ref: FileRef) -> tuple[DeadLetter, ...]:
    """The rows that were refused, from one file that the manifest names."""
    path = dead_letter_path(ref.digest)
    return decode_dead_letters(read_checked(store, path, ref), f"{store.url}/{path}")


def _decode(data: bytes, kind: type[T], where: str) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except UNREADABLE as error:
        if _format_of(data) > FORMAT:
            raise ShardDamaged(f"{where}: of a newer format than {FORMAT}, the last known; update shardkit") from None
        raise ShardDamaged(f"{where} is damaged: {error}; fetch it from a good copy") from None


class _AnyFormat(msgspec.Struct):
    format: int = FORMAT


def _format_of(data: bytes) -> int:
    try:
        return msgspec.json.decode(data, type=_AnyFormat).format
    except UNREADABLE:
        return FORMAT


def _ascends(values: Sequence[int] | Sequence[bytes]) -> bool:
    return all(a < b for a, b in itertools.pairwise(values))  # type: ignore[operator]


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(letter in "0123456789abcdef" for letter in text)
