"""Git repositories: the text files of one commit, a row a file.

Here: pinning a commit, which files are taken, reading them at that commit.
Elsewhere: calls of git (git_command.py), what rows mean (records.normalize).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1, sha256
from pathlib import Path, PurePosixPath

import msgspec

from shardkit.errors import SourceDamaged, SourceFailed, SpecError
from shardkit.records.row import Cursor, Row
from shardkit.sources.base import BadRow, Pinned, Step
from shardkit.sources.git_command import (
    COMMIT,
    GitFailed,
    command,
    environment,
    fetch_commit,
    remote_references,
    run_git,
)
from shardkit.sources.listing import Entry, read_listing, read_pin, write_listing, write_private
from shardkit.sources.patterns import selector
from shardkit.sources.sampling import Scanned
from shardkit.sources.walk import path_fields, shown
from shardkit.spec import GitSource

VENDORED_FOLDERS = frozenset(
    {"node_modules", "vendor", "third_party", "bower_components", "dist", "site-packages", ".yarn"}
)
GENERATED_NAMES = frozenset({
    "go.sum", "gradle.lockfile", "package-lock.json", "npm-shrinkwrap.json", "composer.lock",
    "pipfile.lock", "pnpm-lock.yaml", "pubspec.lock",
})  # fmt: skip
GENERATED_ENDS = (
    ".min.js", ".min.css", ".bundle.js", ".map", ".lock", "-lock.json", "-lock.yaml", "_pb2.py", "_pb2_grpc.py",
    ".pb.go", ".g.dart", ".freezed.dart", ".generated.ts",
)  # fmt: skip
MINIFIED_LINE = 5000
"""Code with a longer line than this was written by a program: minified, or data."""
MARK_CHARACTERS = 1000
GENERATED_MARK = re.compile(r"@generated\b|\bgenerated\b.*\bdo not edit\b|\bdo not edit\b.*\bgenerated\b", re.I)
"""What programs write at the head of what they write, in one line."""
LICENCE_NAMES = ("licence", "license", "copying", "unlicense")
REPOSITORY = "clone.git"
NEAR_FILES = 64
"""Files so near are reached by reading on, where only some are wanted."""

STAGE_CLONE = ".stage-clone-"
PIN = "pin.json"


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """What was pinned: the commit, names under which the other side had it, the path of its licence file."""

    commit: str
    references: tuple[str, ...] = ()
    licence_file: str = ""


class Git:
    """A `git` source. Partition p of P takes every file whose number in the listing is p modulo P."""

    def __init__(self, spec: GitSource) -> None:
        self.spec = spec

    def missing_tool(self) -> str:
        """Git itself, where it is not installed."""
        return "" if shutil.which("git") else "git (install the package `git`)"

    def pin(self, folder: Path) -> Pinned:
        """Fetch the commit that `revision` names now and list its files. The revision is the commit."""
        for stale in folder.glob(f"{STAGE_CLONE}*"):  # of a fetch that was killed
            shutil.rmtree(stale, ignore_errors=True)
        references = remote_references(self.spec.url, self.spec.name)
        found, names = _find_commit(self.spec.revision, references, self.spec)
        pin = Pin(commit=found, references=names)
        repository = self._repository(folder, pin)
        try:  # a bundle lists a tag's own object where others list the commit beneath it
            commit = run_git(repository, "rev-parse", "--verify", f"{found}^{{commit}}").decode().strip()
            tree = run_git(repository, "ls-tree", "-r", "-z", "--long", "--full-tree", commit)
        except GitFailed as error:
            raise SourceFailed(f"source {self.spec.name}: cannot list commit {found}: {error}; run again") from None
        pin = msgspec.structs.replace(pin, commit=commit, licence_file=_licence_file(tree))
        _, count, total = write_listing(folder, self._entries(tree), self.spec.name)
        write_private(folder / PIN, [msgspec.json.encode(pin)])
        return Pinned(revision=commit, rows=count, bytes=total)

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """One row a file; the cursor is the number of the next file in the listing. A lost clone is fetched again."""
        start = int(cursor["index"]) if cursor else 0
        pin = self._read_pin(folder)
        with _blobs(self._repository(folder, pin), self.spec.name) as read_blob:
            for index, entry in enumerate(read_listing(folder, self.spec.name)):
                if index >= start and index % partitions == partition:
                    row = self._row(entry, read_blob(entry), pin)
                    yield Step(row=row, cursor={"index": index + 1})

    def scan(self, folder: Path, columns: tuple[str, ...]) -> Iterator[Scanned]:
        """Every file's path, name and folder; its text is not read."""
        for index, entry in enumerate(read_listing(folder, self.spec.name)):
            yield Scanned(path_fields(shown(entry.path)), {"index": index})

    def reads_on(self, folder: Path, at: Cursor | None, wanted: Cursor) -> bool:
        """Passing over some files takes less time than another process of git."""
        return int(wanted["index"]) - (int(at["index"]) if at else 0) < NEAR_FILES

    def _entries(self, tree: bytes) -> Iterator[Entry]:
        """Regular files that pass every filter that needs no content, in the tree's own order."""
        selected = selector(self.spec.include, self.spec.exclude, self.spec.name)
        for record in tree.split(b"\0")[:-1]:
            details, _, path = record.partition(b"\t")
            mode, kind, blob, size = details.split()
            text = os.fsdecode(path)
            taken = kind == b"blob" and mode != b"120000" and self._wanted(text) and selected(text)
            if taken and int(size) <= 4 * self.spec.max_characters:
                yield Entry(path, int(size), bytes.fromhex(blob.decode()))

    def _wanted(self, path: str) -> bool:
        parts = PurePosixPath(path.lower())
        known = parts.suffix.removeprefix(".") in self.spec.extensions or parts.name in self.spec.extensions
        vendored = not VENDORED_FOLDERS.isdisjoint(parts.parts[:-1])
        return known and not (vendored or parts.name in GENERATED_NAMES or parts.name.endswith(GENERATED_ENDS))

    def _row(self, entry: Entry, data: bytes, pin: Pin) -> Row | BadRow:
        path = shown(entry.path)
        refusal = self._refusal(data)
        if refusal:
            return BadRow(position=path, reason="filtered", detail=refusal)
        fields = {**path_fields(path), "text": data.decode()}
        return Row(position=path, fields=fields | ({"licence_file": pin.licence_file} if pin.licence_file else {}))

    def _refusal(self, data: bytes) -> str:
        """Why a file's content is not wanted; empty where it is."""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return "binary, or not UTF-8"
        if "\0" in text:
            return "binary"
        if not self.spec.min_characters <= len(text) <= self.spec.max_characters:
            return f"{len(text)} characters, wanted {self.spec.min_characters} to {self.spec.max_characters}"
        if max(map(len, text.split("\n"))) > MINIFIED_LINE or GENERATED_MARK.search(text[:MARK_CHARACTERS]):
            return "minified or generated"
        return ""

    def _repository(self, folder: Path, pin: Pin) -> Path:
        """The bare repository with the pinned commit, fetched where it is missing or broken.

        Several lanes may find it missing at once: each fetches into a folder of its own, the first rename wins.
        """
        final = folder / REPOSITORY
        if _holds(final, pin.commit):
            return final
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=STAGE_CLONE, dir=folder) as temporary:
            fresh = Path(temporary) / REPOSITORY
            fetch_commit(fresh, self.spec.url, pin.commit, pin.references, self.spec.name)
            with contextlib.suppress(OSError):  # another lane's good one is there
                if final.exists() and not _holds(final, pin.commit):
                    final.rename(Path(temporary) / "broken")
                fresh.rename(final)
        return final

    def _read_pin(self, folder: Path) -> Pin:
        return read_pin(folder / PIN, Pin, self.spec.name)


