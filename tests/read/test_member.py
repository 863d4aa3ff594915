"""Members as files: any part of a long one by range, every byte checked; only the keyframes asked for are fetched."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from shardkit import Refused, keyframes_near, sound_between
from shardkit.errors import ShardDamaged, ShardkitError, SpecError
from shardkit.read.dataset import Dataset, open_dataset
from shardkit.read.serve import serve_folder
from shardkit.store.index import CHUNK_BYTES
from tests.read.foreign import write_tar
from tests.read.made import make_dataset, numbered

SECONDS, EVERY = 400, 10
"""A frame a second, a keyframe every ten."""


def long_video(kind: str = "mp4", codec: str = "libx264") -> bytes:
    """About 10 MB of coarse noise whose brightness tells the second; times end with a byte that no frame needs."""
    buffer, chance = io.BytesIO(), np.random.default_rng(0)
    with av.open(buffer, "w", format=kind) as out:
        stream = out.add_stream(codec, rate=1, options={"preset": "ultrafast", "crf": "12", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.thread_count = EVERY, 1
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1)
        for second in range(SECONDS):
            noise = chance.integers(0, 40, (128, 192, 3)) + second // EVERY * 5
            frame = av.VideoFrame.from_ndarray(noise.astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = second, Fraction(1, 1)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return buffer.getvalue()


def long_sound(kind: str, seconds: int = 60) -> bytes:
    chance = np.random.default_rng(1)
    wave = np.repeat(np.arange(seconds) / seconds, 16_000) + chance.uniform(0, 1e-3, 16_000 * seconds)
    buffer = io.BytesIO()
    soundfile.write(buffer, wave.astype(np.float32), 16_000, format=kind, subtype="PCM_16")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def media() -> dict[str, dict[str, bytes]]:
    noise = random.Random(5).randbytes(3 * CHUNK_BYTES + 17)
    return {
        "film": {"mp4": long_video(), "txt": b"a film"},
        "short": {"txt": b"short", "bin": noise[:1000]},
        "talk": {"flac": long_sound("FLAC"), "wav": long_sound("WAV"), "bin": noise},
    }


@pytest.fixture(scope="module")
def folder(media: dict[str, dict[str, bytes]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("members")
    write_tar(root / "long.tar", media.items())
    return root


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Iterator[Dataset]:
    with serve_folder(folder) as server:
        yield open_dataset(f"{server.url}/long.tar")


def fetched(dataset: Dataset) -> int:
    return dataset.store.bytes_read


def test_a_member_reads_like_any_file_from_every_offset(dataset: Dataset, media: dict[str, dict[str, bytes]]) -> None:
    chance = random.Random(3)
    for key, name in (("talk", "bin"), ("short", "bin"), ("film", "txt")):
        file, plain = dataset.open_member(key, name), io.BytesIO(media[key][name])
        assert len(file) == len(media[key][name]) and file.readable() and file.seekable() and not file.writable()
        for _ in range(60):
            step = chance.randrange(4)
            if step == 0:
                size = chance.choice([0, 1, 100, CHUNK_BYTES, 2 * CHUNK_BYTES + 5])
                assert file.read(size) == plain.read(size)
            elif step == 1:
                offset = chance.randrange(len(media[key][name]) + 10)
                assert file.seek(offset) == plain.seek(offset)
            elif step == 2:
                back = -chance.randrange(len(media[key][name]))
                assert file.seek(back, io.SEEK_END) == plain.seek(back, io.SEEK_END)
            else:
                assert file.tell() == plain.tell()
        file.seek(0)
        assert file.read() == media[key][name] and file.read(1) == b""
        with pytest.raises(ValueError, match="before the file's start"):
            file.seek(-1)


def test_samples_are_named_by_number_or_key(dataset: Dataset, media: dict[str, dict[str, bytes]]) -> None:
    assert dataset.open_member(-1, "bin").read() == media["talk"]["bin"]
    assert dataset.open_member(1, "txt").read() == b"short"
    with pytest.raises(SpecError, match="no member 'gif'; it has"):
        dataset.open_member(0, "gif")
    with pytest.raises(SpecError, match="no sample with key nowhere"):
        dataset.open_member("nowhere", "txt")
    with pytest.raises(IndexError):
        dataset.open_member(3, "txt")


def test_only_the_keyframes_asked_for_are_fetched(dataset: Dataset, media: dict[str, dict[str, bytes]]) -> None:
    size = len(media["film"]["mp4"])
    file, before = dataset.open_member("film", "mp4"), fetched(dataset)
    found = keyframes_near(file, [203.0, 38.0, 204.9, 399.0])
    assert [moment.seconds for moment in found] == [200.0, 40.0, 200.0, 390.0]
    for moment in found:
        assert moment.pixels.shape == (128, 192, 3)
        assert abs(moment.pixels.mean() - 19.5 - moment.seconds / EVERY * 5 % 256) < 6
    assert size > 20 * CHUNK_BYTES, "or counting means little"
    assert fetched(dataset) - before <= 7 * CHUNK_BYTES < size // 3


def test_a_container_without_a_list_gives_the_last_keyframe_before(tmp_path: Path) -> None:
    found = keyframes_near(io.BytesIO(long_video("matroska")), [203.0, 38.0])
    assert [moment.seconds for moment in found] in ([200.0, 30.0], [200.0, 40.0])


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_only_the_stretch_asked_for_is_fetched(dataset: Dataset, media: dict[str, dict[str, bytes]], kind: str) -> None:
    file, before = dataset.open_member("talk", kind), fetched(dataset)
    samples, rate = sound_between(file, 30.5, 31.5)
    assert (samples.shape, rate) == ((16_000, 1), 16_000)
    assert np.allclose(samples[:7000, 0], 30 / 60, atol=2e-3) and np.allclose(samples[9000:, 0], 31 / 60, atol=2e-3)
    assert fetched(dataset) - before <= (3 if kind == "wav" else 6) * CHUNK_BYTES < len(media["talk"]["wav"])
    assert len(sound_between(file, 59.5, 70.0)[0]) == 8000
    with pytest.raises(Refused, match="too-long-media"):
        sound_between(file, 5.0, 4.0)


def test_reading_on_takes_few_requests(dataset: Dataset, media: dict[str, dict[str, bytes]]) -> None:
    file = dataset.open_member("film", "mp4")
    before = dataset.store.requests
    parts = iter(lambda: file.read(50_000), b"")
    assert b"".join(parts) == media["film"]["mp4"]
    assert dataset.store.requests - before <= 4 + len(media["film"]["mp4"]) // (6 * CHUNK_BYTES)


def test_a_flipped_byte_is_noticed_where_it_is_needed_and_nowhere_else(
    folder: Path, media: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    path = tmp_path / "long.tar"
    path.write_bytes((folder / "long.tar").read_bytes())
    with serve_folder(tmp_path) as server:
        dataset = open_dataset(f"{server.url}/long.tar")
        film, wav = (path.read_bytes().index(media[key][name][-400:]) + 399 for key, name in FLIPPED)
        with path.open("r+b") as file:
            for at, distance in ((film, 2_000_000), (wav, 100)):
                file.seek(at - distance)
                byte = file.read(1)
                file.seek(at - distance)
                file.write(bytes([byte[0] ^ 4]))
        film_bytes = media["film"]["mp4"]
        part = (len(film_bytes) - 2_000_000) / len(film_bytes) * SECONDS
        assert keyframes_near(dataset.open_member("film", "mp4"), [5.0])[0].seconds in (0.0, 10.0)
        with pytest.raises(ShardDamaged, match="sample film: its bytes from"):
            for second in range(int(part) - 40, int(part) + 40, EVERY):
                keyframes_near(dataset.open_member("film", "mp4"), [second])
        assert len(sound_between(dataset.open_member("talk", "wav"), 1.0, 2.0)[0]) == 16_000
        with pytest.raises(ShardDamaged, match="sample talk"):
            sound_between(dataset.open_member("talk", "wav"), 59.0, 60.0)
        broken = dataset.open_member("talk", "wav")
        with pytest.raises(ShardDamaged):
            broken.read()
        broken.seek(0)
        with pytest.raises(ShardDamaged):  # it does not begin to work again half-way
            broken.read(10)


FLIPPED = (("film", "mp4"), ("talk", "wav"))


def test_a_tar_cut_short_after_indexing_is_an_error(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "long.tar"
    path.write_bytes((folder / "long.tar").read_bytes())
    dataset = open_dataset(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 2_000_000)
    with pytest.raises(ShardkitError):
        dataset.open_member("talk", "wav").read()


@pytest.mark.parametrize("codec", ["tar", "tar.zst"])
def test_members_of_our_own_shards_are_files_too(tmp_path: Path, codec: str) -> None:
    make_dataset(tmp_path, numbered([8]), codec=codec)  # type: ignore[arg-type]
    dataset = open_dataset(tmp_path)
    with serve_folder(tmp_path) as server:
        remote = open_dataset(server.url)
        for number, item in enumerate(dataset):
            for name, data in item.members.items():
                assert dataset.open_member(number, name).read() == bytes(data)
                assert remote.open_member(item.key, name).read() == bytes(data)
    (path,) = (tmp_path / "shards").rglob("*.tar*")
    path.write_bytes(path.read_bytes()[:700] + b"\xff" + path.read_bytes()[701:])
    with pytest.raises(ShardDamaged):
        open_dataset(tmp_path).open_member(0, "json")


def test_bytes_that_are_no_video_or_sound_are_refused() -> None:
    with pytest.raises(Refused, match="unknown-media"):
        keyframes_near(io.BytesIO(b"hello" * 10), [0.0])
    with pytest.raises(Refused, match="audio-damaged"):
        sound_between(io.BytesIO(b"RIFF" + b"\0" * 100), 0.0, 1.0)
    video = long_video()
    with pytest.raises(Refused, match=r"too-many-pixels|video-damaged"):
        keyframes_near(io.BytesIO(video), [0.0], max_pixels=100)
    with pytest.raises(Refused, match="video-damaged"):
        keyframes_near(io.BytesIO(video[: len(video) // 2]), [300.0])


def test_a_real_video_gives_its_keyframes_by_range(shared_data: Path, tmp_path: Path) -> None:
    data = (shared_data / "video" / "nasa_13013.mp4").read_bytes()
    write_tar(tmp_path / "nasa.tar", [("nasa", {"mp4": data})])
    with serve_folder(tmp_path) as server:
        dataset = open_dataset(f"{server.url}/nasa.tar")
        file, before = dataset.open_member("nasa", "mp4"), fetched(dataset)
        (moment,) = keyframes_near(file, [2.0])
        assert moment.pixels.shape[2] == 3 and moment.pixels.std() > 5
        if len(data) > 16 * CHUNK_BYTES:
            assert fetched(dataset) - before < len(data) // 2
