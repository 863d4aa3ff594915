"""Walking a folder: its regular files in one fixed order.

Here: which folder a spec means, the order, links, names of version control that are left out.
Elsewhere: patterns (patterns.py), digests of what was found (listing.py).
"""

from __future__ import annotations

import os
import stat
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from shardkit.errors import SpecError

STDLIB = "python:stdlib"
SKIPPED_FOLDERS = frozenset({b".git", b".hg", b".svn", b"__pycache__"})
BUILD_LOCK = b".build/lock"
"""Where it is, a dataset is built: never input, or a target within its source would grow with each run."""
STDLIB_SKIPPED = frozenset({b"site-packages", b"dist-packages", b"test", b"tests", b"idle_test", b"_bundled"})


def root_folder(path: str, name: str) -> Path:
    """The folder or file that a spec's `path` names; raises SpecError where there is none."""
    root = Path(sysconfig.get_path("stdlib")) if path == STDLIB else Path(path).expanduser()
    try:
        return root.resolve(strict=True)
    except FileNotFoundError:
        raise SpecError(f"source {name}: there is no {path}; give an existing folder or file") from None
    except (OSError, RuntimeError) as error:
        raise SpecError(f"source {name}: cannot open {path}: {_reason(error)}") from None


def walk(path: str, selected: Callable[[str], bool], name: str) -> Iterator[tuple[bytes, int]]:
    """(relative path, size in bytes) of the selected files under `path`, sorted by the bytes of the relative path.

    One file alone is listed under its own name. Links to folders are not followed, nor links to files outside;
    sockets, devices and folders of datasets are left out. Memory: the names of the folders from the root to here.
    Raises SpecError for what cannot be read.
    """
    root = root_folder(path, name)
    if root.is_file():
        yield os.fsencode(root.name), root.stat().st_size
        return
    if not root.is_dir():
        raise SpecError(f"source {name}: {path} is neither a folder nor a regular file")
    skipped = SKIPPED_FOLDERS | STDLIB_SKIPPED if path == STDLIB else SKIPPED_FOLDERS
    top = os.fsencode(root)
    for relative, size in _files(top, b"", skipped, name):
        if selected(os.fsdecode(relative)):
            yield relative, size


def locate(path: str, relative: bytes, name: str) -> bytes:
    """The absolute path of a listed file."""
    root = root_folder(path, name)
    return os.fsencode(root) if root.is_file() else os.path.join(os.fsencode(root), relative)  # noqa: PTH118 # bytes


def path_fields(path: str) -> dict[str, str]:
    """The fields of a row that is a file: its path, its name, and the topmost folder it lies in (empty: none)."""
    folder, _, rest = path.partition("/")
    return {"path": path, "name": path.rpartition("/")[2], "folder": folder if rest else ""}


def shown(relative: bytes) -> str:
    r"""A relative path as text: bytes that are not UTF-8 as \xNN."""
    return relative.decode("utf-8", "backslashreplace")


def _files(top: bytes, prefix: bytes, skipped: frozenset[bytes], name: str) -> Iterator[tuple[bytes, int]]:
    """A folder sorts as its name with `/` behind it: so the walk comes out in the order of whole relative paths."""
    folder = top + b"/" + prefix if prefix else top
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (entry.name + b"/" if entry.is_dir(follow_symlinks=False) else entry.name) for entry in entries
            )
        if b".build/" in found and os.path.exists(os.path.join(folder, BUILD_LOCK)):  # noqa: PTH110, PTH118 # bytes
            return
    except OSError as error:
        raise SpecError(
            f"source {name}: cannot list {shown(prefix) or 'its folder'}: {_reason(error)}; make it readable"
        ) from None
    for entry_name in found:
        if not entry_name.endswith(b"/"):
            size = _size(top, prefix + entry_name)
            if size is not None:
                yield prefix + entry_name, size
        elif entry_name[:-1] not in skipped:
            yield from _files(top, prefix + entry_name, skipped, name)


def _size(top: bytes, relative: bytes) -> int | None:
    """Size of a regular file, reached directly or by a link that stays within the folder; None for anything else."""
    full = top + b"/" + relative
    try:
        status = os.lstat(full)
        if stat.S_ISLNK(status.st_mode):
            target = os.path.realpath(full)
            if not target.startswith(top.rstrip(b"/") + b"/"):
                return None
            status = os.stat(target)  # noqa: PTH116 # bytes
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _reason(error: BaseException) -> str:
    return (error.strerror or "not readable") if isinstance(error, OSError) else "a loop of links"