def _find_commit(revision: str, references: dict[str, str], spec: GitSource) -> tuple[str, tuple[str, ...]]:
    """(commit, names of references that have it) for a branch, tag or commit; empty: HEAD, else the only branch."""
    branches = sorted(name for name in references if name.startswith("refs/heads/"))
    wanted = [f"refs/heads/{revision}", f"refs/tags/{revision}^{{}}", f"refs/tags/{revision}", revision]
    if not revision:
        wanted = ["HEAD", *(branches if len(branches) == 1 else ("refs/heads/main", "refs/heads/master"))]
    found = next((name for name in wanted if name in references), None)
    if found is None and not COMMIT.fullmatch(revision):
        names = ", ".join(name.removeprefix("refs/heads/") for name in branches[:10]) or "none"
        raise SpecError(
            f"source {spec.name}: the repository has no branch or tag {revision or 'HEAD'!r}; its branches: {names}; "
            "give one of them, a tag, or a whole commit as `revision`"
        )
    commit = references[found] if found else revision
    return commit, tuple(name for name in sorted(references) if references[name] == commit and not name.endswith("^{}"))


def _licence_file(tree: bytes) -> str:
    """The repository's licence file: the first in its top folder whose name begins as such a name does."""
    paths = (record.partition(b"\t")[2] for record in tree.split(b"\0"))
    return next(
        (shown(path) for path in paths if b"/" not in path and shown(path).lower().startswith(LICENCE_NAMES)), ""
    )


def _holds(repository: Path, commit: str) -> bool:
    if not repository.is_dir():
        return False
    try:
        run_git(repository, "cat-file", "-e", f"{commit}^{{tree}}")
    except GitFailed:
        return False
    return True


class BlobReader:
    """Blobs through one `git cat-file --batch`; every blob is checked against its own name."""

    def __init__(self, process: subprocess.Popen[bytes], name: str) -> None:
        assert process.stdin and process.stdout
        self._in, self._out, self._name = process.stdin, process.stdout, name

    def __call__(self, entry: Entry) -> bytes:
        """The content of a listed file; raises SourceDamaged."""
        data = b""
        with contextlib.suppress(OSError, ValueError):
            self._in.write(entry.digest.hex().encode() + b"\n")
            self._in.flush()
            header = self._out.readline().split()
            data = self._out.read(int(header[2]) + 1)[:-1] if len(header) == 3 else b""
        hasher = sha1 if len(entry.digest) == 20 else sha256
        if hasher(b"blob %d\0" % len(data) + data).digest() != entry.digest:
            raise SourceDamaged(
                f"source {self._name}: the clone under .build lacks or has damaged {shown(entry.path)}; "
                "remove that clone and run again"
            )
        return data


@contextmanager
def _blobs(repository: Path, name: str) -> Iterator[BlobReader]:
    process = subprocess.Popen(
        command(repository, "cat-file", "--batch"),
        env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield BlobReader(process, name)
    finally:
        process.kill()
        process.communicate()
