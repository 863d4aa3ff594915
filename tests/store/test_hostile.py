"""Hostile and odd tars at the reader that indexes what others made."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardkit.errors import ShardDamaged
from shardkit.store.foreign import ForeignLimits, read_foreign
from shardkit.store.index import Facts
from shardkit.store.tar_index import IndexedTar, index_tar
from shardkit.store.urls import open_store
from tests.store import hostile


def facts(name: str, members: dict[str, bytes | None]) -> Facts:
    return Facts(0, 0, 0, 0, 0, "s", "", "", "")


def index(folder: Path, ending: str, data: bytes, **limits: bool) -> IndexedTar:
    (folder / f"t{ending}").write_bytes(data)
    return index_tar(open_store(folder), f"t{ending}", len(data), facts, ForeignLimits(**limits))


@pytest.mark.parametrize("case", hostile.CASES)
def test_hostile_tar_is_refused_with_a_message_and_nothing_is_written(tmp_path: Path, case: str) -> None:
    ending, make = hostile.CASES[case]
    with pytest.raises(ShardDamaged) as raised:
        index(tmp_path, ending, make())
    message = str(raised.value)
    assert f"t{ending}" in message and ("; " in message or "run " in message), message
    assert len(message) < 600 and message.isprintable()
    assert [path.name for path in tmp_path.iterdir()] == [f"t{ending}"]


@pytest.mark.parametrize("case", [case for case, (ending, _) in hostile.CASES.items() if ending == ".tar"])
def test_hostile_tar_is_refused_by_the_reader_of_members(case: str) -> None:
    of_samples = ("duplicate in another case", "sample that comes back")
    if case in of_samples:  # only the reader that groups files sees these
        return
    with pytest.raises(ShardDamaged):
        for _ in read_foreign(io.BytesIO(hostile.CASES[case][1]()), "t"):
            pass


@pytest.mark.parametrize("case", hostile.ODD)
def test_odd_tar_is_read(tmp_path: Path, case: str) -> None:
    ending, make = hostile.ODD[case]
    assert index(tmp_path, ending, make()).entry.samples >= 1


def test_tar_without_its_end_is_read_only_when_asked_for(tmp_path: Path) -> None:
    data = hostile.sample_tar(3)
    for cut in (data, data + bytes(512)):
        with pytest.raises(ShardDamaged, match="zero block"):
            index(tmp_path, ".tar", cut)
        assert index(tmp_path, ".tar", cut, unended=True).entry.samples == 3
    with pytest.raises(ShardDamaged, match="cut short"):
        index(tmp_path, ".tar", data[:-1], unended=True)


def test_every_cut_of_a_tar_is_refused(tmp_path: Path) -> None:
    data = hostile.sample_tar(3) + hostile.END
    for size in range(0, len(data), 37):
        with pytest.raises(ShardDamaged):
            index(tmp_path, ".tar", data[:size])


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), odd=st.sampled_from(sorted(hostile.ODD)))
def test_altered_tars_are_indexed_or_refused_and_nothing_else(tmp_path: Path, odd: str, data: st.DataObject) -> None:
    ending, make = hostile.ODD[odd]
    altered = bytearray(make())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(altered), 6000) - 1))
        piece = data.draw(st.binary(max_size=12) | st.sampled_from([b"7" * 11, b"\x80", bytes(512), b"L", b"x", b"S"]))
        altered[at : at + data.draw(st.sampled_from([0, 1, len(piece)]))] = piece
    try:
        made = index(tmp_path, ending, bytes(altered))
    except ShardDamaged as refused:
        assert len(str(refused)) < 1000
        return
    assert made.entry.shard.bytes == len(altered)


BOUNDED = r"""
import re, resource, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from shardkit.errors import ShardDamaged
from shardkit.store.foreign import ForeignLimits
from shardkit.store.index import Facts
from shardkit.store.tar_index import index_tar
from shardkit.store.urls import open_store
from tests.store import hostile
facts = lambda name, members: Facts(0, 0, 0, 0, 0, "s", "", "", "")
folder = Path({folder!r})
resource.setrlimit(resource.RLIMIT_AS, ({address_space}, {address_space}))
store = open_store(folder)
for name in sorted(path.name for path in folder.iterdir()):
    try:
        made = index_tar(store, name, store.size(name), facts, ForeignLimits())
        print(name, made.entry.samples)
    except ShardDamaged as error:
        print(name, "refused", error)
peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]
print(int(peak) >> 10, "MiB")  # not ru_maxrss, which a child begins with its parent's
"""


def bounded(folder: Path, mebibytes: int) -> list[str]:
    """What a process with so much memory (its libraries included) says of every file of a folder."""
    root = str(Path(__file__).parents[2])
    code = BOUNDED.format(root=root, folder=str(folder), address_space=mebibytes << 20)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=root,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_files_that_are_huge_or_claim_it_take_little_memory(tmp_path: Path) -> None:
    """1 TiB of zeros, a member of 3 GiB, bombs: sparse files, so that the disk holds nothing."""
    sparse(tmp_path / "zeros.tar", hostile.sample_tar(1), 1 << 40)
    sparse(tmp_path / "only-zeros.tar", b"", 1 << 40)
    big = hostile.patched(124, b"%011o\0" % (1 << 30), hostile.plain("video.mp4")[:512])
    sparse(tmp_path / "member.tar", big, 512 + (1 << 30) + 1024)
    for number, case in enumerate(("zstd bomb", "zstd bomb that lies", "zstd bomb within a frame's size")):
        (tmp_path / f"bomb-{number}.tar.zst").write_bytes(hostile.CASES[case][1]())
    lines = bounded(tmp_path, 900)
    said = dict(line.split(" ", 1) for line in lines[:-1])
    assert said.pop("member.tar") == "1"
    assert len(said) == 5 and all(text.startswith("refused") for text in said.values()), said
    assert int(lines[-1].split()[0]) < 400, lines[-1]


def sparse(path: Path, head: bytes, size: int) -> None:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    assert path.stat().st_blocks * 512 < 1 << 20
