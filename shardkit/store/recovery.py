"""After a crash, and tidying: which commits still hold, and which files nothing names.

Here: recovery under the lock, the plan of garbage collection and its execution.
Elsewhere: publishing (publish.py), verifying a whole dataset (verify.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from shardkit.errors import ShardDamaged
from shardkit.store import fs
from shardkit.store.layout import (
    BUILD_FOLDER,
    CARDS_FOLDER,
    Commit,
    FileRef,
    Manifest,
    ShardEntry,
    column_path,
    dead_letter_path,
    index_path,
    shard_path,
)
from shardkit.store.manifest import decode_version
from shardkit.store.publish import COMMIT_NAME, commit_path, read_commits
from shardkit.store.shard import digest_of_file

CONTENT_FOLDERS = ("shards", "indexes", "columns", "deadletters", "versions")
CONTENT_NAME = re.compile(
    r"(shards/[0-9a-f]{2}/[0-9a-f]{64}\.tar(\.zst)?|indexes/[0-9a-f]{2}/[0-9a-f]{64}\.idx|columns/[0-9a-f]{2}/"
    r"[0-9a-f]{64}\.col|deadletters/[0-9a-f]{2}/[0-9a-f]{64}\.zst|versions/[0-9a-f]{64}\.json\.zst)",
    re.ASCII,
)
"""What the format names so. Other files in these folders are not ours to judge: somebody may keep shards there."""


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """What recovery found: the commits that hold, by lane; commits discarded as `lane/number`; temporaries removed."""

    commits: dict[str, tuple[Commit, ...]]
    discarded: tuple[str, ...] = ()
    temporaries: int = 0


class GcPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Files that no commit and no version names, as (path relative to the dataset, bytes)."""

    files: tuple[tuple[str, int], ...]

    @property
    def bytes(self) -> int:
        """Bytes that running the plan frees."""
        return sum(size for _, size in self.files)


def recover(root: Path) -> Recovery:
    """Under the lock: remove temporaries; keep of each lane the commits whose files are there and good.

    Sizes of all files that commits name are checked, and digests of each lane's last shard and what follows it. From
    the first bad one on, a lane's commits are discarded, and the build makes them again. Raises StorageFailed.
    """
    temporaries = clear_up(root)
    commits: dict[str, tuple[Commit, ...]] = {}
    discarded: list[str] = []
    for lane in _lanes(root):
        commits[lane] = good = good_commits(root, lane)
        discarded += _discard(root, lane, len(good))
    return Recovery(commits=commits, discarded=tuple(discarded), temporaries=temporaries)


def clear_up(root: Path) -> int:
    """Under the lock: remove what a process that was killed left half-written; how many files. Raises StorageFailed.

    All folders are forced to the disk: what was killed between a link and its fsync left names that are seen, but that
    a power cut would still lose.
    """
    found = list(_temporaries(root))
    for path in found:
        fs.unlink(path)
    _sync_folders(root)
    return len(found)


def good_commits(root: Path, lane: str) -> tuple[Commit, ...]:
    """The lane's commits up to the first whose files are missing or of a wrong size, or, for the last, damaged."""
    commits = read_commits(root, lane)
    for at, commit in enumerate(commits):
        if not all(_has_size(root / path, ref) for path, ref in files_of_commit(commit)):
            commits = commits[:at]
            break
    for at in reversed(range(len(commits))):
        if not all(_has_digest(root / path, ref) for path, ref in files_of_commit(commits[at])):
            commits = commits[:at]
        elif commits[at].shard is not None:
            break
    return commits


def files_of_commit(commit: Commit) -> Iterator[tuple[str, FileRef]]:
    """(relative path, reference) of every file that a commit names."""
    if commit.shard is not None:
        yield from files_of_entry(commit.shard)
    if commit.dead_letters is not None:
        yield dead_letter_path(commit.dead_letters.digest), commit.dead_letters


