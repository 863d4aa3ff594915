"""The main job from end to end: the demo, and a build of real data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shardkit import build_dataset, load_spec, open_dataset
from shardkit.media.prepare import check_member

ROOT = Path(__file__).resolve().parent.parent


IMAGE_MARGIN, SOUND_MARGIN = 0.2, 0.5
"""Nats a held-out answer must lose when the samples' images (or sounds) change places; 0.47 and 1.49 were seen."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_demo_builds_kills_resumes_verifies_trains_and_shows(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.demo_run", "--out", str(tmp_path / "demo")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "identical" in done.stdout
    assert "all good" in done.stdout
    lines = [json.loads(line) for line in (tmp_path / "demo" / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 101))
    assert sum(line["loss"] for line in lines[-10:]) < 0.5 * sum(line["loss"] for line in lines[:10])
    assert all({"loss", "tokens_per_second", "data_wait"} <= set(line) for line in lines)
    check_that_media_matter(json.loads((tmp_path / "demo" / "run" / "held_out.json").read_text()))
    assert (tmp_path / "demo" / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "<audio" in (tmp_path / "demo" / "report.html").read_text()
    assert set(open_dataset(tmp_path / "demo" / "dataset").manifest.totals.by_source) == {
        "code", "screenshots", "audio", "video",
    }  # fmt: skip


def check_that_media_matter(held_out: dict[str, dict[str, dict[str, float]]]) -> None:
    """With the media of held-out samples shuffled among them, their loss is worse by the margins above."""
    own = held_out["after"]["by_modality"]
    assert held_out["shuffled_image"]["by_modality"]["image"] > own["image"] + IMAGE_MARGIN
    assert held_out["shuffled_audio"]["by_modality"]["audio"] > own["audio"] + SOUND_MARGIN


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("real") / "data"
    build_dataset(load_spec(ROOT / "specs" / "builds" / "real.yaml", {"root": str(shared_data)}), out=folder, workers=0)
    return folder


def test_real_data_is_built_whole(real: Path) -> None:
    dataset = open_dataset(real)
    assert dataset.manifest.totals.by_source == {
        "gsm8k": 1000, "humaneval": 164, "documents": 20, "compose": 217,
        "images": 16, "speech": 1, "prompts": 25, "film": 1,
    }  # fmt: skip
    assert not dataset.verify(deep=check_member).damages


def test_real_media_have_no_invented_answers(real: Path) -> None:
    for item in open_dataset(real):
        media = item.sample.modalities
        assert bool(item.sample.messages) != bool(media.image or media.audio or media.video)


def test_real_images_keep_their_bytes(real: Path, shared_data: Path) -> None:
    originals = {path.read_bytes() for path in (shared_data / "images").glob("*.png")}
    stored = {
        bytes(item.members[image.member]) for item in open_dataset(real) for image in item.sample.modalities.image
    }
    assert stored == originals


def test_real_film_is_keyframes_and_sound(real: Path) -> None:
    [film] = [item.sample.modalities.video[0] for item in open_dataset(real) if item.sample.modalities.video]
    times = [frame.pts_seconds for frame in film.keyframes]
    assert len(times) == 8
    assert times == sorted(set(times))
    assert film.audio == "video0.audio.flac"


def test_real_repository_records_its_commit(real: Path) -> None:
    sources = {source.name: source for source in open_dataset(real).manifest.plan.sources}
    assert len(sources["compose"].revision) == 40
    assert "url" not in sources["compose"].config
