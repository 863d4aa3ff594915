"""Training on plain WebDataset tars: made by webdataset's own writer of real images and speech, read where they lie."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shardkit import open_dataset
from shardkit.read.serve import serve_folder
from tests.read.foreign import Files, png_bytes, write_tar
from tests.trainer.runs import quiet
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.spec import RunSpec, load_run

DEMO = Path(__file__).parents[2] / "specs" / "runs" / "demo.yaml"


def captioned(images: Path, number: int) -> Iterator[tuple[str, Files]]:
    """Real pictures, their file's name as the caption, made small so that the test is quick."""
    from PIL import Image

    for at, path in enumerate(sorted(images.glob("*.png"))[:8]):
        with Image.open(path) as picture:
            small = picture.convert("RGB").resize((120, 90))
        caption = path.stem.replace("_", " ")
        yield f"image-{number}-{at}", {"jpg": as_jpeg(small), "txt": caption.encode(), "json": b'{"width": 120}'}


def as_jpeg(picture: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG")
    return out.getvalue()


def spoken(prompts: Path, number: int) -> Iterator[tuple[str, Files]]:
    """Real recordings, their file's name as what is said."""
    for at, path in enumerate(sorted(prompts.glob("*.wav"))[:8]):
        yield f"speech-{number}-{at}", {"wav": path.read_bytes(), "txt": path.stem.replace("-", " ").encode()}


def odd() -> Iterator[tuple[str, Files]]:
    """What nobody can train on: a medium that does not decode, a label, an answer that is missing, no text."""
    yield "odd-0", {"jpg": png_bytes()[:60] + bytes(200), "txt": b"broken picture"}
    yield "odd-1", {"cls": b"3"}
    yield "odd-2", {"json": json.dumps({"messages": [{"role": "user", "content": "no answer"}]}).encode()}
    yield "odd-3", {"txt": b"\xff\xfe"}


def demo(steps: int, **settings: str) -> RunSpec:
    small = {"checkpoint.every": str(steps), "batch_size": "8", "eval.samples": "4", **settings}
    return load_run(DEMO, {**small, "steps": str(steps)})


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("tars")
    for number in range(4):
        samples = (
            captioned(shared_data / "images", number)
            if number % 2
            else spoken(shared_data / "audio" / "prompts", number)
        )
        write_tar(folder / f"shard-{number}.tar", [*samples, *(odd() if number == 3 else ())])
    return folder


def test_the_demos_model_trains_on_captioned_images_and_speech(tars: Path, tmp_path: Path) -> None:
    train(demo(8), f"{tars}/shard-{{0..3}}.tar", tmp_path, report=quiet)
    lines = read_metrics(tmp_path)
    assert len(lines) == 8
    assert {kind for line in lines for kind in line["loss_by_modality"]} == {"image", "audio"}
    assert lines[-1]["loss"] < lines[0]["loss"]
    left_out = {reason for line in lines for reason in line["left_out"]}
    assert {"schema", "bad-role", "not-utf8"} <= left_out


def test_training_goes_on_exactly_over_tars_that_are_named_otherwise(tars: Path, tmp_path: Path) -> None:
    whole = train(demo(6, **{"checkpoint.every": "3"}), f"{tars}/shard-{{0..3}}.tar", tmp_path / "whole", report=quiet)
    train(demo(3), [f"{tars}/shard-{{0..3}}.tar"], tmp_path / "parts", report=quiet)
    with serve_folder(tars) as server:
        spec = demo(6, **{"checkpoint.every": "3"})
        train(spec, f"{server.url}/shard-{{0..3}}.tar", tmp_path / "parts", report=quiet)
    losses = [[line["loss"] for line in read_metrics(tmp_path / part)] for part in ("whole", "parts")]
    assert losses[0] == losses[1] and whole is not None


def test_samples_are_those_of_the_tars(tars: Path) -> None:
    dataset = open_dataset(f"{tars}/shard-*.tar")
    sums = dataset.manifest.totals.sums
    assert (len(dataset), sums.images) == (36, 17)
    assert sums.audio_ms > 10_000 and sums.text_characters > 0
    assert dataset.manifest.totals.by_modality["audio+text"] == 16
