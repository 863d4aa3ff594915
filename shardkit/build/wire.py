"""What a build and its worker processes say to each other.

Here: the messages, and a channel that carries them over a socket; msgpack, never pickle.
Elsewhere: who says what when (engine_local.py, worker.py).
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import msgspec

from shardkit.build.cutter import Draft, LaneJob
from shardkit.records.row import Cursor
from shardkit.store.layout import DeadLetter, LaneTotals, ShardEntry
from shardkit.store.shard import StagedShard

MAX_MESSAGE_BYTES = 256 << 20


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Base of all messages."""


class Run(Message, frozen=True, kw_only=True):
    """Parent: run this lane."""

    job: LaneJob


class Ack(Message, frozen=True, kw_only=True):
    """Parent: the last draft is committed."""


class Staged(Message, frozen=True, kw_only=True):
    """Worker: commit this. A Draft with paths as text."""

    lane: str
    number: int
    entry: ShardEntry | None
    shard: str
    index: str
    letters: tuple[DeadLetter, ...]
    cursor: Cursor | None
    totals: LaneTotals
    done: bool


class Progress(Message, frozen=True, kw_only=True):
    """Worker: how far the open lane is."""

    lane: str
    totals: LaneTotals
    shard_bytes: int


class Ended(Message, frozen=True, kw_only=True):
    """Worker: the lane has run to its end; everything of it is acknowledged."""

    lane: str


class Failed(Message, frozen=True, kw_only=True):
    """Worker: the lane stopped with an error and the worker ends. `kind`: its class in shardkit.errors, or empty."""

    lane: str
    kind: str
    message: str


ToWorker = Run | Ack
ToParent = Staged | Progress | Ended | Failed
_encode = msgspec.msgpack.Encoder().encode
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_to_parent = msgspec.msgpack.Decoder(ToParent)


class Channel:
    """One end of a connection: whole messages, each behind its length in 4 bytes."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._sending = threading.Lock()

    def send(self, message: Message) -> None:
        """Send a message whole. Raises OSError where the other side is gone."""
        data = _encode(message)
        with self._sending:
            self.connection.sendall(len(data).to_bytes(4, "little") + data)

    def receive_from_worker(self) -> ToParent | None:
        """The next message of a worker; None where it is gone."""
        data = self._frame()
        return None if data is None else _to_parent.decode(data)

    def receive_from_parent(self) -> ToWorker | None:
        """The next message of the parent; None where it is gone."""
        data = self._frame()
        return None if data is None else _to_worker.decode(data)

    def close(self) -> None:
        """Close this end."""
        self.connection.close()

    def _frame(self) -> bytes | None:
        head = self._exactly(4)
        size = int.from_bytes(head, "little") if head else 0
        return self._exactly(size) if 0 < size <= MAX_MESSAGE_BYTES else None

    def _exactly(self, count: int) -> bytes | None:
        parts = []
        while count:
            try:
                part = self.connection.recv(min(count, 1 << 20))
            except ConnectionError:
                return None
            if not part:
                return None
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


def staged_message(draft: Draft) -> Staged:
    """A draft as a message."""
    staged = draft.staged
    return Staged(
        lane=draft.lane,
        number=draft.number,
        entry=staged.entry if staged else None,
        shard=str(staged.shard) if staged else "",
        index=str(staged.index) if staged else "",
        letters=draft.letters,
        cursor=draft.cursor,
        totals=draft.totals,
        done=draft.done,
    )


def draft_of(message: Staged) -> Draft:
    """The inverse of `staged_message`."""
    entry = message.entry
    staged = StagedShard(entry=entry, shard=Path(message.shard), index=Path(message.index)) if entry else None
    return Draft(
        lane=message.lane,
        number=message.number,
        staged=staged,
        letters=message.letters,
        cursor=message.cursor,
        totals=message.totals,
        done=message.done,
    )
