"""Which rows are chosen: by keyed hash, by stratum and rank; the same whatever the partitions, resumed at every row."""

from __future__ import annotations

import json
import random
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import pytest
import xxhash
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import SpecError
from shardkit.sources.base import Source, Step
from shardkit.sources.sampling import Sampled, Scans
from shardkit.sources.sampling import choose as choosing
from shardkit.sources.sampling.chosen import Chosen
from shardkit.sources.table import open_source
from shardkit.spec import AnySource, JsonlSource, ParquetSource, convert_spec
from shardkit.spec.sampling import AnySampling, RandomRows, StratifiedRows
from shardkit.spec.shares import share_within
from tests.sources.kinds import KINDS

every_kind = pytest.mark.parametrize("kind", KINDS)


class Sampling:
    """A source that is pinned, and samples of it."""

    def __init__(self, spec: AnySource, folder: Path) -> None:
        self.spec = spec
        self.source: Source = open_source(spec, 0)
        self.folder = folder
        folder.mkdir()
        self.revision = self.source.pin(folder).revision
        self.all = list(self.source.rows(folder, 0, 1, None))

    def sampled(self, count: int, sampling: AnySampling | None = None, seed: int = 0) -> Sampled:
        spec = msgspec.structs.replace(self.spec, sampling=sampling or RandomRows())
        return Sampled(self.source, spec, seed, count=count, revision=self.revision)

    def steps(self, sampled: Sampled, partition: int = 0, partitions: int = 1, cursor: Any = None) -> list[Step]:
        return list(sampled.rows(self.folder, partition, partitions, cursor))

    def numbers(self, steps: list[Step]) -> list[int]:
        """Which rows of the source these are."""
        places = {step.row.position: at for at, step in enumerate(self.all)}
        return [places[step.row.position] for step in steps]


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Sampling:
    """The same 61 rows for all examples of a property."""
    folder = tmp_path_factory.mktemp("big")
    return Sampling(numbered(folder, 61), folder / "pins")


def draws(revision: str, rows: int, seed: int = 0) -> list[int]:
    """The rows of a source by their hash, as FORMAT.md defines it."""
    key = int.from_bytes(blake3(f"shardkit sampling {seed} {revision}".encode()).digest()[:8], "little")
    return sorted(range(rows), key=lambda at: (xxhash.xxh3_64_intdigest(at.to_bytes(8, "little"), key), at))


@every_kind
def test_random_rows_are_those_of_the_smallest_hash_in_the_order_of_the_source(kind: str, tmp_path: Path) -> None:
    here = Sampling(KINDS[kind](tmp_path), tmp_path / "pins")
    rows = len(here.all)
    found = here.numbers(here.steps(here.sampled(4)))
    assert found[:4] == sorted(draws(here.revision, rows)[:4])
    assert sorted(found) == list(range(rows)), "spare rows follow, until there are no more"


@every_kind
def test_chosen_rows_are_the_rows_themselves(kind: str, tmp_path: Path) -> None:
    here = Sampling(KINDS[kind](tmp_path), tmp_path / "pins")
    for step in here.steps(here.sampled(3)):
        assert step.row in [other.row for other in here.all]


@every_kind
def test_a_look_at_the_rows_finds_all_of_them_and_opens_at_each(kind: str, tmp_path: Path) -> None:
    here = Sampling(KINDS[kind](tmp_path), tmp_path / "pins")
    if not isinstance(here.source, Scans):
        pytest.skip(f"{kind} has no pass of its own")
    scanned = list(here.source.scan(here.folder, ()))
    assert len(scanned) == len(here.all)
    for row, step in zip(scanned, here.all, strict=True):
        assert next(here.source.rows(here.folder, 0, 1, row.before)) == step


@every_kind
@pytest.mark.parametrize("partitions", [1, 2, 3])
def test_rows_behind_a_cursor_are_the_rest_of_the_sample(kind: str, partitions: int, tmp_path: Path) -> None:
    here = Sampling(KINDS[kind](tmp_path), tmp_path / "pins")
    for partition in range(partitions):
        whole = here.steps(here.sampled(5), partition, partitions)
        for at, step in enumerate(whole):
            stored = json.loads(json.dumps(step.cursor))
            assert here.steps(here.sampled(5), partition, partitions, stored) == whole[at + 1 :]


