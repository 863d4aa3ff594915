"""A reading process of the soak: reads batches from where its states say, and writes down every batch it was given.

Here: the child that is killed, and the one that lives long and tells its memory and descriptors.
Elsewhere: killing them, comparing (run.py).

`python -m tools.soak.reader URL FOLDER RANK RANKS BATCH WORKERS STEPS`: one line a step goes to FOLDER/RANK.log, with
the samples' keys and the state after them; a line that was cut by a kill is not there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from shardkit import open_dataset, open_loader
from shardkit.errors import StorageFailed

SEED = 11
READ_AHEAD = 1 << 20
RETRIES = 400
RETRY_SECONDS = 0.05


def main() -> int:
    """Read so many steps, on from the last whole line of the log."""
    url, folder, *numbers = sys.argv[1:]
    rank, ranks, batch, workers, steps = map(int, numbers)
    start = json.loads((Path(folder) / "start.json").read_text())
    log = Path(folder) / f"{rank}.log"
    state = start["state"]
    with log.open("a", encoding="utf-8") as out:
        for keys, after in read(url, state, (rank, ranks, batch, workers), steps):
            out.write(json.dumps([keys, after]) + "\n")
            out.flush()
            tell_usage(Path(folder) / f"{rank}.usage")
    return 0


def read(url: str, state: dict[str, Any] | None, topology: tuple[int, int, int, int], steps: int) -> Any:
    """(keys, state) of so many steps, over the ends of epochs; waits for a server that is being begun again."""
    rank, ranks, batch, workers = topology
    done = 0
    while done < steps:
        try:
            loader = open_loader(
                open_dataset(url), seed=SEED, batch_size=batch, rank=rank, world_size=ranks, num_workers=workers,
                read_ahead_bytes=READ_AHEAD, tail="split",
            )  # fmt: skip
            if state is not None:
                loader.load_state_dict(state)
            while done < steps:
                for found in loader:
                    state = found.state
                    done += 1
                    yield [item.key for item in found], state
                    if done == steps:
                        break
        except StorageFailed:
            _wait_for(url)


def _wait_for(url: str) -> None:
    """Until the server answers again."""
    for _ in range(RETRIES):
        time.sleep(RETRY_SECONDS)
        try:
            open_dataset(url)
        except StorageFailed:
            continue
        return
    raise StorageFailed(f"{url} did not come back")


def tell_usage(path: Path) -> None:
    """Append resident memory in KiB, open descriptors and threads of this process."""
    with path.open("a", encoding="ascii") as out:
        out.write(" ".join(map(str, usage(os.getpid()))) + "\n")


def usage(pid: int) -> tuple[int, int, int]:
    """Resident KiB, open descriptors, threads of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmRSS"].split()[0]), len(list(Path(f"/proc/{pid}/fd").iterdir())), int(fields["Threads"])


if __name__ == "__main__":
    sys.exit(main())
