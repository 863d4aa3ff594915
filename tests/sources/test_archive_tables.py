"""Tables on disk: every record is found by its mark, however many runs there were; what of a name counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import SourceFailed
from shardkit.sources.archives import table
from shardkit.sources.archives.names import counted, is_rubbish
from shardkit.sources.archives.table import MARK, Table, write_table

DTYPE: np.dtype[np.void] = np.dtype([*MARK, ("value", "<u8")])
MARKS = st.tuples(st.sampled_from([0, 1, 1 << 63, (1 << 64) - 1, 0x123456789]), st.sampled_from([0, 7, (1 << 64) - 1]))


@given(marks=st.lists(MARKS, max_size=60), run=st.sampled_from([1, 4, 1000]))
@settings(max_examples=40, deadline=None)
def test_records_are_found_in_the_order_in_which_they_were_given(
    tmp_path_factory: pytest.TempPathFactory, marks: list[tuple[int, int]], run: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "tables" / "t"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "RUN_RECORDS", run)
        patch.setattr(table, "BLOCK_RECORDS", min(run, 3))
        count = write_table(path, DTYPE, ((*mark, at) for at, mark in enumerate(marks)))
    opened = Table(path, DTYPE, "here")
    assert count == len(marks)
    for mark in {*marks, (5, 5)}:
        wanted = [at for at, other in enumerate(marks) if other == mark]
        assert [int(record["value"]) for record in opened.find(mark)] == wanted
    assert [one.name for one in path.parent.iterdir()] == ["t"]


def test_a_table_that_is_gone_or_cut_is_told(tmp_path: Path) -> None:
    write_table(tmp_path / "t", DTYPE, [(1, 2, 3)])
    (tmp_path / "t").write_bytes((tmp_path / "t").read_bytes()[:-1])
    for name in ("t", "absent"):
        with pytest.raises(SourceFailed, match="--update"):
            Table(tmp_path / name, DTYPE, "here")


@pytest.mark.parametrize(
    ("name", "path", "last", "stem"),
    [
        ("./a/b.c.mp4", "a/b.c.mp4", "b.c.mp4", "b.c"),
        ("a", "a", "a", "a"),
        ("x/.hidden", "x/.hidden", ".hidden", ".hidden"),
        ("a.b/c", "a.b/c", "c", "c"),
    ],
)
def test_what_of_a_name_counts(name: str, path: str, last: str, stem: str) -> None:
    assert (counted(name, "path"), counted(name, "name"), counted(name, "stem")) == (path, last, stem)


def test_what_is_no_file_of_the_set() -> None:
    assert [name for name in ("a/", "__MACOSX/a", "b/__MACOSX/._a", "a/b") if not is_rubbish(name)] == ["a/b"]
