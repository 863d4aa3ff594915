"""Writing checkpoints while training goes on: at most one in flight.

Here: the thread, when its errors come up, waiting for it.
Elsewhere: what is written (snapshot.py) and how (files.py), which are kept (kept.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from trainer.checkpoint.files import Snapshot, write_checkpoint
from trainer.checkpoint.kept import prune_checkpoints
from trainer.spec import CheckpointSpec


class Writer:
    """Writes snapshots of one run's folder and removes old checkpoints by the rule."""

    def __init__(self, folder: Path, spec: CheckpointSpec) -> None:
        self._folder, self._spec = folder, spec
        self._thread = ThreadPoolExecutor(1, "trainer-checkpoint")
        self._flying: Future[Path] | None = None

    def write(self, take: Callable[[], Snapshot | None]) -> Iterator[Path]:
        """Take a snapshot and write it, behind the training or now as the spec says; gives what is written by then.

        Waits for the one before, whose memory the snapshot takes. Raises CheckpointFailed, of the one before too.
        """
        yield from self.finish()
        snapshot = take()
        if snapshot is None:
            return
        self._flying = self._thread.submit(self._write, snapshot)
        if not self._spec.asynchronous:
            yield from self.finish()

    def done(self) -> Iterator[Path]:
        """The checkpoint that came to be whole since this was last asked, if any. Raises CheckpointFailed."""
        if self._flying and self._flying.done():
            yield from self.finish()

    def finish(self) -> Iterator[Path]:
        """Wait for the one in flight, if any, and give it. Raises CheckpointFailed."""
        flying, self._flying = self._flying, None
        if flying:
            yield flying.result()

    def close(self) -> None:
        """Wait for the one in flight; its error is left, since something worse has ended the run."""
        self._thread.shutdown(wait=True)

    def _write(self, snapshot: Snapshot) -> Path:
        path = write_checkpoint(self._folder, snapshot)
        spec = self._spec
        prune_checkpoints(self._folder, spec.keep, path, best=spec.best, milestone=spec.milestone)
        return path
