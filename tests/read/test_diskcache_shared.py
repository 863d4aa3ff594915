"""The disk cache among processes: what others hold, are killed over, and evict; its limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from shardkit.read.dataset import open_dataset
from shardkit.read.diskcache import DiskCache, Key
from shardkit.read.loader import open_loader
from shardkit.read.serve import FolderServer
from tests.read.caches import counts, entries, epoch, total

A, B = "a" * 64, "b" * 64


READER = """
import sys
from shardkit.read.dataset import open_dataset
from shardkit.read.loader import open_loader
url, cache, seed = sys.argv[1:]
sys.stdin.readline()
for batch in open_loader(open_dataset(url, cache=cache), batch_size=8, seed=int(seed)):
    print(*(item.key for item in batch), flush=True)
"""


def _reader(url: str, cache: Path, seed: int = 3) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", READER, url, str(cache), str(seed)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_download_each_byte_once(root: Path, server: FolderServer, tmp_path: Path) -> None:
    processes = [_reader(server.url, tmp_path) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert outputs[0] == outputs[1] and len(outputs[0].split()) == 64
    asked = [request for request in server.requests if request.path != "manifest.json"]
    for path in {request.path for request in asked}:
        spans = sorted((request.offset, request.offset + request.length) for request in asked if request.path == path)
        assert all(before[1] <= after[0] for before, after in pairwise(spans)), path


def test_killed_readers_leave_nothing_harmful(root: Path, server: FolderServer, tmp_path: Path) -> None:
    """Killed after the nth line of output; the rest is read by others, and at the end the cache is whole."""
    local = epoch(open_dataset(root))
    for lines in (0, 1, 3, 6):
        process = _reader(server.url, tmp_path, seed=lines)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.stdin.close()
        process.stdout.close()
        assert epoch(open_dataset(server.url, cache=tmp_path)) == local
    dataset = open_dataset(server.url, cache=tmp_path)
    assert counts(dataset).damaged == 0
    assert {path.suffix for path in (tmp_path / "blocks").iterdir()} == {""}
    assert not list((tmp_path / "blocks" / "claims").iterdir())


WRITER = """
import os, signal, sys
from pathlib import Path
from shardkit.read.diskcache import DiskCache, Key
from shardkit.store import fs
class Kill:
    left = int(sys.argv[2])
    def before(self, operation):
        Kill.left -= 1
        if Kill.left < 0:
            if operation.kind == "write":
                os.write(next(fd for fd in range(3, 64) if is_data(fd)), operation.data[: len(operation.data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
    def after(self, operation):
        pass
def is_data(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}").endswith(".data")
    except OSError:
        return False
fs.observe(Kill())
DiskCache(Path(sys.argv[1]), 1 << 20).read([Key("a" * 64, "0-5000")], lambda _: [b"x" * 5000])
"""


def test_a_writer_killed_at_any_call_leaves_a_cache_that_works(tmp_path: Path) -> None:
    """Killed at the nth call of the writing module, half of the data written where that call is a write."""
    ended = []
    for calls in range(8):
        process = subprocess.run([sys.executable, "-c", WRITER, str(tmp_path / str(calls)), str(calls)], check=False)
        ended.append(process.returncode)
        cache = DiskCache(tmp_path / str(calls), 1 << 20)
        key = Key(A, "0-5000")
        assert cache.get(key) in (None, b"x" * 5000)
        assert cache.read([key], lambda _: [b"x" * 5000]) == [b"x" * 5000]
        assert cache.get(key) == b"x" * 5000 and cache.counts.damaged == 0
        assert len(entries(tmp_path / str(calls))) == 1
    assert -signal.SIGKILL in ended and 0 in ended


def test_what_dead_writers_reserved_is_room_again(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 10_000)
    for number in range(3):
        (tmp_path / "blocks" / "claims" / f"dead-{number}").write_bytes(bytes(3000))
        (tmp_path / "blocks" / "claims" / f"dead-{number}.data").write_bytes(bytes(100))
    (tmp_path / "blocks" / "used").write_bytes((9500).to_bytes(8, "little"))
    cache.read([Key(A, "0-9000")], lambda _: [bytes(9000)])
    assert total(tmp_path) == 9016
    assert not list((tmp_path / "blocks" / "claims").iterdir())


def test_the_limit_holds_and_the_oldest_go_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 10_000)
    for number in range(40):
        digest = f"{number:064x}"[::-1]
        cache.read([Key(digest, "0-1000")], lambda _: [bytes(1000)])
        folder = tmp_path / "blocks" / "ranges" / digest[:2] / digest
        os.utime(folder, ns=(number, number))
        assert total(tmp_path) <= 10_000
    left = [path.parent.name for path in entries(tmp_path)]
    assert sorted(left) == sorted(f"{number:064x}"[::-1] for number in range(40 - len(left), 40))
    assert 8 <= len(left) <= 9 and cache.counts.evicted == 40 - len(left)


def test_an_entry_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 1000)
    cache.read([Key(A, "0-500")], lambda _: [bytes(500)])
    assert cache.read([Key(B, "0-2000")], lambda _: [bytes(2000)]) == [bytes(2000)]
    assert total(tmp_path) == 516


LEASER = """
import sys
from pathlib import Path
from shardkit.read.diskcache import DiskCache
lease = DiskCache(Path(sys.argv[1]), 1 << 20).lease(["a" * 64])
print("leased", flush=True)
sys.stdin.readline()
"""


def test_what_another_process_has_leased_is_not_evicted_until_it_ends(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 3000)
    cache.read([Key(A, "0-1500")], lambda _: [bytes(1500)])
    process = subprocess.Popen(
        [sys.executable, "-c", LEASER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "leased\n"
    cache.read([Key(B, "0-2000")], lambda _: [bytes(2000)])
    assert [path.parent.name for path in entries(tmp_path)] == [A]
    process.kill()
    process.communicate()
    DiskCache(tmp_path, 3000).read([Key(B, "0-2000")], lambda _: [bytes(2000)])
    assert [path.parent.name for path in entries(tmp_path)] == [B]


def test_a_dataset_larger_than_the_limit_keeps_what_fits_and_drops_nothing(
    root: Path, server: FolderServer, tmp_path: Path
) -> None:
    """All of it is leased: what came first stays, and gives its share of hits in each epoch, instead of churning."""
    local = epoch(open_dataset(root))
    size = sum(entry.shard.bytes for entry in open_dataset(root).manifest.shards)
    dataset = open_dataset(server.url, cache=tmp_path, cache_bytes=size // 2)
    assert epoch(dataset) == local
    kept = entries(tmp_path)
    assert kept and total(tmp_path) <= size // 2
    assert epoch(dataset) == local and entries(tmp_path) == kept
    assert counts(dataset).evicted == 0


def test_eviction_by_a_second_process_does_not_disturb_a_reader(
    root: Path, server: FolderServer, tmp_path: Path
) -> None:
    """The folder is emptied under the reader, without regard for its lease, after every batch."""
    local = epoch(open_dataset(root))
    batches = []
    for batch in open_loader(open_dataset(server.url, cache=tmp_path), batch_size=8, seed=3):
        batches.append(batch)
        for path in entries(tmp_path):
            path.unlink()
    assert batches == local
