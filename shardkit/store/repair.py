"""Repairing a dataset in a folder: damaged files fetched again from a mirror, indexes rebuilt from their shards.

Here: which files are not what the version names, and making them so.
Elsewhere: finding damage inside of files (verify.py), giving files their names (publish.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

import blake3
import msgspec
import zstandard

from shardkit.errors import FileMissing, NotADataset, ShardDamaged, ShardkitError, StorageFailed
from shardkit.records.row import Member, Prepared
from shardkit.records.sample import decode_sample
from shardkit.store import fs, tar
from shardkit.store.layout import (
    POINTER_PATH,
    FileRef,
    Manifest,
    ShardEntry,
    index_path,
    shard_path,
    version_path,
)
from shardkit.store.manifest import (
    MAX_POINTER_BYTES,
    MAX_VERSION_BYTES,
    decode_version,
    encode_pointer,
    read_manifest,
    read_pointer,
)
from shardkit.store.publish import lock, publish_bytes, publish_file
from shardkit.store.recovery import files_of_manifest
from shardkit.store.shard import ShardWriter, digest_of_file
from shardkit.store.urls import ByteStore, LocalStore

PIECE_BYTES = 4 << 20
NOT_OURS = "a tar that others made is not ours to write; put back a good copy, or run `shardkit index` again to take it"

How = Literal["fetched", "rebuilt"]


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """One file that is whole again: `fetched` from a mirror (`source` is its URL) or `rebuilt` from its shard."""

    path: str
    how: How
    source: str = ""


class Unrepaired(msgspec.Struct, frozen=True, kw_only=True):
    """One file that is still damaged or missing, and why it could not be had."""

    path: str
    reason: str


class RepairReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was looked at and done. `checked` counts files, `bytes` what was read of them.

    Tars that others made are looked at on this machine's disks only, and never written.
    """

    version: str
    checked: int
    bytes: int
    repaired: tuple[Repaired, ...]
    left: tuple[Unrepaired, ...]


