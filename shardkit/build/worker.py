"""A worker process: runs lanes that its parent sends, stages files, never publishes.

Here: the process's life: it ends when its parent does, whatever ended that.
Elsewhere: lanes (lane.py), who starts workers and commits what they stage (engine_local.py).
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import socket
import sys
import threading
import traceback

from shardkit.build.cutter import Draft, LaneJob
from shardkit.build.lane import run_lane
from shardkit.build.wire import Ack, Channel, Ended, Failed, Progress, Run, staged_message
from shardkit.errors import ShardkitError
from shardkit.store.layout import LaneTotals

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run lanes until the parent closes its end; the socket's descriptor is the first argument."""
    _die_with_parent(int(sys.argv[2]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    jobs: queue.SimpleQueue[LaneJob] = queue.SimpleQueue()
    outlet = ParentOutlet(channel)
    threading.Thread(target=_listen, args=(channel, jobs, outlet), daemon=True).start()
    while _run_one(jobs.get(), outlet, channel):
        pass
    sys.stderr.flush()
    os._exit(0)  # threads that hang in a decoder are left behind


class ParentOutlet:
    """Hands drafts to the parent. At most one is not acknowledged while the lane goes on."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._free = threading.Semaphore(1)
        self._lane = ""

    def begin(self, lane: str) -> None:
        """Drafts and progress are now of this lane."""
        self._lane = lane

    def commit(self, draft: Draft) -> None:
        """Wait for the draft before, send this one."""
        self._free.acquire()
        self._channel.send(staged_message(draft))

    def progress(self, totals: LaneTotals, shard_bytes: int) -> None:
        """Tell the parent how far the lane is."""
        self._channel.send(Progress(lane=self._lane, totals=totals, shard_bytes=shard_bytes))

    def acknowledged(self) -> None:
        """The parent has committed the last draft."""
        self._free.release()

    def settle(self) -> None:
        """Wait until everything is acknowledged."""
        self._free.acquire()
        self._free.release()


def _run_one(job: LaneJob, outlet: ParentOutlet, channel: Channel) -> bool:
    """Run one lane; False where it failed and this process, with whatever hangs in it, is to end."""
    outlet.begin(job.lane.name)
    try:
        run_lane(job, outlet)
        outlet.settle()
        channel.send(Ended(lane=job.lane.name))
        return True
    except ShardkitError as error:
        failed = Failed(lane=job.lane.name, kind=type(error).__name__, message=str(error))
    except Exception as error:
        traceback.print_exc()
        failed = Failed(lane=job.lane.name, kind="", message=f"{type(error).__name__}: {error}")
    channel.send(failed)
    return False


def _listen(channel: Channel, jobs: queue.SimpleQueue[LaneJob], outlet: ParentOutlet) -> None:
    while True:
        message = channel.receive_from_parent()
        if message is None:
            os._exit(1)  # the parent is gone: nobody would commit what is staged
        elif isinstance(message, Run):
            jobs.put(message.job)
        elif isinstance(message, Ack):
            outlet.acknowledged()


def _die_with_parent(parent: int) -> None:
    """Have the kernel end this process with its parent, before the closed socket is even noticed."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main()
