"""One target fuzzed in a process of its own, within bounds of memory and time.

Here: atheris with coverage, or plain mutation; the process, its limits, what became of it.
Elsewhere: targets (targets.py), options (__main__.py).

`python -m tools.fuzz.engine ENGINE TARGET SECONDS RUNS SEED FOLDER`; FOLDER keeps what breaks the target.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
MEMORY_BYTES = 512 << 20
HANG_SECONDS = 10
LARGEST_INPUT = 1 << 16
INTERESTING = (
    b"\0", b"\xff", b"\x7f", b"\x80", b"\xff" * 4, b"\xff" * 8, b"\0" * 8, b"-1", b"9" * 20, b"..", b"/", b"[" * 3000,
)  # fmt: skip
"""What breaks parsers: limits of numbers, signs, names that climb, depth."""


class Outcome(NamedTuple):
    """What became of a target: executions, how many inputs it took, and the failure's words; none: it held."""

    target: str
    engine: str
    executions: int
    seconds: float
    failure: str


def has_atheris() -> bool:
    """Whether the coverage-guided engine is installed."""
    return importlib.util.find_spec("atheris") is not None


def fuzz(target: str, *, seconds: float, runs: int, seed: int, folder: Path, engine: str) -> Outcome:
    """Fuzz a target in a child for so many seconds, or runs (0: no such bound)."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "tools.fuzz.engine",
        engine,
        target,
        str(seconds),
        str(runs),
        str(seed),
        str(folder),
    ]
    began = time.monotonic()
    patience = None if not seconds else seconds + 60 + 2 * HANG_SECONDS
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=patience, errors="replace")
        said, code = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired:
        said, code = "", -signal.SIGKILL
    found = re.findall(r"(?:stat::number_of_executed_units: |executions=)(\d+)", said)
    failure = "" if code == 0 and found else _failure(said, code)
    return Outcome(target, engine, int(found[-1]) if found else 0, round(time.monotonic() - began, 1), failure)


def main() -> int:
    """The child."""
    engine, target, seconds, runs, seed, folder = sys.argv[1:]
    if engine == "atheris":
        import atheris

        with atheris.instrument_imports(include=["shardkit"]):
            from tools.fuzz.targets import TARGETS, try_one
    else:
        from tools.fuzz.targets import TARGETS, try_one
    chosen = TARGETS[target]
    seeds = chosen.seeds()
    for data in seeds:
        try_one(chosen, data)  # whatever is made once is made before memory is counted
    limit_memory(MEMORY_BYTES)
    if engine == "atheris":
        _by_atheris(lambda data: int(try_one(chosen, data)) - 1, seeds, (seconds, runs, seed, folder))
        return 0
    rng = random.Random(int(seed))
    count = 0
    for data in mutations(seeds, rng, float(seconds), int(runs)):
        with _time_limit(Path(folder), data):
            try_one(chosen, data)
        count += 1
    print(f"executions={count}")
    return 0


def _by_atheris(run: Any, seeds: list[bytes], given: tuple[str, str, str, str]) -> None:
    import atheris

    seconds, runs, seed, folder = given
    corpus = Path(folder) / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, data in enumerate(seeds):
        (corpus / f"seed-{number:03d}").write_bytes(data)
    options = [
        f"-max_total_time={int(float(seconds))}", f"-runs={int(runs) or -1}", f"-seed={int(seed) + 1}",
        "-print_final_stats=1",
        f"-max_len={LARGEST_INPUT}", f"-timeout={HANG_SECONDS}", f"-artifact_prefix={folder}/", "-verbosity=1",
        f"-rss_limit_mb={_peak_mib() + (MEMORY_BYTES >> 20)}",
    ]  # fmt: skip

    def one(data: bytes) -> int:
        return min(0, int(run(data)))

    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


def mutations(seeds: list[bytes], rng: random.Random, seconds: float, runs: int) -> Iterator[bytes]:
    """Seeds, then seeds changed in one to six places, until the time or the number is over."""
    began, count = time.monotonic(), 0
    yield from seeds
    while not ((runs and count >= runs) or (seconds and time.monotonic() - began > seconds)):
        count += 1
        changed = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 6)):
            mutate(changed, rng)
        yield bytes(changed[:LARGEST_INPUT])


def mutate(data: bytearray, rng: random.Random) -> None:
    """One change in place: a bit, bytes of a kind that breaks parsers, a piece cut, repeated or moved."""
    at = rng.randrange(len(data) + 1)
    length = min(rng.choice((1, 2, 4, 8, 64, 512)), len(data) - at)
    kind = rng.randrange(7)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = rng.randrange(256)
    elif kind == 2:
        piece = rng.choice(INTERESTING)
        data[at : at + len(piece)] = piece
    elif kind == 3:
        data[at:at] = rng.choice(INTERESTING)
    elif kind == 4:
        del data[at : at + length]
    elif kind == 5:
        data[at:at] = data[at : at + length] * rng.choice((1, 1, 2, 20))
    else:
        target = rng.randrange(len(data) + 1)
        data[target : target + length] = data[at : at + length]


def limit_memory(extra: int) -> None:
    """Let the process take so many bytes more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextlib.contextmanager
def _time_limit(folder: Path, data: bytes) -> Iterator[None]:
    """Keep the input where the target fails or takes longer than the limit."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"no end after {HANG_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANG_SECONDS)
    try:
        yield
    except BaseException:
        (folder / f"crash-{hashlib.blake2b(data, digest_size=8).hexdigest()}").write_bytes(data)
        raise
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _peak_mib() -> int:
    """Peak of this process; `ru_maxrss` would begin with that of the process that started it."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert peak is not None, "Linux says it"
    return int(peak[1]) >> 10


def _failure(said: str, code: int) -> str:
    lines = [line for line in said.splitlines() if re.search(r"Error|Exception|ERROR|SUMMARY|Timeout", line)]
    return f"exit {code}: " + " · ".join(lines[:4] or said.splitlines()[-3:] or ["no answer: it hung"])[:1000]


def as_json(outcome: Outcome) -> str:
    """An outcome as one JSON object."""
    return json.dumps(outcome._asdict())


if __name__ == "__main__":
    sys.exit(main())
