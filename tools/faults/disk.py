"""A model of a disk that loses power: what it may hold afterwards, from a recorded log of calls.

Here: files and folders with what is durable and what is pending, replaying a log, drawing a state after a cut.
Elsewhere: recording logs (shardkit.store.faults), what must hold of each state (holds.py, power.py).

What POSIX promises and nothing more: bytes of a file are safe after its fsync, names in a folder after the folder's.
Everything pending is drawn independently: a write may be there, missing, torn or zeros, in any order across files; a
name may be as it was, as it became, or as at any time between; only a rename replaces its target at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from shardkit.store.fs import STAGE, Operation

Loss = Literal["all", "data", "names", "some", "none"]
LOSSES: tuple[Loss, ...] = ("all", "data", "names", "some", "some", "some", "none")
"""What a cut takes of what is pending, with the weights of random states."""

State = dict[str, bytes | None]
"""What a disk holds: relative path -> bytes of a file, None for a folder."""


class File:
    """A file: what a reader sees now, what is durable, and the writes between."""

    def __init__(self, data: bytes = b"") -> None:
        self.now = bytearray(data)
        self.durable = data
        self.pending: list[tuple[int, bytes]] = []

    def write(self, offset: int, data: bytes) -> None:
        """A write that the disk took."""
        _put(self.now, offset, data)
        self.pending.append((offset, data))

    def truncate(self) -> None:
        """Cut to nothing; only the lock's note is ever cut, and nobody relies on it."""
        self.now.clear()

    def sync(self) -> None:
        """All of it is durable."""
        self.durable = bytes(self.now)
        self.pending.clear()

    def after_cut(self, draw: Draw) -> bytes:
        """What the disk may hold."""
        data = bytearray(self.durable)
        for offset, written in self.pending:
            fate = draw.write()
            if fate == "whole":
                _put(data, offset, written)
            elif fate == "torn":
                _put(data, offset, written[: draw.rng.randrange(len(written) + 1)])
            elif fate == "zeros":
                _put(data, offset, bytes(len(written)))
        return bytes(data)


class Folder:
    """A folder: its names now, the durable ones, and the changes between, in order."""

    def __init__(self) -> None:
        self.now: dict[str, File | Folder] = {}
        self.durable: dict[str, File | Folder] = {}
        self.changes: list[tuple[str, File | Folder | None]] = []

    def set(self, name: str, node: File | Folder | None) -> None:
        """Give a name to a node, or take it away."""
        if node is None:
            self.now.pop(name, None)
        else:
            self.now[name] = node
        self.changes.append((name, node))

    def sync(self) -> None:
        """All names are durable."""
        self.durable = dict(self.now)
        self.changes.clear()

    def after_cut(self, draw: Draw) -> dict[str, File | Folder]:
        """Names that the disk may hold."""
        names = dict(self.durable)
        for changed in dict.fromkeys(name for name, _ in self.changes):
            fates = [self.durable.get(changed), *(node for name, node in self.changes if name == changed)]
            node = draw.name(fates)
            if node is None:
                names.pop(changed, None)
            else:
                names[changed] = node
        return names


class Draw(NamedTuple):
    """How fate falls in one state."""

    rng: random.Random
    loss: Loss
    share: float
    """Of `some`: how likely a pending change is there."""

    def write(self) -> Literal["whole", "missing", "torn", "zeros"]:
        """The fate of one pending write."""
        if self.loss in ("none", "names") or (self.loss == "some" and self.rng.random() < self.share):
            return "whole"
        if self.loss == "all":
            return "missing"
        return self.rng.choice(("missing", "torn", "zeros"))

    def name(self, fates: list[File | Folder | None]) -> File | Folder | None:
        """Which of a name's states, oldest first, is on the disk."""
        if self.loss in ("none", "data"):
            return fates[-1]
        if self.loss in ("all", "names"):
            return fates[0]
        return fates[-1] if self.rng.random() < self.share else self.rng.choice(fates)