def repair(
    root: Path,
    mirrors: Sequence[ByteStore] = (),
    *,
    version: str | None = None,
    dry_run: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> RepairReport:
    """Make every file that a version names what the version says; the bytes come from `mirrors`, in their order.

    Every file is read and compared with its digest; good ones are left alone. A new file gets its name only when its
    bytes have the digest: a mirror cannot bring damage in. `dry_run` reports what is damaged and changes nothing.
    Raises NotADataset (also where pointer or version are damaged and no mirror has them), Locked, StorageFailed.
    """
    if dry_run:
        return _Repair(root, mirrors, False, on_progress).run(version)
    with lock(root):
        return _Repair(root, mirrors, True, on_progress).run(version)


class _Repair:
    def __init__(
        self, root: Path, mirrors: Sequence[ByteStore], writes: bool, on_progress: Callable[[int, int], None] | None
    ) -> None:
        self._root, self._mirrors, self._writes = root, mirrors, writes
        self._store = LocalStore(root)
        self._on_progress = on_progress
        self._repaired: list[Repaired] = []
        self._left: list[Unrepaired] = []
        self._elsewhere: set[str] = set()
        self._done = self._total = self._checked = 0

    def run(self, version: str | None) -> RepairReport:
        pointer, digest, manifest = self._open(version)
        files = dict(files_of_manifest(manifest))
        self._elsewhere = {entry.url for entry in manifest.shards if entry.url}
        here = {path: ref for path, ref in files.items() if path not in self._elsewhere or "://" not in path}
        self._total = sum(ref.bytes for ref in here.values())
        damaged = {path: ref for path, ref in here.items() if not self._is_good(path, ref)}
        for entry in manifest.shards:
            self._repair_entry(entry, damaged)
        for path, ref in damaged.items():
            self._fetch_or_note(path, ref)
        self._point(pointer)
        return RepairReport(
            version=digest,
            checked=self._checked,
            bytes=self._done,
            repaired=tuple(self._repaired),
            left=tuple(self._left),
        )

    def _open(self, version: str | None) -> tuple[bytes, str, Manifest]:
        """The version to repair, and the pointer that names it (none where the user named the version).

        A pointer has no digest of its own: one that names a version that nobody has is taken for damaged.
        """
        if version is not None:
            return b"", version, self._manifest(version)
        reason: ShardkitError = NotADataset("nothing was tried")
        for store in (self._store, *self._mirrors):
            try:
                pointer = read_pointer(store)
                return encode_pointer(pointer), pointer.version, self._manifest(pointer.version)
            except ShardkitError as error:
                reason = error
        raise NotADataset(f"{self._root}: no version can be had ({reason}); name one by --version, or give a mirror")

    def _manifest(self, digest: str) -> Manifest:
        path = version_path(digest)
        try:
            return read_manifest(self._store, digest)[1]
        except (NotADataset, ShardDamaged, FileMissing, StorageFailed) as error:
            reason: ShardkitError = error
        for mirror in self._mirrors:
            try:
                data = mirror.read(path, MAX_VERSION_BYTES)
                manifest = decode_version(data, digest, f"{mirror.url}/{path}")
            except ShardkitError as error:
                reason = error
                continue
            if self._writes:
                publish_bytes(self._root / path, data)
            self._repaired.append(Repaired(path=path, how="fetched", source=mirror.url))
            return manifest
        raise NotADataset(f"{self._root}: version {digest} cannot be had: {reason}")

    def _point(self, pointer: bytes) -> None:
        """Put the pointer in its place, last: what it names is there."""
        try:
            same = not pointer or self._store.read(POINTER_PATH, MAX_POINTER_BYTES) == pointer
        except ShardkitError:
            same = False
        if not same:
            self._repaired.append(Repaired(path=POINTER_PATH, how="fetched"))
            if self._writes and not self._left:
                staged = self._root / f"{fs.STAGE}pointer-{os.getpid()}"
                fs.write_file(staged, pointer)
                fs.replace(staged, self._root / POINTER_PATH)
                fs.sync_folder(self._root)

    def _repair_entry(self, entry: ShardEntry, damaged: dict[str, FileRef]) -> None:
        """The shard first; its index is rebuilt from it where both are here, else fetched."""
        shard, index = shard_path(entry), index_path(entry.index.digest)
        whole = shard not in damaged or self._fetch_or_note(shard, damaged.pop(shard))
        if index in damaged and self._writes and whole and self._rebuild(entry):
            del damaged[index]

    def _is_good(self, path: str, ref: FileRef) -> bool:
        """Whether a file has its digest."""
        self._checked += 1
        try:
            good = (
                (self._root / path).is_file()
                and fs.size_of(self._root / path) == ref.bytes
                and digest_of_file(self._root / path) == ref
            )
        except (FileNotFoundError, StorageFailed):
            good = False
        self._done += ref.bytes
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)
        return good

    def _fetch_or_note(self, path: str, ref: FileRef) -> bool:
        """Fetch a file, or note that it is left as it is; whether it is whole now."""
        if path in self._elsewhere:
            self._left.append(Unrepaired(path=path, reason=NOT_OURS))
            return False
        if not self._writes:
            self._left.append(Unrepaired(path=path, reason="damaged or missing"))
            return False
        again = ", or run `shardkit index` again" if self._elsewhere else ""
        reason = f"no mirror was given; name one by --mirror{again}"
        for mirror in self._mirrors:
            try:
                self._fetch(mirror, path, ref)
            except _NoCopy as error:
                reason = str(error)
            else:
                self._repaired.append(Repaired(path=path, how="fetched", source=mirror.url))
                return True
        self._left.append(Unrepaired(path=path, reason=reason))
        return False

    def _fetch(self, mirror: ByteStore, path: str, ref: FileRef) -> None:
        """Copy a file in pieces under a temporary name; it gets its own when its digest is right."""
        final = self._root / path
        fs.make_folders(final.parent)
        staged = final.parent / f"{fs.STAGE}repair-{os.getpid()}-{final.name}"
        digest = blake3.blake3()
        with fs.NewFile(staged) as file:
            for at in range(0, ref.bytes, PIECE_BYTES):
                piece = _read(mirror, path, at, min(PIECE_BYTES, ref.bytes - at))
                digest.update(piece)
                file.write(piece)
            if digest.hexdigest() != ref.digest:
                raise _NoCopy(f"{mirror.url}/{path} has digest {digest.hexdigest()}, wanted {ref.digest}")
            file.sync()
            file.close()
            if digest_of_file(staged) != ref:
                raise fs.read_back_differs(staged)
            publish_file(staged, final)

    def _rebuild(self, entry: ShardEntry) -> bool:
        """Write the shard's samples once more, which makes its index; False where that is another one."""
        if entry.url:
            return False
        writer = ShardWriter(
            self._root,
            source=entry.source,
            lane=entry.lane,
            ordinal=entry.ordinal,
            codec=entry.codec,
            block_samples=entry.block_samples,
        )
        try:
            for prepared in _samples(self._root / shard_path(entry), entry.codec == "tar.zst"):
                writer.add(prepared)
            staged = writer.seal()
        except StorageFailed:
            raise
        except ShardkitError:
            return False
        finally:
            writer.abandon()  # only the index is wanted; its samples are in the shard that is there
        if staged.entry != entry:
            fs.unlink(staged.index)  # another release of zstd makes other frames: only a mirror has this index
            return False
        publish_file(staged.index, self._root / index_path(entry.index.digest))
        self._repaired.append(Repaired(path=index_path(entry.index.digest), how="rebuilt"))
        return True


class _NoCopy(Exception):
    """A mirror does not have a good copy."""


def _read(mirror: ByteStore, path: str, offset: int, length: int) -> bytes:
    try:
        return mirror.read_range(path, offset, length)
    except ShardkitError as error:
        raise _NoCopy(str(error)) from None


def _samples(path: Path, packed: bool) -> Iterator[Prepared]:
    """The samples of a shard of ours, front to back."""
    with path.open("rb") as file:
        if packed:
            stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            yield from _spans(stream, str(path))
        else:
            yield from _spans(file, str(path))


def _spans(stream: BinaryIO, where: str) -> Iterator[Prepared]:
    parts = bytearray()
    while (header := _take(stream, tar.BLOCK, where)).strip(b"\0"):
        if parts and header[: tar.KEY_CHARACTERS] != parts[: tar.KEY_CHARACTERS]:
            yield _prepared(parts, where)
            parts = bytearray()
        octal = header[124:135]
        if not octal.isdigit():
            raise ShardDamaged(f"{where}: there is no header of ours")
        size = int(octal, 8)
        parts += header
        parts += _take(stream, size + -size % tar.BLOCK, where)
    if parts:
        yield _prepared(parts, where)


def _prepared(span: bytearray, where: str) -> Prepared:
    view = memoryview(bytes(span))
    _, members = tar.walk_span(view, where)
    data = [bytes(view[member.offset : member.offset + member.size]) for member in members]
    media = tuple(Member(name=member.name, data=held) for member, held in zip(members[1:], data[1:], strict=True))
    return Prepared(sample=decode_sample(data[0]), members=media)


def _take(stream: BinaryIO, size: int, where: str) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise ShardDamaged(f"{where}: is cut short")
    return data
