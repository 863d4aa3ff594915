"""Publishing on a local disk: in which order files get their final names, so that no crash loses or dangles.

Here: the lock, linking what was staged, commits, versions, the pointer.
Elsewhere: single calls (fs.py), what is done after a crash and what may be removed (recovery.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import blake3
import msgspec

from shardkit.errors import Locked, ShardDamaged, StorageFailed
from shardkit.store import fs
from shardkit.store.layout import (
    BUILD_FOLDER,
    FORMAT,
    POINTER_PATH,
    UNREADABLE,
    ColumnRef,
    Commit,
    DeadLetter,
    FileRef,
    Manifest,
    Pointer,
    canonical,
    column_path,
    dead_letter_path,
    index_path,
    shard_path,
    version_path,
)
from shardkit.store.manifest import (
    OMITTED,
    SPLIT,
    encode_dead_letters,
    encode_omitted,
    encode_pointer,
    encode_split,
    encode_version,
)
from shardkit.store.shard import StagedShard

LANE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", re.ASCII)
PROBES, PROBE_SECONDS = 5, 0.01
"""A lock that is held is tried again so often: `status` takes a shared one for an instant, a builder keeps it."""
COMMIT_NAME = re.compile(r"(0|[1-9][0-9]*)\.ckpt", re.ASCII)


@contextmanager
def lock(root: Path) -> Iterator[None]:
    """Hold the one lock of the dataset in `root`; makes the folder where it is missing.

    The lock dies with this process, whatever kills it; children that are spawned do not inherit it.
    Raises Locked naming the holder, StorageFailed.
    """
    folder = root / BUILD_FOLDER
    fs.make_folders(folder)
    path = folder / "lock"
    fd = fs.open_lock(path)
    try:
        _take(fd, path, root)
        fs.overwrite(fd, path, f"pid {os.getpid()}: {_command()}\n".encode())
        yield
    finally:
        os.close(fd)


def publish_file(staged: Path, final: Path) -> bool:
    """Give a staged file, already forced to the disk and read back, its final name; True where it is new.

    A good file that is there already is kept, one with other bytes is replaced. The name is forced to the disk.
    """
    fs.make_folders(final.parent)
    new = fs.link(staged, final)
    if new or _same(staged, final):
        fs.unlink(staged)
    else:
        fs.replace(staged, final)
    fs.sync_folder(final.parent)
    return new


def publish_bytes(final: Path, data: bytes) -> bool:
    """Stage `data` beside `final`, force it to the disk, read it back, and publish it."""
    fs.make_folders(final.parent)
    staged = final.parent / f"{fs.STAGE}{final.name}-{os.getpid()}"
    fs.write_file(staged, data)
    return publish_file(staged, final)


def publish_shard(root: Path, staged: StagedShard) -> None:
    """Link a staged shard, then its index. Only the holder of the lock calls this."""
    publish_file(staged.shard, root / shard_path(staged.entry))
    publish_file(staged.index, root / index_path(staged.entry.index.digest))


def publish_dead_letters(root: Path, letters: Iterable[DeadLetter]) -> FileRef:
    """Store refused rows; the reference goes into the lane's next commit."""
    data = encode_dead_letters(letters)
    return _publish_addressed(root, data, dead_letter_path)


def publish_omitted(root: Path, omitted: Mapping[int, Iterable[int]]) -> ColumnRef:
    """Store the column `omitted` of a version: position of a shard in the manifest -> ordinals left out."""
    return publish_column(root, OMITTED, encode_omitted(dict(omitted)))


def publish_split(root: Path, splits: Mapping[int, Sequence[str]]) -> ColumnRef:
    """Store the column `split` of a version: position of a shard in the manifest -> each stored sample's split."""
    return publish_column(root, SPLIT, encode_split(splits))


def publish_column(root: Path, name: str, encoded: bytes) -> ColumnRef:
    """Store a file of columns of a version. Raises StorageFailed."""
    return ColumnRef(name=name, file=_publish_addressed(root, encoded, column_path))