def files_of_entry(entry: ShardEntry) -> Iterator[tuple[str, FileRef]]:
    """The shard's file and its index."""
    yield shard_path(entry), entry.shard
    yield index_path(entry.index.digest), entry.index


def files_of_manifest(manifest: Manifest) -> Iterator[tuple[str, FileRef]]:
    """(relative path, reference) of every file that a version names."""
    for entry in manifest.shards:
        yield from files_of_entry(entry)
    for column in manifest.columns:
        yield column_path(column.file.digest), column.file
    for letters in manifest.dead_letters:
        yield dead_letter_path(letters.digest), letters


def plan_gc(root: Path) -> GcPlan:
    """What can be removed: temporaries, and files that no commit and no version names. Nothing is changed.

    Raises ShardDamaged where a version cannot be read, since then nobody knows what it names.
    """
    named = {
        path for lane in _lanes(root) for commit in read_commits(root, lane) for path, _ in files_of_commit(commit)
    }
    for path in sorted((root / "versions").glob("*.json.zst")):
        if not CONTENT_NAME.fullmatch(f"versions/{path.name}"):
            continue
        manifest = decode_version(b"".join(fs.read_chunks(path)), path.name.removesuffix(".json.zst"), str(path))
        named |= {file for file, _ in files_of_manifest(manifest)} | {f"versions/{path.name}"}
    found = {path: path.stat().st_size for path in [*content_files(root), *_temporaries(root)]}
    files = {path.relative_to(root).as_posix(): size for path, size in found.items()}
    return GcPlan(files=tuple(sorted((path, size) for path, size in files.items() if path not in named)))


def run_gc(root: Path, plan: GcPlan) -> None:
    """Remove the files of a plan, under the lock, and force their folders to the disk."""
    for path, _ in plan.files:
        fs.unlink(root / path)
    for folder in sorted({(root / path).parent for path, _ in plan.files}):
        fs.sync_folder(folder)


def content_files(root: Path) -> Iterator[Path]:
    """All files in the folders of content that have a name of the format."""
    for name in CONTENT_FOLDERS:
        found = (path for path in (root / name).rglob("*") if CONTENT_NAME.fullmatch(path.relative_to(root).as_posix()))
        yield from sorted(path for path in found if path.is_file())


def _temporaries(root: Path) -> Iterator[Path]:
    pattern = f"{fs.STAGE}*"
    yield from sorted(root.glob(pattern))
    for name in (*CONTENT_FOLDERS, CARDS_FOLDER, BUILD_FOLDER):
        yield from sorted(path for path in (root / name).rglob(pattern) if path.is_file())


def _sync_folders(root: Path) -> None:
    inside = (*CONTENT_FOLDERS, CARDS_FOLDER, BUILD_FOLDER, f"{BUILD_FOLDER}/lanes")
    folders = [root, *(root / name for name in inside)]
    for folder in (folder for folder in folders if folder.is_dir()):
        fs.sync_folder(folder)
        if folder.name in (*CONTENT_FOLDERS, "lanes"):
            for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
                fs.sync_folder(inner)
    if os.access(root.parent, os.R_OK):
        fs.sync_folder(root.parent)


def _lanes(root: Path) -> list[str]:
    folder = root / BUILD_FOLDER / "lanes"
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _discard(root: Path, lane: str, first: int) -> list[str]:
    folder = commit_path(root, lane, 0).parent
    numbers = [int(match[1]) for path in folder.iterdir() if (match := COMMIT_NAME.fullmatch(path.name))]
    gone = sorted((number for number in numbers if number >= first), reverse=True)
    for number in gone:
        fs.unlink(commit_path(root, lane, number))
    if gone:
        fs.sync_folder(folder)
    return [f"{lane}/{number}" for number in gone]


def _has_size(path: Path, ref: FileRef) -> bool:
    return fs.size_of(path) == ref.bytes


def _has_digest(path: Path, ref: FileRef) -> bool:
    try:
        return digest_of_file(path) == ref
    except (FileNotFoundError, ShardDamaged):
        return False
