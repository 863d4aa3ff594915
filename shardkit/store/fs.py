"""The one module through which everything that writes goes.

Here: creating, writing, syncing, linking and removing files, each step visible to an observer.
Elsewhere: the order in which they are done (publish.py), injected faults and recorded logs (faults.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import msgspec

from shardkit.errors import StorageFailed

Kind = Literal["mkdir", "create", "write", "fsync", "truncate", "link", "unlink", "rmdir", "replace", "fsync_folder"]
Buffer = bytes | bytearray | memoryview
T = TypeVar("T")
READ_BYTES = 1 << 20
STAGE = ".stage-"
"""Every temporary file's name begins so; recovery removes them under the lock."""

_NEXT_STEP = {
    errno.ENOSPC: "free space on that disk and run the same command again",
    errno.EDQUOT: "free space within the quota and run the same command again",
    errno.EROFS: "choose a folder that can be written to",
    errno.EACCES: "choose a folder that can be written to",
    errno.EPERM: "choose a folder that can be written to, on a file system with hard links",
    errno.EIO: "check the disk, then run the same command again",
}


class Operation(msgspec.Struct, frozen=True):
    """One mutating call: what, on which path, with which data or target (`link`, `replace`)."""

    kind: Kind
    path: str
    target: str = ""
    data: bytes = b""
    offset: int = 0


class Instead(msgspec.Struct, frozen=True):
    """A write that goes wrong: the data that the disk takes, and how many bytes it says that it took."""

    data: bytes
    claimed: int


class Observer(Protocol):
    """Sees every mutating call. Only tests set one; see faults.py."""

    def before(self, operation: Operation) -> Instead | None:
        """May raise OSError in place of the call. For a write: what is done instead, or None."""
        ...

    def after(self, operation: Operation) -> None:
        """The call succeeded; for a write, `data` is what the disk took."""
        ...


_observer: Observer | None = None


def observe(observer: Observer | None) -> Observer | None:
    """Set the observer of this process (None: nobody); returns the one before."""
    global _observer
    before, _observer = _observer, observer
    return before


class NewFile:
    """A file being written: created exclusively, position counted, never visible under its final name.

    Use `with`: an exception inside closes and removes it. `sync` and `close` end it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self._hinted = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = _run(Operation("create", str(path)), lambda: os.open(path, flags, 0o644))

    def write(self, data: Buffer) -> None:
        """Append all of `data`, however little the disk takes at a time. Raises StorageFailed."""
        left = memoryview(data)
        while left.nbytes:
            taken = self._write_some(left)
            self.bytes += taken
            left = left[taken:]

    def sync(self) -> None:
        """Force the bytes to the disk. Raises StorageFailed: never tried again, throw the file away."""
        _run(Operation("fsync", str(self.path)), lambda: os.fsync(self._fd))

    def start_write_back(self) -> None:
        """Let the disk begin to take what was written since the last call; a hint that may do nothing.

        `sync` is as necessary as before, but finds little left to do: on a fast disk it took half of the time.
        """
        start, self._hinted = self._hinted, self.bytes
        _sync_file_range(self._fd, start, self.bytes - start)

    def close(self) -> None:
        """Close the descriptor; harmless when closed already. Raises StorageFailed: some disks fail only here."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _guard("close", str(self.path), lambda: os.close(fd))

    def discard(self) -> None:
        """Close and remove the file; its failure to go is left to recovery."""
        with contextlib.suppress(StorageFailed):
            self.close()
        with contextlib.suppress(OSError, StorageFailed):
            unlink(self.path)

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _write_some(self, data: memoryview) -> int:
        if _observer is None:
            return _guard("write", str(self.path), lambda: os.write(self._fd, data))
        operation = Operation("write", str(self.path), data=bytes(data), offset=self.bytes)
        return _guard("write", str(self.path), lambda: self._write_observed(operation, _observer))

    def _write_observed(self, operation: Operation, observer: Observer) -> int:
        instead = observer.before(operation)
        given = operation.data if instead is None else instead.data
        written = os.write(self._fd, given)
        observer.after(msgspec.structs.replace(operation, data=given[:written]))
        return written if instead is None else instead.claimed


def write_file(path: Path, data: bytes) -> None:
    """Create `path` with `data`: written, forced to the disk, closed, read back and compared. Raises StorageFailed."""
    with NewFile(path) as file:
        file.write(data)
        file.sync()
        file.close()
        if b"".join(read_chunks(path)) != data:
            raise read_back_differs(path)


def read_back_differs(path: Path) -> StorageFailed:
    """The error for a file that does not hold what was written."""
    return StorageFailed(
        f"{path}: read back, it does not hold what was written; check the disk, then run the same command again"
    )


