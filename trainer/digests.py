"""Digests of a folder of files: digests.json, written last, and a check of the files against it.

Here: writing it, checking all files or some.
Elsewhere: what the folder is (export), who reads its files (data.tokenise, model.loading, export.parts).

A folder without one is another's, or of before there were any: nothing of it can be checked. Files that it does not
name are none of its business.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import blake3
import msgspec

from shardkit import SpecError
from trainer.spec.base import Strict

DIGESTS = "digests.json"
FORMAT = 1


class FileDigest(Strict, frozen=True, kw_only=True):
    """A file's BLAKE3-256 in hexadecimal, and its size."""

    blake3: str
    size_bytes: int


class Digests(Strict, frozen=True, kw_only=True):
    """digests.json: every file of the folder but itself, by its path in it."""

    format: int = FORMAT
    files: dict[str, FileDigest]


class ExportDamaged(SpecError):
    """A file of an export is missing, or is not what its digests.json says."""

    exit_code = 4


def write_digests(folder: Path) -> None:
    """Write digests.json over all files in a folder, as they are read back from it. Raises OSError."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = Digests(files={path.relative_to(folder).as_posix(): digest_file(path) for path in paths})
    text = msgspec.json.format(msgspec.json.encode(digests, order="deterministic"), indent=1)
    (folder / DIGESTS).write_bytes(text + b"\n")


def check_digests(folder: Path, only: str = "*", but: str = "") -> None:
    """Check files against the folder's digests.json, sizes before digests; nothing where it has none.

    `only` and `but` are patterns of the files' paths: those that another check looks at need not be read twice.
    Raises ExportDamaged naming the first bad file.
    """
    digests = read_digests(folder)
    files = digests.files if digests else {}
    chosen = {name: wanted for name, wanted in files.items() if fnmatchcase(name, only) and not fnmatchcase(name, but)}
    for name, wanted in chosen.items():
        size = _size(folder / name)
        if size != wanted.size_bytes:
            found = f"has {size:,} bytes" if size is not None else "is missing"
            raise _damaged(folder, name, f"{found}, {DIGESTS} says {wanted.size_bytes:,}")
    for name, wanted in chosen.items():
        try:
            same = digest_file(folder / name) == wanted
        except OSError as error:
            raise _damaged(folder, name, f"cannot be read ({error.strerror})") from None
        if not same:
            raise _damaged(folder, name, f"is altered: its digest is not the one in {DIGESTS}")


def read_digests(folder: Path) -> Digests | None:
    """A folder's digests.json; none where it has none. Raises ExportDamaged where it is not whole."""
    path = folder / DIGESTS
    try:
        digests = msgspec.json.decode(path.read_bytes(), type=Digests)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _damaged(folder, DIGESTS, f"is truncated or altered ({error})") from None
    outside = [name for name in digests.files if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    if outside or digests.format != FORMAT:
        odd = f"names {outside[0]!r}, outside of it" if outside else f"has format {digests.format}, not {FORMAT}"
        raise _damaged(folder, DIGESTS, odd)
    return digests


def digest_file(path: Path) -> FileDigest:
    """The digest and size of a file, read whole. Raises OSError."""
    hasher = blake3.blake3(max_threads=blake3.blake3.AUTO)
    size = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 24):
            hasher.update(chunk)
            size += len(chunk)
    return FileDigest(blake3=hasher.hexdigest(), size_bytes=size)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _damaged(folder: Path, name: str, what: str) -> ExportDamaged:
    return ExportDamaged(
        f"{folder / name} {what}; copy the export again, or export the run again. If you changed the file yourself, "
        f"take its entry out of {folder / DIGESTS}"
    )
