"""Clusters: union-find against its definition, and that nothing but the samples decides about them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardkit.curate import clusters, table
from shardkit.curate.clusters import Forest, find_clusters
from shardkit.curate.features import Features
from shardkit.curate.fingerprints import Named, fingerprint
from shardkit.curate.table import Table
from shardkit.spec import DedupOptions
from tests.curate.making import texts
from tools.bench.dedup_texts import make_texts, similarity

OPTIONS = DedupOptions(compare=("text",))


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_union_find_finds_the_connected_parts_and_their_first(case: tuple[int, list[tuple[int, int]]]) -> None:
    count, edges = case
    forest = Forest(count)
    for one, other in edges:
        forest.join(one, other)
    assert forest.roots().tolist() == connected(count, edges)
    assert [forest.root(number) for number in range(count)] == connected(count, edges)


def connected(count: int, edges: list[tuple[int, int]]) -> list[int]:
    """Of each number the smallest that can be reached, by asking until nothing changes."""
    first = list(range(count))
    changed = True
    while changed:
        changed = False
        for one, other in edges:
            least = min(first[one], first[other])
            changed |= first[one] != least or first[other] != least
            first[one] = first[other] = least
    return first


def named(written: list[str]) -> list[Named]:
    return [Named(0, at, f"{at:032x}", Features((text,), (0,), (), 7)) for at, text in enumerate(written)]


def cluster(
    folder: Path, written: list[str], *, batch: int = 512, partition: int = 1 << 20, options: DedupOptions = OPTIONS
) -> list[int]:
    samples = named(written)
    with Table(folder, len(samples), partition) as filled:
        for at in range(0, len(samples), batch):
            filled.append(fingerprint(samples[at : at + batch], options))
        filled.seal()
        roots, _ = find_clusters(filled, options)
    assert not list(folder.iterdir())
    return roots.tolist()


@pytest.fixture(scope="module")
def planted() -> list[str]:
    return [text.text for text in make_texts(1500, seed=3)]


def test_clusters_are_the_connected_parts_of_true_similarity(tmp_path: Path) -> None:
    made = list(make_texts(120, seed=5))
    words = [text.text.lower().replace(",", "").replace(".", "").split() for text in made]
    edges = [(a, b) for a in range(len(made)) for b in range(a) if similarity(words[a], words[b]) >= 0.8]
    assert len(edges) > 15
    assert cluster(tmp_path, [text.text for text in made]) == connected(len(made), edges)


@pytest.mark.parametrize("batch", [1, 7, 512])
@pytest.mark.parametrize("partition", [1, 300, 1 << 20])
def test_clusters_depend_on_no_chunk_size(
    tmp_path: Path, planted: list[str], monkeypatch: pytest.MonkeyPatch, batch: int, partition: int
) -> None:
    wanted = cluster(tmp_path, planted[:500])
    monkeypatch.setattr(clusters, "ROWS_HELD", batch + 3)
    monkeypatch.setattr(clusters, "PAIRS_AT_ONCE", batch)
    monkeypatch.setattr(table, "WAITING_BANDS", partition)
    monkeypatch.setattr(table, "MOST_PARTITIONS", 40)
    assert cluster(tmp_path, planted[:500], batch=batch, partition=partition) == wanted


def test_which_samples_are_together_does_not_depend_on_their_order(tmp_path: Path, planted: list[str]) -> None:
    order = list(range(len(planted)))
    random.Random(1).shuffle(order)
    straight = cluster(tmp_path, planted)
    mixed = cluster(tmp_path, [planted[at] for at in order])
    parts = [{} for _ in range(2)]  # type: list[dict[int, set[int]]]
    for at, root in enumerate(straight):
        parts[0].setdefault(root, set()).add(at)
    for at, root in enumerate(mixed):
        parts[1].setdefault(root, set()).add(order[at])
    assert sorted(map(sorted, parts[0].values())) == sorted(map(sorted, parts[1].values()))


def test_the_clusters_of_these_texts_stay_what_they_are(tmp_path: Path, planted: list[str]) -> None:
    gone = [at for at, root in enumerate(cluster(tmp_path, planted)) if root != at]
    assert (len(gone), gone[:8]) == KNOWN_CLUSTERS


KNOWN_CLUSTERS: tuple[int, list[int]] = (302, [4, 6, 8, 23, 26, 32, 41, 42])


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.9])
def test_other_thresholds_find_their_pairs(tmp_path: Path, threshold: float) -> None:
    draw = random.Random(4)
    pairs = []
    for one, other in zip(texts(60, 1, 40), texts(60, 2, 40), strict=True):
        cut = draw.randint(20, 40)
        pairs += [one, " ".join([*one.split()[:cut], *other.split()[cut:]])]
    words = [text.split() for text in pairs]
    near = [at for at in range(0, 120, 2) if similarity(words[at], words[at + 1]) >= threshold]
    roots = cluster(tmp_path, pairs, options=DedupOptions(compare=("text",), threshold=threshold))
    found = [at for at in range(0, 120, 2) if roots[at + 1] == at]
    assert set(found) <= set(near) and len(found) >= 0.95 * len(near) and len(near) >= 5


def test_thousands_of_copies_are_one_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "MOST_TOGETHER", 3)
    text, other = texts(2)
    assert cluster(tmp_path, [other, *[text] * 3000]) == [0, *[1] * 3000]


def test_a_template_that_many_share_is_said_and_bounds_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "MOST_TOGETHER", 5)
    (frame,), tails = texts(1, 1, 90), texts(60, 2, 40)
    samples = named([f"{frame} {tail}" for tail in tails])
    with Table(tmp_path, 60) as filled:
        filled.append(fingerprint(samples, OPTIONS))
        filled.seal()
        roots, counts = find_clusters(filled, OPTIONS)
    assert roots.tolist() == list(range(60))
    assert counts.crowded > 0 and counts.pairs <= 20 * 60 * 5 and counts.near == 0


def test_a_table_holds_what_it_was_given(tmp_path: Path, planted: list[str]) -> None:
    samples = named(planted[:200])
    with Table(tmp_path, 200, 100) as filled:
        for at in range(0, 200, 30):
            filled.append(fingerprint(samples[at : at + 30], OPTIONS))
        filled.seal()
        assert filled.parts > 10
        numbers = np.array([0, 1, 5, 29, 30, 31, 90, 199])
        rows = filled.take(numbers)
        assert rows["ordinal"].tolist() == numbers.tolist()
        whole = fingerprint(samples, OPTIONS)
        for row, number in zip(rows, numbers.tolist(), strict=True):
            start = int(whole.rows[number]["shingles_at"])
            wanted = whole.shingles[start : start + int(whole.rows[number]["shingles"])]
            assert np.array_equal(filled.shingles(row), wanted)
            assert np.array_equal(row["signature"], whole.rows[number]["signature"])
        bands = np.concatenate(list(filled.partitions()))
        assert sorted(bands.tolist()) == sorted(whole.bands.tolist())