def link(source: Path, target: Path) -> bool:
    """Give `source` the second name `target`; False where the target exists already."""
    try:
        _run(Operation("link", str(source), str(target)), lambda: os.link(source, target), through=FileExistsError)
    except FileExistsError:
        return False
    return True


def unlink(path: Path) -> None:
    """Remove a name; one that is gone already is no error."""
    _run(Operation("unlink", str(path)), lambda: path.unlink(missing_ok=True))


def remove_tree(path: Path) -> None:
    """Remove a folder with all that is in it. Its absence is on the disk once its parent is synced."""
    for child in sorted(path.iterdir()):
        if child.is_dir() and not child.is_symlink():
            remove_tree(child)
        else:
            unlink(child)
    _run(Operation("rmdir", str(path)), lambda: path.rmdir())


def replace(source: Path, target: Path) -> None:
    """Rename `source` over `target`, atomically."""
    _run(Operation("replace", str(source), str(target)), lambda: source.replace(target))


def make_folders(path: Path) -> None:
    """Make a folder and its parents, and force each new name to the disk before the next is made in it."""
    if path.is_dir():
        return
    make_folders(path.parent)
    with contextlib.suppress(FileExistsError):
        _run(Operation("mkdir", str(path)), lambda: path.mkdir(), through=FileExistsError)
    if not path.is_dir():
        raise StorageFailed(f"cannot make the folder {path}: a file of that name is there; choose another folder")
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Force the names in a folder to the disk."""
    _run(Operation("fsync_folder", str(path)), lambda: _fsync_folder(path))


def open_lock(path: Path) -> int:
    """A descriptor of the lock file, made where it is missing, closed in children that are started."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    return _run(Operation("create", str(path)), lambda: os.open(path, flags, 0o644))


def overwrite(fd: int, path: Path, data: bytes) -> None:
    """Replace the content of an open small file, not forced to the disk (the lock's note of its holder)."""
    _run(Operation("truncate", str(path)), lambda: os.ftruncate(fd, 0))
    _run(Operation("write", str(path), data=data), lambda: os.pwrite(fd, data, 0))


def size_of(path: Path) -> int | None:
    """Bytes of a regular file; None where there is none. Raises StorageFailed."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StorageFailed(f"cannot look at {path}: {error.strerror}; {_advice(error)}") from error
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def read_chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a local file, piece by piece. Raises StorageFailed; a missing file is FileNotFoundError."""
    try:
        with path.open("rb") as file:
            while chunk := file.read(READ_BYTES):
                yield chunk
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StorageFailed(f"cannot read {path}: {error.strerror}; {_advice(error)}") from error


def read_pieces(path: Path) -> Iterator[memoryview]:
    """The same, through one buffer: each piece is valid until the next one is asked for.

    The buffer begins at a page: some processors copy four times slower to where the two sides' pages do not match.
    """
    buffer = memoryview(mmap.mmap(-1, READ_BYTES))
    try:
        with path.open("rb", buffering=0) as file:
            while taken := file.readinto(buffer):
                yield buffer[:taken]
    except OSError as error:
        raise StorageFailed(f"cannot read {path}: {error.strerror}; {_advice(error)}") from error


def _run(operation: Operation, call: Callable[[], T], through: type[OSError] | None = None) -> T:
    def observed() -> T:
        if _observer is None:
            return call()
        _observer.before(operation)
        result = call()
        _observer.after(operation)
        return result

    return _guard(operation.kind, operation.path, observed, through)


def _guard(kind: str, path: str, call: Callable[[], T], through: type[OSError] | None = None) -> T:
    try:
        return call()
    except OSError as error:
        if through is not None and isinstance(error, through):
            raise
        raise StorageFailed(f"cannot {kind} {path}: {error.strerror}; {_advice(error)}") from error


def _advice(error: OSError) -> str:
    return _NEXT_STEP.get(error.errno or 0, "mend that and run the same command again")


def _fsync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@functools.cache
def _libc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None, use_errno=True)
        library.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    except (OSError, AttributeError):  # not Linux, or a C library without it
        return None
    return library


def _sync_file_range(fd: int, offset: int, length: int) -> None:
    """Start writing a range of a file to the disk without waiting; it promises nothing, so failing is no error."""
    library = _libc()
    if library is not None:
        library.sync_file_range(fd, offset, length, 2)  # SYNC_FILE_RANGE_WRITE


def _observer_from_environment() -> None:
    """Tests of spawned processes set SHARDKIT_FAULTS; without it nothing is imported or observed."""
    setting = os.environ.get("SHARDKIT_FAULTS")
    if setting:
        from shardkit.store.faults import from_setting

        observe(from_setting(setting))


_observer_from_environment()
