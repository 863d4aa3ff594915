"""What must hold of a dataset's folder: after any crash, and once a build has finished.

Here: looking at a folder with the store's own readers, changing nothing.
Elsewhere: how the folder came about (power.py, calls.py, kill.py, errors.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shardkit.errors import ShardkitError
from shardkit.store import fs
from shardkit.store.layout import BUILD_FOLDER, POINTER_PATH, FileRef
from shardkit.store.manifest import decode_version, read_columns, read_manifest, read_pointer
from shardkit.store.publish import COMMIT_NAME, decode_commit
from shardkit.store.recovery import CONTENT_FOLDERS, files_of_commit, files_of_manifest, plan_gc
from shardkit.store.shard import digest_of_file
from shardkit.store.urls import open_store
from shardkit.store.verify import verify


def problems_of_crash(root: Path) -> list[str]:
    """What dangles or is half there in a folder after a crash, before anything has been recovered; empty: nothing."""
    return [*_bad_names(root), *_bad_commits(root), *_bad_chain(root)]


def problems_of_finished(root: Path, golden: str) -> list[str]:
    """What is wrong with a finished dataset whose version must be `golden`; empty: nothing."""
    problems = [f"a temporary was left: {path.relative_to(root)}" for path in root.rglob(f"{fs.STAGE}*")]
    problems += [f"nothing names {path}" for path, _ in plan_gc(root).files]
    try:
        found = read_pointer(open_store(str(root))).version
        report = verify(open_store(str(root)))
    except ShardkitError as error:
        return [*problems, str(error)]
    if found != golden:
        problems.append(f"version {found[:12]}, wanted {golden[:12]}")
    return problems + [f"verify: {damage}" for damage in report.damages]


def problems_of_acknowledged(root: Path, acknowledged: dict[str, bytes]) -> list[str]:
    """Which acknowledged files (path relative to `root` -> bytes) are lost or changed."""
    return [f"lost: {path}" for path, data in acknowledged.items() if not _holds(root / path, data)]


def _holds(path: Path, data: bytes) -> bool:
    return path.is_file() and path.read_bytes() == data


def _bad_names(root: Path) -> Iterator[str]:
    """Files whose name is their digest hold what the name says, whoever looks and whenever."""
    for folder in CONTENT_FOLDERS:
        for path in (root / folder).rglob("*"):
            if path.is_dir() or path.name.startswith(fs.STAGE):
                continue
            digest = path.name.partition(".")[0]
            try:
                if folder == "versions":
                    decode_version(path.read_bytes(), digest, str(path))
                elif digest_of_file(path).digest != digest:
                    yield f"not what its name says: {path.relative_to(root)}"
            except ShardkitError as error:
                yield str(error)


def _bad_commits(root: Path) -> Iterator[str]:
    for path in (root / BUILD_FOLDER / "lanes").rglob("*.ckpt"):
        if not COMMIT_NAME.fullmatch(path.name):
            continue
        try:
            commit = decode_commit(path.read_bytes(), str(path))
        except ShardkitError as error:
            yield str(error)
            continue
        for name, ref in files_of_commit(commit):
            if not _is(root / name, ref):
                yield f"commit {commit.lane}/{commit.number} dangles: {name}"


def _bad_chain(root: Path) -> Iterator[str]:
    if not (root / POINTER_PATH).exists():
        return
    store = open_store(str(root))
    try:
        _, manifest = read_manifest(store)
        read_columns(store, manifest)
    except ShardkitError as error:
        yield f"the pointer dangles: {error}"
        return
    for name, ref in files_of_manifest(manifest):
        if not _is(root / name, ref):
            yield f"the version dangles: {name}"


def _is(path: Path, ref: FileRef) -> bool:
    return path.is_file() and digest_of_file(path) == ref
