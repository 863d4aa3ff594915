"""Verification finds every altered bit and every cut, and says what and where."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from shardkit.errors import NotADataset, Refused, ShardDamaged
from shardkit.spec import Codec
from shardkit.store import pages, spans
from shardkit.store.layout import ShardEntry, index_path, shard_path
from shardkit.store.manifest import read_manifest
from shardkit.store.publish import lock, point_at, publish_shard, publish_version
from shardkit.store.shard import ShardWriter
from shardkit.store.urls import LocalStore, open_store
from shardkit.store.verify import VerifyReport, verify
from shardkit.store.verify_shard import Findings, verify_shard
from tests.store.made import build_tiny, manifest_of, media_sample, stage, text_sample

CODECS: tuple[Codec, ...] = ("tar", "tar.zst")


class AlteredStore(LocalStore):
    """A dataset with one file's bytes altered in memory."""

    def __init__(self, folder: Path, path: str, data: bytes) -> None:
        super().__init__(folder)
        self.altered, self.data = path, data

    def read(self, path: str, max_bytes: int) -> bytes:
        if path != self.altered:
            return super().read(path, max_bytes)
        if len(self.data) > max_bytes:
            raise ShardDamaged("too long")
        return self.data

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        if path != self.altered:
            return super().read_range(path, offset, length)
        found = self.data[offset : offset + length]
        if len(found) != length:
            raise ShardDamaged("cut short")
        return found

    def size(self, path: str) -> int:
        return len(self.data) if path == self.altered else super().size(path)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    roots = {codec: tmp_path_factory.mktemp("verify") / "tiny" for codec in CODECS}
    for codec in CODECS:
        build_tiny(roots[codec], codec)
    return roots


def first_entry(root: Path) -> ShardEntry:
    return read_manifest(open_store(root))[1].shards[0]


def damages_of(root: Path, entry: ShardEntry, path: str, data: bytes) -> int:
    findings = Findings()
    with findings.watch("shard", path):
        verify_shard(AlteredStore(root, path, data), entry, findings)
    return len(findings.damages)


