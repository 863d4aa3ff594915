"""Pointers, versions, columns and dead letters: strict, bounded, and clear about what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import blake3
import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import FileMissing, NotADataset, ShardDamaged, SpecError
from shardkit.store import manifest as manifests
from shardkit.store.layout import DeadLetter, canonical, version_path
from shardkit.store.manifest import (
    decode_dead_letters,
    decode_omitted,
    decode_pointer,
    decode_version,
    decompress,
    decompress_block,
    encode_dead_letters,
    encode_omitted,
    encode_version,
    read_columns,
    read_dead_letters,
    read_manifest,
    seal,
)
from shardkit.store.scrub import scrub
from shardkit.store.urls import LocalStore, open_store
from tests.store.made import build_tiny, manifest_of

POINTER = b'{"format":1,"version":"' + b"a" * 64 + b'","bytes":10}\n'


def test_pointer_is_canonical_to_the_byte(tmp_path: Path) -> None:
    version = build_tiny(tmp_path)
    size = len(canonical(read_manifest(open_store(tmp_path))[1]))
    assert (tmp_path / "manifest.json").read_bytes() == (
        b'{"format":1,"version":"' + version.encode() + b'","bytes":' + str(size).encode() + b"}\n"
    )
    assert decode_pointer(POINTER, "p").bytes == 10


@pytest.mark.parametrize(
    "data",
    [
        POINTER[:-1], POINTER + b"\n", POINTER.replace(b":1,", b": 1,"), POINTER.replace(b"10", b"10.0"),
        POINTER.replace(b"10", b"-1"), POINTER.replace(b"1,", b"0,"), POINTER.replace(b"aa", b"AA"),
        b'{"version":"' + b"a" * 64 + b'","bytes":10}\n', POINTER.replace(b'"bytes":10', b'"bytes":10,"bytes":10'),
        POINTER.replace(b"}", b',"extra":1}'),
    ],
)  # fmt: skip
def test_pointer_in_another_form_is_damage(data: bytes) -> None:
    with pytest.raises(ShardDamaged):
        decode_pointer(data, "p")


@pytest.mark.parametrize("data", [b"", b"<html>", b"{}", b"[1]", b'{"files": []}', POINTER.replace(b":1,", b":2,")])
def test_foreign_or_newer_pointer_is_no_dataset(data: bytes) -> None:
    with pytest.raises(NotADataset, match=r"wanted an object|update shardkit"):
        decode_pointer(data, "p")


def test_folder_or_scheme_that_is_no_dataset_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotADataset, match="found nothing"):
        open_store(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADataset, match="found a file"):
        open_store(tmp_path / "file")
    with pytest.raises(NotADataset, match=r"no manifest\.json.*shardkit build"):
        read_manifest(open_store(tmp_path))
    with pytest.raises(SpecError, match="found scheme 'ftp'"):
        open_store("ftp://user:secret@host/data")
    with pytest.raises(NotADataset, match="no version"):
        read_manifest(open_store(tmp_path), version="../../etc/passwd")


def test_scrub_leaves_no_secret() -> None:
    assert scrub("https://user:secret@host:1/a/b?token=secret#secret") == "https://host:1/a/b"
    assert scrub("/a/b?c") == "/a/b?c"


def test_version_round_trip_and_its_file_is_read_by_plain_zstd() -> None:
    manifest = manifest_of([])
    digest, size, data = encode_version(manifest)
    assert decode_version(data, digest, "v", size) == manifest
    raw = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(data)
    assert raw == canonical(manifest)
    assert blake3.blake3(raw).hexdigest() == digest
    with pytest.raises(ShardDamaged, match="says"):
        decode_version(data, digest, "v", size + 1)
    with pytest.raises(ShardDamaged, match="digest"):
        decode_version(encode_version(manifest_of([], name="other"))[2], digest, "v")


@pytest.mark.parametrize(
    "change",
    [
        {"shard": {"digest": "../../../../etc/passwd", "bytes": 1}},
        {"shard": {"digest": "a" * 64, "bytes": -1}},
        {"head_digest": "a" * 31},
        {"block_samples": 0},
        {"codec": "tar.gz"},
        {"location": "http://elsewhere/"},
    ],
)
def test_entry_that_names_no_digest_or_negative_sizes_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    build_tiny(tmp_path)
    raw = json.loads(canonical(read_manifest(open_store(tmp_path))[1]))
    raw["shards"][0] |= change
    data = msgspec.json.encode(raw)
    with pytest.raises(ShardDamaged, match="is damaged"):
        decode_version(seal(data), blake3.blake3(data).hexdigest(), "v")


def test_newer_format_says_update() -> None:
    raw = json.loads(canonical(manifest_of([])))
    data = msgspec.json.encode({"format": 9, "new_field": 1, **raw})
    with pytest.raises(ShardDamaged, match="update shardkit"):
        decode_version(seal(data), blake3.blake3(data).hexdigest(), "v")


def test_bomb_is_refused_before_it_unfolds() -> None:
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(256 << 20))
    assert len(bomb) < 32 << 10
    for limit in (1 << 20, 1 << 30):
        with pytest.raises(ShardDamaged, match="claims to hold"):
            decompress(bomb, limit, "bomb")
    with pytest.raises(ShardDamaged, match="claims to hold"):
        decompress_block(bomb, 1024, "block")


def test_bomb_that_hides_its_size_is_refused() -> None:
    compressor = zstandard.ZstdCompressor(level=19, write_content_size=False).compressobj()
    bomb = compressor.compress(bytes(64 << 20)) + compressor.flush()
    with pytest.raises(ShardDamaged):
        decompress(bomb, 1 << 30, "bomb")


def test_only_one_whole_frame_is_taken() -> None:
    frame = zstandard.ZstdCompressor(write_checksum=True).compress(b"x" * 1000)
    assert decompress(frame, 1000, "f") == b"x" * 1000
    for data in (b"", frame[:-1], frame + b"\0", frame + frame, b"no frame at all"):
        with pytest.raises(ShardDamaged):
            decompress(data, 1000, "f")


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.integers(0, 99), st.lists(st.integers(0, 2**32 - 1), max_size=5), max_size=5))
def test_omitted_column_round_trip(omitted: dict[int, list[int]]) -> None:
    wanted = {shard: tuple(sorted(set(ordinals))) for shard, ordinals in sorted(omitted.items()) if ordinals}
    assert decode_omitted(encode_omitted(dict(omitted)), "column") == wanted


def test_dead_letters_round_trip(tmp_path: Path) -> None:
    letters = tuple(DeadLetter(source="s", position=f"é:{at}", reason="schema", retry={"row": at}) for at in range(3))
    assert decode_dead_letters(encode_dead_letters(letters), "letters") == letters
    assert decode_dead_letters(encode_dead_letters([]), "letters") == ()


def test_columns_and_dead_letters_are_read_and_checked(tmp_path: Path) -> None:
    build_tiny(tmp_path)
    store = open_store(tmp_path)
    _, manifest = read_manifest(store)
    assert read_columns(store, manifest) == {1: (0,)}
    assert [letter.position for letter in read_dead_letters(store, manifest.dead_letters[0])] == ["x:3"]
    path = next((tmp_path / "columns").glob("*/*"))
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"\x01")
    with pytest.raises(ShardDamaged, match="digest"):
        read_columns(open_store(tmp_path), manifest)


def test_version_file_that_is_too_big_or_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = build_tiny(tmp_path)
    monkeypatch.setattr(manifests, "MAX_VERSION_BYTES", 100)
    with pytest.raises(ShardDamaged, match="at most 100"):
        read_manifest(open_store(tmp_path))
    (tmp_path / version_path(version)).unlink()
    with pytest.raises(FileMissing):
        read_manifest(open_store(tmp_path))


def test_local_store_reads_exactly_and_survives_pickling(tmp_path: Path) -> None:
    import pickle

    (tmp_path / "a").write_bytes(bytes(range(100)))
    store: LocalStore = pickle.loads(pickle.dumps(LocalStore(tmp_path)))
    assert store.read_range("a", 10, 20) == bytes(range(10, 30))
    assert (store.requests, store.bytes_read, store.size("a")) == (1, 20, 100)
    with pytest.raises(ShardDamaged, match="cut short"):
        store.read_range("a", 90, 11)
    with pytest.raises(ShardDamaged, match="cut short"):
        store.read_range("a", 0, 1 << 45)
    with pytest.raises(FileMissing, match="is missing"):
        store.read_range("b", 0, 1)
    with pytest.raises(ShardDamaged, match="at most 99"):
        store.read("a", 99)


def test_local_store_keeps_few_files_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    from shardkit.store import urls

    monkeypatch.setattr(urls, "MAX_OPEN_FILES", 4)
    for at in range(20):
        (tmp_path / str(at)).write_bytes(bytes([at]))
    store = LocalStore(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert [store.read_range(str(at), 0, 1)[0] for at in range(20)] == list(range(20))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 4
