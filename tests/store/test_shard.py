"""Shards and their indexes: round trips, equal bytes from equal input, other readers."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import sys
import threading
from pathlib import Path

import blake3
import msgspec
import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import Refused, ShardDamaged, StorageFailed
from shardkit.records.key import sample_key
from shardkit.records.row import Member, Prepared
from shardkit.records.sample import decode_sample, encode_sample
from shardkit.spec import Codec
from shardkit.store import fs, shard, streams
from shardkit.store.faults import Faults, Setting
from shardkit.store.index import (
    Facts,
    IndexReader,
    Rows,
    blake3_128,
    decode_page,
    facts_of,
)
from shardkit.store.layout import FileRef, index_path, shard_path
from shardkit.store.manifest import decompress_block
from shardkit.store.pages import BlockEnd, PageBuilder, pack_numbers
from shardkit.store.publish import publish_shard
from shardkit.store.shard import ShardWriter
from shardkit.store.spans import Columns, Spans
from shardkit.store.tar import walk_tar
from shardkit.store.urls import open_store
from shardkit.store.verify_shard import page_facts
from tests.store.made import media_sample, stage, text_sample

SAMPLES = [media_sample(1), *(text_sample(n) for n in range(5)), media_sample(2, 40_000)]
CODECS: tuple[Codec, ...] = ("tar", "tar.zst")


@pytest.mark.parametrize("codec", CODECS)
def test_samples_and_members_come_back_through_the_index(tmp_path: Path, codec: Codec) -> None:
    staged = stage(tmp_path, SAMPLES, codec=codec)
    publish_shard(tmp_path, staged)
    store = open_store(tmp_path)
    reader = IndexReader(store, staged.entry)
    found: list[Prepared] = []
    for block, ref in enumerate(reader.head.pages):
        data = store.read_range(shard_path(staged.entry), ref.file_offset, ref.file_bytes)
        block_data = decompress_block(data, ref.tar_bytes, "block") if codec == "tar.zst" else data
        page = reader.page(block)
        rows = Rows(page, reader.head.member_names)
        for at in range(rows.samples):
            start = rows.offsets[at] - ref.tar_offset
            span = block_data[start : start + rows.sizes[at]]
            assert xxhash.xxh3_64_intdigest(span) == rows.hashes[at]
            members = rows.members(at)
            parts = [span[member.offset : member.offset + member.size] for member in members]
            assert [blake3_128(part) for part in parts] == [member.digest for member in members]
            sample = decode_sample(parts[0])
            rest = tuple(Member(name=m.name, data=d) for m, d in zip(members[1:], parts[1:], strict=True))
            assert sample_key(sample, rest) == rows.key(at)
            assert page_facts(page, reader.head)[at] == facts_of(sample)
            found.append(Prepared(sample=sample, members=rest))
    assert found == SAMPLES
    assert len(list(reader.pages())) == 4


@pytest.mark.parametrize("codec", CODECS)
def test_equal_samples_give_equal_bytes_whatever_the_folder_and_process(tmp_path: Path, codec: Codec) -> None:
    staged = [stage(tmp_path / name, SAMPLES, codec=codec) for name in ("a", "b")]
    assert staged[0].entry == staged[1].entry
    assert staged[0].shard.read_bytes() == staged[1].shard.read_bytes()
    assert staged[0].index.read_bytes() == staged[1].index.read_bytes()


def test_both_codecs_hold_the_same_tar(tmp_path: Path) -> None:
    plain = stage(tmp_path / "a", SAMPLES, codec="tar")
    packed = stage(tmp_path / "b", SAMPLES, codec="tar.zst")
    unpacked = subprocess.run(["zstd", "-dc", packed.shard], capture_output=True, check=False) if has("zstd") else None
    whole = b""
    publish_shard(tmp_path / "b", packed)
    store = open_store(tmp_path / "b")
    for ref in IndexReader(store, packed.entry).head.pages:
        frame = store.read_range(shard_path(packed.entry), ref.file_offset, ref.file_bytes)
        whole += decompress_block(frame, ref.tar_bytes, "block")
    assert whole + bytes(1024) == plain.shard.read_bytes()
    assert unpacked is None or unpacked.stdout == plain.shard.read_bytes()
    assert plain.entry.tar_bytes == packed.entry.tar_bytes == plain.entry.shard.bytes


def has(program: str) -> bool:
    return shutil.which(program) is not None


def test_entry_says_what_the_shard_holds(tmp_path: Path) -> None:
    entry = stage(tmp_path, SAMPLES).entry
    assert (entry.samples, entry.block_samples, entry.licences) == (7, 2, ("CC0-1.0",))
    assert entry.modalities == {"audio+image+text+video": 2, "text": 5}
    assert (entry.sums.images, entry.sums.pixels, entry.sums.frames, entry.sums.audio_ms) == (2, 24, 4, 3500)


def test_large_members_pass_through_the_buffer_unharmed(tmp_path: Path) -> None:
    samples = [media_sample(1, 6 << 20), media_sample(2, 20_000), media_sample(3, 1 << 20)]
    staged = stage(tmp_path, samples)
    data = staged.shard.read_bytes()
    assert blake3.blake3(data).hexdigest() == staged.entry.shard.digest
    found = [data[start : start + size] for _, name, start, size in walk_tar(memoryview(data), "t")]
    assert found == [part for s in samples for part in (encode_sample(s.sample), *(m.data for m in s.members))]


def test_duplicate_key_is_left_out(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, source="s", lane="s-0", ordinal=0, codec="tar", block_samples=2)
    assert [writer.add(sample) for sample in (SAMPLES[0], SAMPLES[1], SAMPLES[0])] == [True, True, False]
    assert writer.samples == writer.seal().entry.samples == 2


def test_refused_sample_leaves_no_trace(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, source="s", lane="s-0", ordinal=0, codec="tar", block_samples=2)
    assert writer.add(SAMPLES[1])
    for bad in (text_sample(1, "a\0b"), text_sample(1, "\ud800")):
        with pytest.raises(Refused, match="not-utf8"):
            writer.add(bad)
    with pytest.raises(Refused, match="too-big"):
        writer.add_encoded("0" * 32, [("json", b"{}", bytes(16))], Facts(1 << 32, 0, 0, 0, 0, "s", "c", "text", ""))
    assert writer.add(SAMPLES[2])
    assert writer.seal().entry.shard == stage(tmp_path / "b", SAMPLES[1:3]).entry.shard


def test_abandoned_and_empty_shards_leave_no_file(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, source="s", lane="s-0", ordinal=0, codec="tar", block_samples=2)
    with pytest.raises(ValueError, match="without samples"):
        writer.seal()
    writer.add(SAMPLES[0])
    writer.abandon()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("fault", ["torn", "flip"])
@pytest.mark.parametrize("at", [1, 2])
def test_write_that_lies_is_found_by_reading_back(tmp_path: Path, fault: str, at: int) -> None:
    before = fs.observe(Faults(Setting(fault=fault, at=at, kinds=("write",))))  # type: ignore[arg-type]
    try:
        with pytest.raises(StorageFailed, match="read back"):
            stage(tmp_path, SAMPLES[:2])
    finally:
        fs.observe(before)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("block", [1, 2, 3, 100])
def test_bytes_do_not_depend_on_how_many_samples_are_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: Codec, block: int
) -> None:
    samples = [*SAMPLES, media_sample(3, 9_000), *(text_sample(n) for n in range(5, 12))]
    whole = stage(tmp_path / "whole", samples, codec=codec, block_samples=block)
    for put, large, alone in ((1, 1, 0), (5_000, 30_000, 10_000), (20_000, 1 << 20, 0)):
        monkeypatch.setattr(shard, "PUT_BYTES", put)
        monkeypatch.setattr(shard, "LARGE_BYTES", large)
        monkeypatch.setattr(streams, "ALONE_BYTES", alone)
        staged = stage(tmp_path / str(put), samples, codec=codec, block_samples=block)
        assert staged.entry == whole.entry
        assert staged.shard.read_bytes() == whole.shard.read_bytes()
        assert staged.index.read_bytes() == whole.index.read_bytes()


def test_filling_stops_where_the_shard_is_full_and_goes_on_with_the_next_sample(tmp_path: Path) -> None:
    parts = (SAMPLES[:3], SAMPLES[3:6], SAMPLES[6:])
    one_by_one = [stage(tmp_path / f"one-{at}", part).entry for at, part in enumerate(parts)]
    left = iter([SAMPLES[0], SAMPLES[0], *SAMPLES[1:]])
    found = []
    for at in range(3):
        writer = ShardWriter(tmp_path / str(at), source="s", lane="s-0", ordinal=0, codec="tar", block_samples=2)
        assert writer.fill(writer.encode(left), max_samples=3) == writer.samples
        found.append(writer.seal().entry)
    assert found == one_by_one
    writer = ShardWriter(tmp_path, source="s", lane="s-0", ordinal=0, codec="tar", block_samples=2)
    assert writer.fill(writer.encode(SAMPLES), max_bytes=1) == 1
    writer.abandon()


@pytest.mark.parametrize("fault", ["torn", "flip", "enospc"])
def test_faults_in_the_thread_that_writes_reach_the_one_that_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(shard, "PUT_BYTES", 4_000)
    monkeypatch.setattr(streams, "ALONE_BYTES", 0)
    before = fs.observe(log := Faults(Setting(kinds=("write",))))
    stage(tmp_path / "good", SAMPLES)
    fs.observe(before)
    assert log.calls > 4
    shutil.rmtree(tmp_path / "good")
    for at in range(1, log.calls + 1):
        before = fs.observe(Faults(Setting(fault=fault, at=at, kinds=("write",))))  # type: ignore[arg-type]
        writer = ShardWriter(tmp_path, source="s", lane="s-0", ordinal=0, codec="tar", block_samples=2)
        try:
            with pytest.raises(StorageFailed, match=r"space|read back"):
                writer.fill(writer.encode(SAMPLES))
                writer.seal()
        finally:
            fs.observe(before)
            writer.abandon()
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("shard-writer")]


def test_short_writes_are_completed(tmp_path: Path) -> None:
    for at in (1, 2):
        before = fs.observe(Faults(Setting(fault="short", at=at, kinds=("write",))))
        try:
            staged = stage(tmp_path / str(at), SAMPLES[:2])
        finally:
            fs.observe(before)
        assert staged.entry == stage(tmp_path / "good" / str(at), SAMPLES[:2]).entry


WORDS = st.sampled_from(["", "a", "b", "é"])
U32 = st.integers(0, 2**32 - 1)
FACTS = st.builds(Facts, U32, st.integers(0, 65535), st.integers(0, 2**40), U32, U32, WORDS, WORDS, WORDS, WORDS)
MEMBERS = st.lists(
    st.tuples(st.sampled_from(["json", "a.png", "b.png"]), st.integers(0, 2**40), st.integers(0, 2**33)),
    min_size=1, max_size=3,
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=16, max_size=16), FACTS, MEMBERS), min_size=1, max_size=5))
def test_page_round_trip(rows: list[tuple[bytes, Facts, list[tuple[str, int, int]]]]) -> None:
    columns = PageBuilder()
    digest = bytes(range(16))
    flat = [member for _, _, members in rows for member in members]
    samples = Columns(
        keys=[key.hex() for key, _, _ in rows],
        numbers=[pack_numbers(*facts[:5]) for _, facts, _ in rows],
        words=[facts[5:] for _, facts, _ in rows],
        counts=np.array([len(members) for _, _, members in rows]),
        ends=np.arange(7, 7 * len(rows) + 7, 7),
        names=[name for name, _, _ in flat],
        data=[],
        digests=[digest] * len(flat),
    )
    hashes = [2**64 - 1 - at for at in range(len(rows))]
    spans = Spans([], hashes, np.array([size for _, _, size in flat]), np.array([offset for _, offset, _ in flat]))
    columns.take(samples, spans, 3)
    columns.cut([BlockEnd(len(rows), len(flat), 100, 50)])
    columns.finish()
    (ref,) = columns.refs
    assert (ref.samples, ref.tar_bytes, ref.file_bytes) == (len(rows), 100, 50)
    page = decode_page(columns.pages[0], ref, "page")
    assert msgspec.msgpack.encode(page) == columns.pages[0]
    unpacked = Rows(page, tuple(columns.names))
    tables = [tuple(words) for words in columns.words]
    for at, (key, facts, members) in enumerate(rows):
        assert (unpacked.key(at), unpacked.offsets[at], unpacked.sizes[at]) == (key.hex(), 3 + 7 * at, 7)
        assert unpacked.hashes[at] == 2**64 - 1 - at
        assert [tuple(m) for m in unpacked.members(at)] == [(*member, digest) for member in members]
        names = ("sources", "categories", "modality_sets", "licences")
        words = [table[page.column(name)[at]] for name, table in zip(names, tables, strict=True)]
        numbers = [int(page.column(name)[at]) for name in Facts._fields[:5]]
        assert Facts(*numbers, *words) == facts  # type: ignore[arg-type]


def test_index_of_another_shard_is_refused(tmp_path: Path) -> None:
    first, second = stage(tmp_path, SAMPLES[:2]), stage(tmp_path, SAMPLES[2:4], ordinal=1)
    for staged in (first, second):
        publish_shard(tmp_path, staged)
    mixed = msgspec.structs.replace(
        first.entry,
        index=second.entry.index,
        head_bytes=second.entry.head_bytes,
        head_digest=second.entry.head_digest,
    )
    with pytest.raises(ShardDamaged, match="another shard"):
        _ = IndexReader(open_store(tmp_path), mixed).head


def test_every_flipped_bit_of_a_head_and_of_a_page_is_noticed_when_read_alone(tmp_path: Path) -> None:
    staged = stage(tmp_path, SAMPLES[:3])
    publish_shard(tmp_path, staged)
    path = tmp_path / index_path(staged.entry.index.digest)
    data = path.read_bytes()
    good = IndexReader(open_store(tmp_path), staged.entry)
    assert good.head.samples == 3
    starts = [staged.entry.head_bytes, staged.entry.head_bytes + good.head.pages[0].page_bytes, len(data)]
    for bit in range(0, 8 * len(data), 5):
        altered = bytearray(data)
        altered[bit // 8] ^= 1 << bit % 8
        path.write_bytes(altered)
        with pytest.raises(ShardDamaged):
            if bit // 8 < starts[0]:
                _ = IndexReader(open_store(tmp_path), staged.entry).head
            else:
                good.page(int(bit // 8 >= starts[1]))


def test_index_under_another_digest_is_refused_when_read_whole(tmp_path: Path) -> None:
    staged = stage(tmp_path, SAMPLES[:3])
    publish_shard(tmp_path, staged)
    other = FileRef(digest="a" * 64, bytes=staged.entry.index.bytes)
    path = tmp_path / index_path(other.digest)
    path.parent.mkdir()
    path.write_bytes((tmp_path / index_path(staged.entry.index.digest)).read_bytes())
    with pytest.raises(ShardDamaged, match="content has digest"):
        list(IndexReader(open_store(tmp_path), msgspec.structs.replace(staged.entry, index=other)).pages())


def test_index_begins_as_the_format_says(tmp_path: Path) -> None:
    staged = stage(tmp_path, SAMPLES)
    data = staged.index.read_bytes()
    assert data[:8] == b"SHKIDX01"
    assert struct.unpack("<I", data[8:12])[0] == staged.entry.head_bytes - 12
    assert blake3.blake3(data).hexdigest() in index_path(staged.entry.index.digest)


def compatible(tmp_path: Path) -> tuple[Path, dict[str, dict[str, bytes]]]:
    """A plain shard whose samples have equal member names, and what it holds: key -> name -> bytes."""
    samples = [media_sample(number, 100) for number in range(6)]
    path = tmp_path / "shard.tar"
    path.write_bytes(stage(tmp_path, samples).shard.read_bytes())
    held = {
        sample_key(s.sample, s.members): {"json": encode_sample(s.sample), **{m.name: m.data for m in s.members}}
        for s in samples
    }
    return path, held


def test_webdataset_reads_the_same_keys_and_bytes(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    path, held = compatible(tmp_path)
    found = {
        sample["__key__"]: {name: data for name, data in sample.items() if not name.startswith("__")}
        for sample in webdataset.WebDataset(str(path), shardshuffle=False)
    }
    assert found == held
    assert list(found) == list(held)


READ_WITH_DATASETS = """
import io, json, sys, datasets
found = datasets.load_dataset("webdataset", data_files={"train": [sys.argv[1]]}, split="train", streaming=True)
media = {name: feature for name, feature in (found.features or {}).items() if hasattr(feature, "decode")}
for name, feature in media.items():
    found = found.cast_column(name, type(feature)(decode=False))
