"""Where a dataset's bytes are read from: local folders and, through one table of schemes, servers.

Here: the store's interface, `open_store`, the local store.
Elsewhere: http and https (http.py), s3, gs and az (objects.py), hf (hub.py); what the bytes mean (manifest.py,
index.py).
"""

from __future__ import annotations

import os
import resource
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from shardkit.errors import FileMissing, NotADataset, ShardDamaged, SpecError, StorageFailed
from shardkit.store.ranges import GAP_BYTES
from shardkit.store.scrub import scrub

MAX_OPEN_FILES = max(32, min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8))
"""Opening a file costs half of reading 50 KB from it, so that as many stay open as leave the process enough."""
LARGE_BYTES = 1 << 24
"""Longer reads are compared with the file's size first, before memory is taken for them."""


class ByteStore(Protocol):
    """Reads files of one dataset by their relative path. Safe to share between threads and to pickle to a process."""

    @property
    def url(self) -> str:
        """The folder or URL, without credentials and query: for messages."""
        ...

    @property
    def is_remote(self) -> bool:
        """Whether bytes come over a network: then every member's digest is checked."""
        ...

    @property
    def folder(self) -> Path | None:
        """The local folder, where there is one."""
        ...

    @property
    def requests(self) -> int:
        """How many reads were made since the store was opened."""
        ...

    @property
    def bytes_read(self) -> int:
        """How many bytes they gave."""
        ...

    def read(self, path: str, max_bytes: int) -> bytes:
        """A whole file. Raises FileMissing, ShardDamaged (more than `max_bytes`), StorageFailed."""
        ...

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`. Raises FileMissing, ShardDamaged (too short), StorageFailed."""
        ...

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]], gap_bytes: int = GAP_BYTES) -> list[bytes]:
        """Several (offset, length) ranges of a file, each exact; over a network, neighbours travel in one request.

        Ranges come in any order and may overlap; up to `gap_bytes` unwanted bytes between two are fetched with them.
        """
        ...

    def size(self, path: str) -> int:
        """How many bytes a file has. Raises FileMissing, StorageFailed."""
        ...

    def list_files(self, folder: str = "", *, deep: bool = True) -> list[str]:
        """The paths of the files in a folder, sorted by code point; those of its subfolders too, or not `deep`:
        only what lies directly in it, where the paths of subfolders end with a slash.

        A folder that is not there has no files. Raises SpecError where the store cannot list (http), StorageFailed.
        """
        ...


@runtime_checkable
class Tagged(Protocol):
    """A store that can tell whether a file is another one than before, without reading it."""

    def tag(self, path: str) -> str:
        """What changes with a file's content: the server's ETag or time, or a local file's; empty where unknown.

        Raises FileMissing, StorageFailed.
        """
        ...


def open_store(url: str | Path) -> ByteStore:
    """The store behind a folder's path or a URL; nothing is read yet, but a local folder must be there.

    Raises SpecError (unknown scheme), NotADataset (no such folder).
    """
    text = str(url)
    scheme = urlsplit(text).scheme.lower() if "://" in text else ""
    opener = SCHEMES.get(scheme)
    if opener is None:
        known = ", ".join(f"{name}://" for name in sorted(SCHEMES) if name)
        raise SpecError(f"cannot read {scrub(text)}: found scheme {scheme!r}, wanted a folder or one of {known}")
    return opener(text)


class LocalStore:
    """A folder on this machine, read by pread on descriptors that are kept open."""

    is_remote = False

    def __init__(self, folder: Path) -> None:
        self.folder: Path | None = folder
        self._root = folder
        self._begin()

    @property
    def url(self) -> str:
        """The folder's path."""
        return str(self._root)

    def read(self, path: str, max_bytes: int) -> bytes:
        """See ByteStore."""
        file = self._open(path)
        size = os.fstat(file.fd).st_size
        if size > max_bytes:
            raise ShardDamaged(f"{self._root / path}: has {size} bytes, at most {max_bytes} are expected")
        return self._pread(file, path, 0, size)

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        """See ByteStore."""
        return self._pread(self._open(path), path, offset, length)

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]], gap_bytes: int = 0) -> list[bytes]:
        """See ByteStore; nothing is joined, since a read costs less here than copying."""
        del gap_bytes
        return [self.read_range(path, offset, length) for offset, length in ranges]

    def size(self, path: str) -> int:
        """See ByteStore."""
        file = self._open(path)
        return os.fstat(file.fd).st_size

    def tag(self, path: str) -> str:
        """See Tagged: when the file was last written, in nanoseconds. Raises FileMissing where it is no plain file."""
        try:
            found = (self._root / path).stat()
        except (FileNotFoundError, NotADirectoryError):
            raise FileMissing(f"{self._root / path} is missing; check the path") from None
        except OSError as error:
            raise StorageFailed(f"cannot look at {self._root / path}: {error.strerror}; check its folder") from error
        if not stat.S_ISREG(found.st_mode):
            raise FileMissing(f"{self._root / path} is no plain file; give the path of one")
        return f"{found.st_mtime_ns}"

    def list_files(self, folder: str = "", *, deep: bool = True) -> list[str]:
        """See ByteStore. Links to folders are not followed when `deep`."""
        start = self._root / folder
        try:
            found = list(_walk(start) if deep else _scan(start))
        except OSError as error:
            raise StorageFailed(f"cannot list {start}: {error.strerror}; check its permissions") from error
        base = f"{folder.rstrip('/')}/" if folder else ""
        return sorted(base + name for name in found)

    def _pread(self, file: OpenFile, path: str, offset: int, length: int) -> bytes:
        try:
            if length > LARGE_BYTES and offset + length > os.fstat(file.fd).st_size:
                raise ShardDamaged(f"{self._root / path}: is cut short: it has no {length} bytes at {offset}")
            data = os.pread(file.fd, length, offset)
            while len(data) < length:
                more = os.pread(file.fd, length - len(data), offset + len(data))
                if not more:
                    raise ShardDamaged(
                        f"{self._root / path}: is cut short: {length} bytes wanted at {offset}, {len(data)} found; "
                        "run `shardkit verify`"
                    )
                data += more
        except OSError as error:
            raise StorageFailed(f"cannot read {self._root / path}: {error.strerror}; check the disk") from error
        self.requests += 1
        self.bytes_read += length
        return data

    def __getstate__(self) -> Path:
        return self._root

    def __setstate__(self, folder: Path) -> None:
        self.folder = self._root = folder
        self._begin()

    def _begin(self) -> None:
        self.requests = 0
        self.bytes_read = 0
        self._files: OrderedDict[str, OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def open_file(self, path: str) -> OpenFile:
        """A file's descriptor, open as long as somebody holds what is returned. Raises FileMissing, StorageFailed."""
        file = self._files.get(path)
        return self._open(path) if file is None else file

    def _open(self, path: str) -> OpenFile:
        with self._lock:
            file = self._files.get(path)
            if file is not None:
                self._files.move_to_end(path)
                return file
        try:
            file = OpenFile(self._root / path)
        except (FileNotFoundError, NotADirectoryError):
            raise FileMissing(f"{self._root / path} is missing; run `shardkit verify {self._root}`") from None
        except OSError as error:
            raise StorageFailed(f"cannot open {self._root / path}: {error.strerror}; check its permissions") from error
        if path == "manifest.json":
            return file  # replaced by another file when a new version is published
        with self._lock:
            self._files[path] = file
            while len(self._files) > MAX_OPEN_FILES:
                self._files.popitem(last=False)
        return file


def _scan(folder: Path) -> Iterator[str]:
    """What lies directly in a folder; the names of folders with a slash."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry.name + "/" * _is_folder(entry) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or leads to one; a link that leads nowhere (to itself, say) does not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _walk(start: Path) -> Iterator[str]:
    """All files below a folder."""
    for folder, _, names in os.walk(start, onerror=_raise_unless_absent):
        base = os.path.relpath(folder, start)
        yield from (name if base == "." else f"{base}/{name}" for name in names)


def _raise_unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


class OpenFile:
    """A descriptor that is closed when the last user lets go of it, so that no thread reads from a reused number."""

    __slots__ = ("fd",)

    def __init__(self, path: Path) -> None:
        self.fd = -1
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def _open_local(text: str) -> ByteStore:
    path = Path(unquote(urlsplit(text).path) if "://" in text else text).expanduser()
    if not path.is_dir():
        found = "a file" if path.exists() else "nothing"
        raise NotADataset(f"{path} is no dataset: found {found}, wanted a folder with manifest.json; check the path")
    return LocalStore(path.absolute())


def _open_http(text: str) -> ByteStore:
    from shardkit.store.http import HttpStore

    return HttpStore(text)


def _open_objects(text: str) -> ByteStore:
    from shardkit.store.objects import ObjectStore

    return ObjectStore(text)


def _open_hub(text: str) -> ByteStore:
    from shardkit.store.hub import HubStore

    return HubStore(text)


SCHEMES: dict[str, Callable[[str], ByteStore]] = {
    "": _open_local,
    "file": _open_local,
    "http": _open_http,
    "https": _open_http,
    "s3": _open_objects,
    "gs": _open_objects,
    "az": _open_objects,
    "hf": _open_hub,
}
"""A new kind of store is one function and one line here."""


def require_dataset_folder(folder: Path) -> None:
    """Make sure that a local folder holds a dataset, before it is served. Raises NotADataset."""
    store = _open_local(str(folder))
    try:
        store.size("manifest.json")
    except FileMissing:
        raise NotADataset(
            f"{folder} is no dataset: found no manifest.json in it; give the folder that holds manifest.json, or "
            "finish its build by running `shardkit build` again"
        ) from None