@given(st.integers(1, 60), st.integers(1, 7), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_partitions_divide_the_same_sample(big: Sampling, count: int, partitions: int, seed: int) -> None:
    here = big
    wanted = here.numbers(here.steps(here.sampled(count, seed=seed)))[:count]
    parts = [here.numbers(here.steps(here.sampled(count, seed=seed), at, partitions)) for at in range(partitions)]
    quotas = [count // partitions + (at < count % partitions) for at in range(partitions)]
    assert [number for part, quota in zip(parts, quotas, strict=True) for number in part[:quota]] == wanted
    assert sorted(number for part in parts for number in part) == list(range(len(here.all)))


def test_spare_rows_of_a_longer_list_begin_with_those_of_the_shorter(tmp_path: Path) -> None:
    here = Sampling(numbered(tmp_path, 3000), tmp_path / "pins")
    steps = here.steps(here.sampled(10))
    assert len(list(here.folder.glob("chosen-*"))) > 2, "one list would not prove it"
    order = draws(here.revision, 3000)
    found = here.numbers(steps)
    wanted, size = sorted(order[:10]), 4
    while len(wanted) < 3000:
        wanted += sorted(order[len(wanted) : len(wanted) + size])
        size *= 2
    assert found == wanted
    assert found == here.numbers(here.steps(here.sampled(10)))


def test_other_seeds_and_revisions_choose_other_rows(tmp_path: Path) -> None:
    here = Sampling(numbered(tmp_path, 300), tmp_path / "pins")
    first = here.numbers(here.steps(here.sampled(20)))[:20]
    assert first != here.numbers(here.steps(here.sampled(20, seed=1)))[:20]
    assert first == here.numbers(here.steps(here.sampled(20, RandomRows(seed=0), seed=9)))[:20]
    spec = msgspec.structs.replace(here.spec, sampling=RandomRows())
    other = Sampled(here.source, spec, 0, count=20, revision="another")
    assert first != here.numbers(here.steps(other))[:20]


def test_scan_bounds_what_is_looked_at(tmp_path: Path) -> None:
    here = Sampling(numbered(tmp_path, 300), tmp_path / "pins")
    found = here.numbers(here.steps(here.sampled(10, RandomRows(scan=40))))
    assert found[:10] == sorted(draws(here.revision, 40)[:10])
    assert sorted(found) == list(range(40))


@pytest.mark.parametrize("shares", ["equal", "proportional", {"a": 3, "b": 1, "rare": 1}])
def test_strata_get_their_quotas_and_the_best_rows_first(tmp_path: Path, shares: Any) -> None:
    rows = [{"question": str(at), "answer": "y", "of": {"kind": "aaaabbc"[at % 7]}, "likes": at * 37 % 101, "views": at}
            for at in range(700)]  # fmt: skip
    rows += [{"question": f"r{at}", "answer": "y", "of": {"kind": "rare"}, "likes": 1} for at in range(3)]
    here = Sampling(jsonl(tmp_path / "q.jsonl", rows), tmp_path / "pins")
    sampling = StratifiedRows(by="of.kind", shares=shares, rank=("likes", "-views"))
    found = [rows[at] for at in here.numbers(here.steps(here.sampled(60, sampling)))[:60]]
    counts = Counter(row["of"]["kind"] for row in found)
    wanted = {
        "equal": {"a": 19, "b": 19, "c": 19, "rare": 3},
        "proportional": {"a": 34, "b": 17, "c": 9, "rare": 0},
    }.get(str(shares), {"a": 43, "b": 14, "rare": 3})
    assert counts == {name: count for name, count in wanted.items() if count}
    for kind, quota in wanted.items():
        own = [row for row in rows if row["of"]["kind"] == kind]
        best = sorted(own, key=lambda row: (-row["likes"], row.get("views", 1e9)))[:quota]
        assert {row["question"] for row in best} == {row["question"] for row in found if row["of"]["kind"] == kind}


def test_rows_without_a_rank_come_last_and_equal_ones_by_hash(tmp_path: Path) -> None:
    rows = [{"question": str(at), "answer": "y", "kind": "a", "likes": likes}
            for at, likes in enumerate([None, 5, "many", 7, True, 5, 10**350, 5, 2**63])]  # fmt: skip
    here = Sampling(jsonl(tmp_path / "q.jsonl", rows), tmp_path / "pins")
    order = [at for at in draws(here.revision, len(rows)) if at in (1, 5, 7)]
    found = here.numbers(here.steps(here.sampled(4, StratifiedRows(by="kind", rank=("likes",)))))
    assert found[:4] == sorted([8, 3, *order[:2]])


def test_parquet_is_looked_at_by_the_columns_that_are_needed(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    kinds = [{"category": "xyz"[at % 3], "other": "o" * 100} for at in range(90)]
    table = pyarrow.table({"question": [str(at) for at in range(90)], "answer": ["y"] * 90, "json": kinds})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=20)
    spec = ParquetSource(name="here", path=str(tmp_path / "a.parquet"), normalizer="question_answer")
    here = Sampling(spec, tmp_path / "pins")
    [first, *_] = here.source.scan(here.folder, ("json.category",))  # type: ignore[attr-defined]
    assert first.fields == {"json": {"category": "x"}}
    found = here.numbers(here.steps(here.sampled(9, StratifiedRows(by="json.category"))))[:9]
    assert Counter(at % 3 for at in found) == {0: 3, 1: 3, 2: 3}
    with pytest.raises(SpecError, match=r"no column lang to sample by; it has: question"):
        here.steps(here.sampled(9, StratifiedRows(by="lang")))


def test_a_list_that_is_damaged_is_made_again(tmp_path: Path) -> None:
    here = Sampling(numbered(tmp_path, 200), tmp_path / "pins")
    wanted = here.steps(here.sampled(30))
    for path in here.folder.glob("chosen-*"):
        whole = path.read_bytes()
        rng = random.Random(1)
        for _ in range(40):
            at = rng.randrange(len(whole))
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
            assert Chosen.find(here.folder, identity(here, 30, path)) is None
            path.write_bytes(whole[:at])
            assert Chosen.find(here.folder, identity(here, 30, path)) is None
    assert here.steps(here.sampled(30)) == wanted


def identity(here: Sampling, count: int, path: Path) -> bytes:
    spares = choosing.first_spares(count)
    for _ in range(4):
        spec = msgspec.structs.replace(here.spec, sampling=RandomRows())
        wanted = choosing.Wanted(spec=spec, seed=0, revision=here.revision, count=count, spares=spares)
        if path.name.endswith(blake3(wanted.identity).hexdigest()[:16]):
            return wanted.identity
        spares = choosing.more_spares(spares)
    raise AssertionError(path)


def test_too_many_strata_and_shares_of_nothing_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Sampling(numbered(tmp_path, 50), tmp_path / "pins")
    with pytest.raises(SpecError, match="no row has a value of sampling"):
        here.steps(here.sampled(9, StratifiedRows(by="answer", shares={"no": 1.0})))
    monkeypatch.setattr(choosing, "MAX_STRATA", 10)
    with pytest.raises(SpecError, match="more than 10 different values"):
        here.steps(here.sampled(9, StratifiedRows(by="question")))


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ({"method": "random", "scan": 0}, "at least 1"),
        ({"method": "best"}, "best"),
        ({"method": "stratified"}, "by"),
        ({"method": "stratified", "by": "lang", "shares": {"en": 0}}, "all 0"),
        ({"method": "stratified", "by": "lang", "shares": {"en": -1}}, "at least 0"),
        ({"method": "stratified", "by": "lang", "rank": ["-"]}, "empty name"),
        ({"method": "random", "seeed": 1}, "seed"),
    ],
)
def test_impossible_samplings_are_refused(raw: dict[str, Any], told: str) -> None:
    raw = {"name": "here", "path": "x", "normalizer": "question_answer", "sampling": raw}
    with pytest.raises(SpecError, match=told):
        convert_spec(raw, JsonlSource, "spec")


@given(
    st.integers(0, 500),
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(0, 9), st.integers(0, 120)), min_size=1),
)
def test_shares_within_room_add_up(total: int, parts: dict[str, tuple[int, int]]) -> None:
    weights = {name: Fraction(weight) for name, (weight, _) in parts.items()}
    room = {name: size for name, (_, size) in parts.items()}
    given = share_within(total, weights, room)
    usable = sum(room[name] for name, weight in weights.items() if weight)
    assert sum(given.values()) == min(total, usable)
    assert all(given[name] <= room[name] for name in given)


def jsonl(path: Path, rows: list[dict[str, Any]]) -> JsonlSource:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return JsonlSource(name="here", path=str(path), normalizer="question_answer")


def numbered(folder: Path, rows: int) -> JsonlSource:
    return jsonl(folder / "numbered.jsonl", [{"question": str(at), "answer": "yes"} for at in range(rows)])