for row in found:
    parts = {n: (v["bytes"] if isinstance(v, dict) and "bytes" in v else v) for n, v in row.items()}
    print(json.dumps({n: v.hex() if isinstance(v, bytes) else v for n, v in parts.items() if n != "__url__"}))
"""


def test_hugging_face_datasets_reads_the_same_keys_and_bytes(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    from PIL import Image as PillowImage

    samples = []
    for number in range(4):
        picture = io.BytesIO()
        PillowImage.new("RGB", (4, 3), (number, 0, 0)).save(picture, "PNG")
        base = text_sample(number)
        sample = json.loads(encode_sample(base.sample))
        sample["modalities"] = {"image": [{"member": "image0.png", "type": "photo", "width": 4, "height": 3}]}
        member = Member(name="image0.png", data=picture.getvalue())
        samples.append(Prepared(sample=decode_sample(json.dumps(sample).encode()), members=(member,)))
    path = tmp_path / "shard.tar"
    path.write_bytes(stage(tmp_path, samples).shard.read_bytes())
    environment = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hf"),
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    ended = subprocess.run(
        [sys.executable, "-c", READ_WITH_DATASETS, str(path)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [row["__key__"] for row in rows] == [sample_key(s.sample, s.members) for s in samples]
    assert [bytes.fromhex(row["image0.png"]) for row in rows] == [s.members[0].data for s in samples]
    assert [row["json"] for row in rows] == [json.loads(encode_sample(s.sample)) for s in samples]