class Disk:
    """A disk whose root stands for the folder in which the dataset is built; what is there before is durable."""

    def __init__(self, base: Path, before: State | None = None) -> None:
        self._base = str(base)
        self.root = Folder()
        for path, data in sorted((before or {}).items()):
            folder, name = self._at(f"{base}/{path}")
            folder.now[name] = folder.durable[name] = Folder() if data is None else File(data)

    def replay(self, operations: Iterable[Operation]) -> None:
        """Do what a log says."""
        for operation in operations:
            getattr(self, f"_{operation.kind}")(operation)

    def cut(self, rng: random.Random, loss: Loss) -> State:
        """A state after a power cut: path -> bytes of a file, None for a folder."""
        draw = Draw(rng, loss, rng.choice((0.1, 0.5, 0.9)))
        drawn: dict[int, bytes] = {}  # a file with two names holds the same bytes under both
        state: State = {}

        def visit(folder: Folder, prefix: str) -> None:
            for name, node in folder.after_cut(draw).items():
                path = f"{prefix}{name}"
                if isinstance(node, Folder):
                    state[path] = None
                    visit(node, f"{path}/")
                else:
                    if id(node) not in drawn:
                        drawn[id(node)] = node.after_cut(draw)
                    state[path] = drawn[id(node)]

        visit(self.root, "")
        return state

    def pending(self) -> list[str]:
        """Paths of folders with names, and of files with bytes, that are not durable.

        The removal of a temporary may be pending: recovery removes it again, and takes nothing else.
        """
        found: list[str] = []

        def visit(folder: Folder, path: str) -> None:
            lasting = {name: node for name, node in folder.durable.items() if not name.startswith(STAGE)}
            found.extend([path] if folder.now != lasting else [])
            for name, node in folder.now.items():
                below = f"{path}/{name}" if path else name
                if isinstance(node, Folder):
                    visit(node, below)
                elif node.now != node.durable:
                    found.append(below)

        visit(self.root, "")
        return sorted(found)

    def read(self, path: str) -> bytes | None:
        """What a reader sees at an absolute path now; None where there is no file."""
        folder, name = self._at(path)
        node = folder.now.get(name)
        return bytes(node.now) if isinstance(node, File) else None

    def _at(self, path: str) -> tuple[Folder, str]:
        above, _, name = path.rpartition("/")
        return self._folder(above), name

    def _folder(self, path: str) -> Folder:
        assert path == self._base or path.startswith(f"{self._base}/"), f"{path} is not in {self._base}"
        folder = self.root
        for part in path[len(self._base) + 1 :].split("/") if path != self._base else ():
            child = folder.now[part]
            assert isinstance(child, Folder), f"{path} goes through a file"
            folder = child
        return folder

    def _file(self, path: str) -> File:
        folder, name = self._at(path)
        node = folder.now[name]
        assert isinstance(node, File), f"{path} is a folder"
        return node

    def _mkdir(self, operation: Operation) -> None:
        folder, name = self._at(operation.path)
        folder.set(name, Folder())

    def _create(self, operation: Operation) -> None:
        folder, name = self._at(operation.path)
        if name not in folder.now:  # the lock is opened again and again
            folder.set(name, File())

    def _write(self, operation: Operation) -> None:
        self._file(operation.path).write(operation.offset, operation.data)

    def _truncate(self, operation: Operation) -> None:
        self._file(operation.path).truncate()

    def _fsync(self, operation: Operation) -> None:
        self._file(operation.path).sync()

    def _link(self, operation: Operation) -> None:
        folder, name = self._at(operation.target)
        assert name not in folder.now, f"{operation.target} is linked twice"
        folder.set(name, self._file(operation.path))

    def _unlink(self, operation: Operation) -> None:
        folder, name = self._at(operation.path)
        if name in folder.now:
            folder.set(name, None)

    def _rmdir(self, operation: Operation) -> None:
        folder, name = self._at(operation.path)
        node = folder.now[name]
        assert isinstance(node, Folder) and not node.now, f"{operation.path} is not an empty folder"
        folder.set(name, None)

    def _replace(self, operation: Operation) -> None:
        source, old = self._at(operation.path)
        target, new = self._at(operation.target)
        target.set(new, source.now[old])
        source.set(old, None)

    def _fsync_folder(self, operation: Operation) -> None:
        self._folder(operation.path).sync()


def write_state(state: State, folder: Path) -> None:
    """Put a state into an empty folder. Nothing is forced to the disk: the state is only looked at."""
    folder.mkdir(parents=True)
    for path, data in state.items():
        if data is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(data)


def read_state(folder: Path) -> State:
    """What a folder holds."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def _put(data: bytearray, offset: int, written: bytes) -> None:
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(written)] = written