def flips(data: bytes) -> Iterator[bytes]:
    altered = bytearray(data)
    for bit in range(8 * len(data)):
        altered[bit // 8] ^= 1 << bit % 8
        yield bytes(altered)
        altered[bit // 8] ^= 1 << bit % 8


def verified(root: Path) -> VerifyReport:
    return verify(open_store(root))


@pytest.mark.parametrize("codec", CODECS)
def test_good_dataset_has_no_damage(datasets: dict[str, Path], codec: Codec) -> None:
    progress: list[tuple[int, int]] = []
    seen: list[str] = []
    report = verify(
        open_store(datasets[codec]),
        deep=lambda name, data: seen.append(name),
        on_progress=lambda done, total: progress.append((done, total)),
    )
    assert (report.damages, report.extras) == ((), ())
    assert (report.shards, report.samples, report.members) == (2, 5, 15)
    assert progress[-1] == (report.bytes, report.bytes)
    assert len(seen) == 10


@pytest.mark.parametrize("codec", CODECS)
def test_every_cut_of_a_shard_is_found(datasets: dict[str, Path], codec: Codec) -> None:
    root = datasets[codec]
    entry = first_entry(root)
    path = shard_path(entry)
    data = (root / path).read_bytes()
    silent = [cut for cut in range(len(data)) if not damages_of(root, entry, path, data[:cut])]
    assert silent == []
    assert damages_of(root, entry, path, data + b"\0")
    assert not damages_of(root, entry, path, data)


@pytest.mark.parametrize("codec", CODECS)
def test_every_flipped_bit_of_a_shard_is_found(tmp_path: Path, codec: Codec) -> None:
    staged = stage(tmp_path, [text_sample(1), text_sample(2)], codec=codec, block_samples=1)
    publish_shard(tmp_path, staged)
    path = shard_path(staged.entry)
    data = (tmp_path / path).read_bytes()
    silent = [bit for bit, altered in enumerate(flips(data)) if not damages_of(tmp_path, staged.entry, path, altered)]
    assert silent == []


@pytest.mark.parametrize("codec", CODECS)
def test_bytes_alone_are_checked_as_strictly_and_damages_named_alike(datasets: dict[str, Path], codec: Codec) -> None:
    """Without `records`: every cut and flipped bit of a sample of places in shard and index is found and named."""
    root = datasets[codec]
    entry = first_entry(root)
    chosen = random.Random(7)
    for path in (shard_path(entry), index_path(entry.index.digest)):
        data = (root / path).read_bytes()
        altered = [data[: chosen.randrange(len(data))] for _ in range(20)] + [data + b"\0", data[:-1]]
        for _ in range(150):
            flipped = bytearray(data)
            flipped[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
            altered.append(bytes(flipped))
        for spoilt in altered:
            store = AlteredStore(root, path, spoilt)
            thorough, quick = verify(store), verify(store, records=False)
            assert quick.damages
            assert [damage.where for damage in quick.damages] == [damage.where for damage in thorough.damages]
    whole, bytes_alone = verify(open_store(root)), verify(open_store(root), records=False)
    assert bytes_alone == whole


def test_every_flipped_bit_and_cut_of_an_index_is_found(datasets: dict[str, Path]) -> None:
    root = datasets["tar"]
    entry = first_entry(root)
    path = index_path(entry.index.digest)
    data = (root / path).read_bytes()
    altered = [*flips(data)][::3] + [data[:cut] for cut in range(len(data))] + [data + b"\0"]
    assert [at for at, bytes_ in enumerate(altered) if not damages_of(root, entry, path, bytes_)] == []


def small_files(root: Path) -> list[str]:
    folders = ("manifest.json", "versions/*", "columns/*/*", "deadletters/*/*")
    return [path.relative_to(root).as_posix() for pattern in folders for path in root.glob(pattern)]


def test_flips_and_cuts_of_pointer_manifest_columns_and_dead_letters_are_found(datasets: dict[str, Path]) -> None:
    root = datasets["tar"]
    generator = random.Random(7)
    for path in small_files(root):
        data = (root / path).read_bytes()
        altered = [data[:cut] for cut in generator.sample(range(len(data)), 20)]
        altered += [flipped for flipped in flips(data) if generator.random() < 60 / len(data)]
        for bytes_ in altered:
            try:
                assert verify(AlteredStore(root, path, bytes_)).damages, path
            except NotADataset:
                assert path == "manifest.json"
    assert len(small_files(root)) == 4


def test_damage_is_named_by_file_sample_and_member(datasets: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(datasets["tar"], root)
    path = root / shard_path(first_entry(root))
    data = bytearray(path.read_bytes())
    needle = media_sample(1).members[1].data
    data[bytes(data).index(needle)] ^= 1
    path.write_bytes(data)
    (damage,) = verified(root).damages
    assert (damage.what, damage.member) == ("member", "audio0.flac")
    assert path.name in damage.where
    assert damage.key == bytes(data[:32]).decode()
    assert damage.key in damage.where


def test_missing_and_extra_files_are_named(datasets: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(datasets["tar"], root)
    entry = first_entry(root)
    (root / index_path(entry.index.digest)).unlink()
    unnamed = f"shards/ab/{'ab' * 32}.tar"
    (root / unnamed).parent.mkdir(exist_ok=True)
    (root / unnamed).write_bytes(b"x")
    (root / "shards" / "zz.tar").write_bytes(b"no file of ours")
    report = verified(root)
    assert [(damage.what, damage.where) for damage in report.damages] == [("index", index_path(entry.index.digest))]
    assert report.extras == (unnamed,)
    (root / shard_path(entry)).unlink()
    assert any(damage.what == "shard" and "missing" in damage.message for damage in verified(root).damages)


def test_damage_in_one_shard_does_not_hide_that_in_another(datasets: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(datasets["tar.zst"], root)
    for entry in read_manifest(open_store(root))[1].shards:
        path = root / shard_path(entry)
        path.write_bytes(path.read_bytes()[:-40])
    assert len({damage.where for damage in verified(root).damages}) == 2


def test_deep_check_names_the_member_that_cannot_be_decoded(datasets: dict[str, Path]) -> None:
    def deep(name: str, data: bytes) -> None:
        if name.endswith(".png"):
            raise Refused("image-damaged", "no image")

    damages = verify(open_store(datasets["tar"]), deep=deep).damages
    assert [(damage.what, damage.member) for damage in damages] == [("member", "image0.png")] * 2


def published(root: Path, writer: ShardWriter, **changes: object) -> VerifyReport:
    staged = writer.seal()
    with lock(root):
        publish_shard(root, staged)
        publish_version(root, manifest_of([msgspec.structs.replace(staged.entry, **changes)]))
    return verified(root)


def writer_of(root: Path) -> ShardWriter:
    return ShardWriter(root, source="s", lane="s-0", ordinal=0, codec="tar", block_samples=2)


def test_writer_that_lies_with_good_digests_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests fit, yet a record is not canonical, of another key, or of another content than its columns."""
    from shardkit.records.key import key_from_digests
    from shardkit.records.sample import encode_sample
    from shardkit.store.index import facts_of

    good = text_sample(1)
    record = encode_sample(good.sample)
    cases = {
        "canonical": (record + b" ", facts_of(good.sample), None),
        "decoded": (record[:-1], facts_of(good.sample), None),
        "its key": (record, facts_of(good.sample), "0" * 32),
        "other things": (record, facts_of(good.sample)._replace(category="other"), None),
    }
    for message, (data, facts, key) in cases.items():
        root = tmp_path / message.replace(" ", "-")
        writer = writer_of(root)
        writer.add_encoded(key or key_from_digests(good.sample, []), [("json", data, digest(data))], facts)
        damages = published(root, writer).damages
        assert [message in damage.message for damage in damages] == [True], (message, damages)


def test_wrong_hash_of_a_span_in_a_good_index_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = spans._hashes
    monkeypatch.setattr(spans, "_hashes", lambda *given: [found ^ 1 for found in right(*given)])
    writer = writer_of(tmp_path)
    writer.add(text_sample(1))
    assert ["the hash" in damage.message for damage in published(tmp_path, writer).damages] == [True]


def test_key_that_occurs_twice_in_a_shard_is_found(tmp_path: Path) -> None:
    writer = writer_of(tmp_path)
    writer.add(text_sample(1))
    writer._keys.clear()
    writer.add(text_sample(1))
    assert ["twice" in damage.message for damage in published(tmp_path, writer).damages] == [True]


def digest(data: bytes) -> bytes:
    from shardkit.store.index import blake3_128

    return blake3_128(data)


def test_sums_and_totals_that_do_not_add_up_are_found(tmp_path: Path) -> None:
    writer = writer_of(tmp_path / "a")
    writer.add(text_sample(1))
    assert ["add up" in d.message for d in published(tmp_path / "a", writer, modalities={"text": 2}).damages] == [True]
    root = tmp_path / "b"
    staged = stage(root, [text_sample(1)])
    publish_shard(root, staged)
    totals = msgspec.structs.replace(manifest_of([staged.entry]).totals, samples=2)
    publish_version(root, manifest_of([staged.entry], totals=totals))
    assert ["totals" in damage.message for damage in verified(root).damages] == [True]


def test_index_that_points_outside_of_its_dictionaries_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = pages._positions

    def lying(known: dict[str, int], words: Sequence[str]) -> bytes:
        right = honest(known, words)
        return b"\x09\x00" if words[0] == "c" else right  # the category

    monkeypatch.setattr(pages, "_positions", lying)
    writer = writer_of(tmp_path)
    writer.add(text_sample(1))
    assert ["outside" in damage.message for damage in published(tmp_path, writer).damages] == [True]


def test_pinned_version_is_verified_without_the_pointer(datasets: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(datasets["tar"], root)
    version = verified(root).version
    (root / "manifest.json").unlink()
    assert verify(open_store(root), version=version).damages == ()
    with pytest.raises(NotADataset):
        verify(open_store(root))
    with pytest.raises(NotADataset, match="no version"):
        verify(open_store(root), version="0" * 64)


def test_pointer_to_a_version_that_is_gone_is_damage(datasets: dict[str, Path], tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(datasets["tar"], root)
    pointer = msgspec.json.decode((root / "manifest.json").read_bytes())
    from shardkit.store.layout import Pointer

    point_at(root, Pointer(version="0" * 64, bytes=pointer["bytes"]))
    assert [damage.what for damage in verified(root).damages] == ["version"]