def write_commit(root: Path, commit: Commit) -> None:
    """The commit point: whatever it names must be published. Commits of a lane are numbered from 0 without gaps."""
    publish_bytes(commit_path(root, commit.lane, commit.number), encode_commit(commit))


def read_commits(root: Path, lane: str) -> tuple[Commit, ...]:
    """The lane's commits from 0 on; a missing or damaged one ends the list. Raises StorageFailed."""
    commits: list[Commit] = []
    while True:
        path = commit_path(root, lane, len(commits))
        try:
            commits.append(decode_commit(b"".join(fs.read_chunks(path)), str(path)))
        except (FileNotFoundError, ShardDamaged):
            return tuple(commits)
        if (commits[-1].lane, commits[-1].number) != (lane, len(commits) - 1):
            return tuple(commits[:-1])


def commit_path(root: Path, lane: str, number: int) -> Path:
    """Where a commit lies."""
    if not LANE_NAME.fullmatch(lane):
        raise ValueError(f"lane name {lane!r} cannot name a folder")
    return root / BUILD_FOLDER / "lanes" / lane / f"{number}.ckpt"


def encode_commit(commit: Commit) -> bytes:
    """One line with the BLAKE3-256 of what follows it in hex, then canonical JSON."""
    body = canonical(commit)
    return blake3.blake3(body).hexdigest().encode() + b"\n" + body


def decode_commit(data: bytes, where: str) -> Commit:
    """The inverse. Raises ShardDamaged (torn, altered, of a newer format)."""
    digest, _, body = data.partition(b"\n")
    if blake3.blake3(body).hexdigest().encode() != digest:
        raise ShardDamaged(f"{where} is damaged: its content does not have its digest")
    try:
        commit = msgspec.json.decode(body, type=Commit)
    except UNREADABLE as error:
        raise ShardDamaged(f"{where} cannot be decoded: {error}") from None
    if commit.format > FORMAT:
        raise ShardDamaged(f"{where}: format {commit.format}, this version reads up to {FORMAT}; update shardkit")
    return commit


def publish_version(root: Path, manifest: Manifest) -> str:
    """Store a version, then point manifest.json at it; the version's digest. Everything it names is published."""
    digest, size, data = encode_version(manifest)
    publish_bytes(root / version_path(digest), data)
    point_at(root, Pointer(version=digest, bytes=size))
    return digest


def point_at(root: Path, pointer: Pointer) -> None:
    """Replace manifest.json, the only file that ever changes, atomically."""
    staged = root / f"{fs.STAGE}pointer-{os.getpid()}"
    fs.write_file(staged, encode_pointer(pointer))
    fs.replace(staged, root / POINTER_PATH)
    fs.sync_folder(root)


def _publish_addressed(root: Path, data: bytes, path: Callable[[str], str]) -> FileRef:
    digest = blake3.blake3(data).hexdigest()
    publish_bytes(root / path(digest), data)
    return FileRef(digest=digest, bytes=len(data))


def _take(fd: int, path: Path, root: Path) -> None:
    try:
        for _ in range(PROBES):
            with contextlib.suppress(BlockingIOError):
                return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            time.sleep(PROBE_SECONDS)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = path.read_bytes()[:500].decode("utf-8", "replace").strip() or "an unknown process"
        raise Locked(
            f"{root} is being built by another process ({holder}); wait until it has ended, or stop it, and run again"
        ) from None
    except OSError as error:
        raise StorageFailed(f"cannot lock {path}: {error.strerror}; use a local disk") from error


def _command() -> str:
    """Program and subcommand; further arguments may hold secrets."""
    return " ".join([Path(sys.argv[0]).name, *(word for word in sys.argv[1:2] if word.isalnum())])


def _same(staged: Path, final: Path) -> bool:
    if fs.size_of(staged) != fs.size_of(final):
        return False
    return all(ours == theirs for ours, theirs in zip(fs.read_chunks(staged), fs.read_chunks(final), strict=True))
