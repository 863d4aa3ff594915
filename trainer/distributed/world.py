"""The processes of a run: rank and size from the environment, sums, agreements, a clean end.

Here: joining the group that torchrun names, talking within it, what a lost rank looks like.
Elsewhere: torchrun itself gone (launcher.py), the model on several devices (parallel.py), what is agreed about
(step.py, failure.py).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist

from shardkit import ShardkitError, SpecError
from trainer.distributed.launcher import AGAIN, Launcher

T = TypeVar("T")


class RankLost(ShardkitError):
    """Another process of the run ended, or did not answer in time."""


class World:
    """This process among those of the run; alone it is rank 0 of 1, and everything is done at once.

    `local_rank` is its number on this machine, by which it takes its GPU.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0, timeout_seconds: float = 600.0) -> None:
        self.rank, self.size, self.local_rank = rank, size, local_rank
        self.timeout_seconds = timeout_seconds
        self.launcher = Launcher(rank, size)

    @property
    def is_first(self) -> bool:
        """Whether this process writes and reports for all."""
        return self.rank == 0

    def check_launcher(self) -> None:
        """Raises LauncherLost where several processes run and the one that started them is gone."""
        if self.size > 1:
            self.launcher.check()

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, in place; every rank gets the same bits."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def most(self, values: torch.Tensor) -> torch.Tensor:
        """The maximum over all ranks, in place."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def any(self, value: bool) -> bool:
        """Whether it is true on any rank: what all of them then do."""
        return value if self.size == 1 else bool(self.most(torch.tensor(int(value))).item())

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, by rank, on every rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with self.watch():
            dist.all_gather_object(found, value)
        return found

    def broadcast(self, value: T, source: int = 0) -> T:
        """One rank's value on every rank."""
        if self.size == 1:
            return value
        boxed: list[Any] = [value]
        with self.watch():
            dist.broadcast_object_list(boxed, src=source, device=torch.device("cpu"))
        return boxed[0]

    def first(self, work: Callable[[], T]) -> T:
        """What rank 0 finds, on every rank. An error of it ends the others quietly: one message is enough."""
        if self.size == 1:
            return work()
        if not self.is_first:
            value, code = self.broadcast((None, 0))
            if code:
                raise SystemExit(code)
            return value  # type: ignore[return-value]
        try:
            value = work()
        except ShardkitError as error:
            self.broadcast((None, error.exit_code))
            raise
        self.broadcast((value, 0))
        return value

    def barrier(self) -> None:
        """Wait until every rank has come here."""
        self.gather(None)

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Turn what the group raises where a rank is gone or late into RankLost."""
        try:
            yield
        except dist.DistError as error:
            self._lost(error)
        except RuntimeError as error:
            if self.size > 1 and any(sign in str(error) for sign in ("gloo", "NCCL", "Timed out", "timed out")):
                self._lost(error)
            raise

    def _lost(self, error: Exception) -> NoReturn:
        self.check_launcher()  # a launcher that is gone is why the others are
        _end_undisturbed()
        first = str(error).splitlines()[0].partition(". This is typically")[0][:200]
        raise RankLost(
            f"rank {self.rank} of {self.size}: another rank ended, or did not answer within "
            f"{self.timeout_seconds:.0f} seconds ({first}); {AGAIN}"
        ) from error

    def _reduced(self, values: torch.Tensor, operation: Any) -> torch.Tensor:
        if self.size > 1:
            with self.watch():
                dist.all_reduce(values, operation)
        return values


@contextmanager
def open_world(timeout_seconds: float) -> Iterator[World]:
    """The world that the environment names (torchrun sets RANK, WORLD_SIZE, LOCAL_RANK); this process alone without.

    gloo carries what is on the CPU, NCCL what is on a GPU. A collective that waits longer than the timeout raises
    RankLost. Within another open world (a chain's stages) it is that one. Raises SpecError where the environment is
    half set.
    """
    rank, size = rank_and_size()
    if size == 1:
        yield World(timeout_seconds=timeout_seconds)
        return
    local_rank = _number("LOCAL_RANK", 0)
    world = World(rank, size, local_rank, timeout_seconds)
    if dist.is_initialized():
        yield world
        return
    world.launcher.watch()
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with world.watch():
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=timedelta(seconds=timeout_seconds))
    yield world
    # after an error the others may be gone, and leaving in order would wait for them: the process just ends
    dist.destroy_process_group()


def _end_undisturbed() -> None:
    """Heed SIGTERM no more: torchrun sends it to all that are left, and why this one ends is known better here."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def rank_and_size() -> tuple[int, int]:
    """This process's number and how many there are, as torchrun's environment says. Raises SpecError."""
    size = _number("WORLD_SIZE", 1)
    return (0, 1) if size == 1 else (_number("RANK", None), size)


def _number(name: str, absent: int | None) -> int:
    text = os.environ.get(name)
    if text is None and absent is not None:
        return absent
    if text is None or not text.isdecimal():
        raise SpecError(f"the environment has {name} = {text!r}, wanted a number; start several processes by torchrun")
    return int(text)
