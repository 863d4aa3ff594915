"""Views: what a filter takes, found from the index alone; positions and ordinals agree; digests tell views apart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import blake3
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import ShardDamaged, SpecError
from shardkit.read import table
from shardkit.read.dataset import Dataset, open_dataset
from shardkit.read.loader import open_loader
from shardkit.read.order import EpochOrder
from shardkit.read.serve import serve_folder
from shardkit.read.view import ViewedSamples, resolve_view
from shardkit.read.where import parse_where
from shardkit.store.layout import Sums, index_path, shard_path
from shardkit.store.manifest import decode_split, encode_split
from shardkit.store.publish import lock, publish_split, publish_version
from tests.read.made import make_dataset, numbered, text_sample
from tests.store.made import media_sample


def made(root: Path) -> Dataset:
    shards = [
        *numbered([37, 20, 3, 40]),
        [text_sample(n) for n in range(200, 230)],
        [media_sample(n) for n in range(9)],
    ]
    make_dataset(root, shards, omitted={1: [0, 5, 19], 3: list(range(40)), 4: [3]})
    return open_dataset(root)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return made(tmp_path_factory.mktemp("view"))


FILTERS = {
    "modality=text": lambda item: not item.sample.modalities.image and not item.sample.modalities.video,
    "modality~image": lambda item: bool(item.sample.modalities.image),
    "modality!~image,source=s": lambda item: not item.sample.modalities.image and item.sample.source == "s",
    "source=images|nobody": lambda item: item.sample.source == "images",
    "licence=CC0-1.0": lambda item: item.sample.licence == "CC0-1.0",
    "licence!=CC0-1.0,images<1": lambda item: not item.sample.licence and not item.sample.modalities.image,
    "category=c2": lambda item: item.sample.category == "c2",
    "audio_ms>=250,frames=2,pixels=12": lambda item: bool(item.sample.modalities.audio),
    "text_characters>15": lambda item: sum(len(message.content) for message in item.sample.messages) > 15,
    "images>=0": lambda item: True,
    "images>=1,modality=text": lambda item: False,
}


def taken(view: ViewedSamples) -> list[tuple[int, int]]:
    return [(shard, ordinal) for shard in range(len(view.live)) for ordinal in view.taken(shard).tolist()]


@pytest.mark.parametrize("whole", [True, False], ids=["tables", "pages"])
@pytest.mark.parametrize("text", FILTERS)
def test_filter_takes_what_the_records_say(
    dataset: Dataset, text: str, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not whole:
        monkeypatch.setattr(table, "INDEX_BYTES", 0)
        dataset = open_dataset(dataset.url)
        assert not dataset.tables.whole
    view = resolve_view(dataset, parse_where(text))
    fits = FILTERS[text]
    wanted = [(item.shard, item.ordinal) for item in dataset if fits(item)]
    assert taken(view) == wanted and view.samples == len(wanted)
    assert [view.stored_order(index) for index in range(view.samples)] == wanted


def test_a_manifest_that_does_not_describe_its_shards_decides_nothing(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    bare = tuple(
        msgspec.structs.replace(entry, modalities={}, sums=Sums(), licences=()) for entry in dataset.manifest.shards
    )
    with lock(tmp_path):
        publish_version(tmp_path, msgspec.structs.replace(dataset.manifest, shards=bare))
    for text in ("modality~image", "images=0", "licence=CC0-1.0", "audio_ms>0"):
        views = [resolve_view(each, parse_where(text)) for each in (dataset, open_dataset(tmp_path))]
        assert taken(views[0]) == taken(views[1]) != []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 63, 64, 511, 512, 700, 1500]), st.integers(0, 4)), max_size=6), st.data()
)
def test_select_agrees_with_flatnonzero(shards: list[tuple[int, int]], data: st.DataObject) -> None:
    noise = np.random.default_rng(data.draw(st.integers(0, 99)))
    masks = [
        [True, False, noise.random(samples) < 0.5, noise.random(samples) < 0.01, noise.random(samples) < 0.99][kind]
        for samples, kind in shards
    ]
    view = ViewedSamples([samples for samples, _ in shards], 4, iter(masks))
    rows = [np.flatnonzero(np.broadcast_to(mask, samples)) for (samples, _), mask in zip(shards, masks, strict=True)]
    assert taken(view) == [(shard, row) for shard, found in enumerate(rows) for row in found.tolist()]
    order = EpochOrder(view, seed=1, epoch=0, lanes=3, window=50)
    found = list(zip(*(column.tolist() for column in order.locate_many(np.arange(len(order)))), strict=True))
    assert sorted(found) == taken(view)
    assert [order.locate(position) for position in range(0, len(order), 97)] == found[::97]


def test_digest_is_the_one_that_FORMAT_md_defines() -> None:  # noqa: N802
    view = ViewedSamples([3, 0, 10], 4, iter([True, False, np.array([1, 0] * 5, dtype=np.bool_)]))
    raw = b"shardkit view 1\0" + b"".join(
        samples.to_bytes(8, "little") + bits for samples, bits in ((3, b"\x07"), (0, b""), (10, b"\x55\x01"))
    )
    assert view.digest == blake3.blake3(raw).hexdigest()


def test_equal_samples_have_equal_digests_however_they_were_found(dataset: Dataset) -> None:
    digests = [resolve_view(dataset, parse_where(text)).digest for text in ("modality=text", "images=0,frames=0")]
    assert digests[0] == digests[1] != resolve_view(dataset, parse_where("images>=0")).digest


def test_filter_reads_no_sample_and_each_index_at_most_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = made(tmp_path)
    for entry in dataset.manifest.shards:
        (tmp_path / shard_path(entry)).unlink()
    assert resolve_view(dataset, parse_where("category=c2")).samples == 9
    for entry in dataset.manifest.shards:
        (tmp_path / index_path(entry.index.digest)).unlink()
    assert resolve_view(dataset, parse_where("category!=c2")).samples == 86  # from the tables that are in memory
    monkeypatch.setattr(table, "INDEX_BYTES", 0)
    fresh = open_dataset(tmp_path)
    assert resolve_view(fresh, parse_where("modality~text")).samples == 95  # the manifest is enough


@pytest.mark.parametrize("whole", [True, False], ids=["tables", "pages"])
def test_filter_over_a_network_asks_for_each_index_once(
    dataset: Dataset, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not whole:
        monkeypatch.setattr(table, "INDEX_BYTES", 0)
    with serve_folder(dataset.url) as server:
        remote = open_dataset(server.url)
        server.requests.clear()
        view = resolve_view(remote, parse_where("category=c2"))
        asked = Counter((request.path, request.offset) for request in server.requests)
        indexes = {index_path(entry.index.digest) for entry in remote.manifest.shards}
        assert view.samples == 9 and {path for path, _ in asked} == indexes and set(asked.values()) == {1}
        if not whole:  # the heads' dictionaries say it: no page is asked for
            heads = {index_path(entry.index.digest): entry.head_bytes for entry in remote.manifest.shards}
            assert all(request.length == heads[request.path] for request in server.requests)
            return
        server.requests.clear()
        loader = open_loader(remote, where="category=c2", tail="split", batch_size=4)
        assert sum(len(batch) for batch in loader) == 9
        shard = shard_path(remote.manifest.shards[-1])
        assert {request.path for request in server.requests} == {shard}  # neither another shard nor an index again


def test_view_takes_a_bit_a_sample() -> None:
    noise = np.random.default_rng(1)
    masks = (noise.random(10_000) < 0.5 for _ in range(100))
    view = ViewedSamples([10_000] * 100, 16, masks)
    assert view._words.nbytes + view._before.nbytes < 10_000 * 100 / 8 * 1.2


def test_split_column_filters_and_is_canonical(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    with pytest.raises(SpecError, match="no column 'split'"):
        resolve_view(dataset, parse_where("split=train"))
    splits = {0: ["train"] * 30 + ["test"] * 6 + [""], 2: ["test"] * 3, 3: [""] * 40}
    with lock(tmp_path):
        columns = (*dataset.manifest.columns, publish_split(tmp_path, splits))
        publish_version(tmp_path, msgspec.structs.replace(dataset.manifest, columns=columns))
    dataset = open_dataset(tmp_path)
    assert taken(resolve_view(dataset, parse_where("split=train"))) == [(0, at) for at in range(30)]
    assert resolve_view(dataset, parse_where("split=test,modality=text")).samples == 4 + 2
    assert resolve_view(dataset, parse_where("split=")).samples == len(dataset) - 39
    assert sum(1 for _ in dataset) == len(dataset)  # a reader that does not ask for it ignores it


def test_damaged_split_column_is_refused() -> None:
    good = encode_split({1: ["a", "", "b"], 4: ["b"]})
    assert encode_split({4: ["b"], 1: ["a", "", "b"], 9: [""]}) == good
    column = decode_split(good, "x")
    words, positions = column.of_shard(1, 3)
    assert [words[at] for at in positions] == ["a", "", "b"] and not column.of_shard(2, 5)[1].any()
    with pytest.raises(ShardDamaged, match="3 entries for 4"):
        column.of_shard(1, 4)
    for at in range(len(good)):
        for bit in range(8):
            data = bytearray(good)
            data[at] ^= 1 << bit
            try:
                assert encode_split_again(bytes(data)) == bytes(data)
            except ShardDamaged:
                continue


def encode_split_again(data: bytes) -> bytes:
    column = decode_split(data, "x")
    pairs = zip(column.shards, column.values, strict=True)
    return encode_split({shard: [("", *column.words)[at] for at in packed] for shard, packed in pairs})


def test_damaged_index_is_an_error_of_the_view(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    path = tmp_path / index_path(dataset.manifest.shards[0].index.digest)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardDamaged):
        resolve_view(dataset, parse_where("category=c"))
