"""A run at its door: from a dataset to checkpoints and metrics; bad input says what is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shardkit import ShardDamaged, SpecError, open_dataset
from shardkit.read.serve import serve_folder
from tests.trainer.datasets import build_small, generated, tiny_run
from tests.trainer.runs import quiet
from trainer.data.reading import is_held_out
from trainer.eval.command import EvalJob, evaluate_run
from trainer.eval.heldout import open_measure
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.spec import LanguageSpec, ModelSpec, PackSpec


def test_a_run_over_http_leaves_metrics_checkpoints_and_a_plot(
    dataset: Path, tmp_path: Path, tiny_spec: ModelSpec
) -> None:
    events: list[dict[str, Any]] = []
    run = tiny_run(tiny_spec)
    cached = msgspec.structs.replace(run, data=msgspec.structs.replace(run.data, cache=str(tmp_path / "cache")))
    with serve_folder(dataset) as server:
        outcome = train(cached, server.url, tmp_path, report=events.append, measure=open_measure())
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["blocks"]
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        assert line["loss"] > 0 and line["gradient_norm"] > 0 and line["learning_rate"] > 0
        assert line["tokens_per_second"] > 0 and 0 <= line["data_wait"] <= 1
        assert set(line["loss_by_modality"]) <= {"text", "image", "audio"}
        assert line["read"] == 4
    assert {kind for line in lines for kind in line["loss_by_modality"]} == {"text", "image", "audio"}
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["step-00000004", "step-00000006"]
    assert (tmp_path / "loss.png").stat().st_size > 1000
    assert set(outcome.held_out) == {"before", "after", "shuffled_image", "shuffled_audio"}
    assert [event["event"] for event in events].count("checkpoint") == 3


def test_held_out_samples_are_never_trained_on(
    dataset: Path, tmp_path: Path, tiny_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trainer.step

    seen: list[str] = []
    real = trainer.step.accumulate

    def watch(run: Any, batches: Any) -> Any:
        seen.extend(key for batch in batches for key in batch.keys)
        return real(run, batches)

    monkeypatch.setattr(trainer.step, "accumulate", watch)
    train(tiny_run(tiny_spec, steps=20), str(dataset), tmp_path, report=quiet)
    keys = [item.key for item in open_dataset(str(dataset))]
    held_out = {key for key in keys if is_held_out(key, 0.2)}
    assert held_out
    assert set(seen) == set(keys) - held_out  # two epochs: every other sample was trained on


@pytest.mark.parametrize("packed", [False, True])
def test_a_filter_chooses_what_is_trained_on_and_a_resume_keeps_it(
    dataset: Path, tmp_path: Path, tiny_spec: ModelSpec, packed: bool
) -> None:
    run = tiny_run(tiny_spec, steps=6)
    pack = PackSpec(tokens=run.data.max_tokens, lanes=1) if packed else None
    data = msgspec.structs.replace(run.data, where="modality~image", pack=pack)
    spec = msgspec.structs.replace(run, data=data)
    train(msgspec.structs.replace(spec, steps=4), str(dataset), tmp_path, report=quiet)
    train(spec, str(dataset), tmp_path, report=quiet)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert {kind for line in lines for kind in line["loss_by_modality"]} == {"image"}
    with pytest.raises(SpecError, match="where"):
        other = msgspec.structs.replace(run, data=msgspec.structs.replace(data, where="modality~audio"))
        train(other, str(dataset), tmp_path, report=quiet)


@pytest.mark.parametrize("packed", [False, True])
def test_damage_stops_a_run_or_is_left_out_counted_and_named(
    dataset: Path, tmp_path: Path, tiny_spec: ModelSpec, packed: bool
) -> None:
    root = tmp_path / "data"
    shutil.copytree(dataset, root)
    opened = open_dataset(root)
    item = next(item for item in opened if not is_held_out(item.key, 0.2))
    digest = opened.manifest.shards[item.shard].shard.digest
    (shard,) = root.glob(f"shards/*/{digest}.*")
    data = shard.read_bytes()
    at = data.index(item.key.encode()) + 600
    shard.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    run = tiny_run(tiny_spec, steps=12)
    pack = PackSpec(tokens=run.data.max_tokens, lanes=1) if packed else None
    spec = msgspec.structs.replace(run, data=msgspec.structs.replace(run.data, on_damage="skip", pack=pack))
    train(spec, str(root), tmp_path / "run", report=quiet)
    lines = read_metrics(tmp_path / "run")
    named = [name for line in lines for name in line.get("damaged", [])]
    assert named
    assert set(named) == {f"{digest}/{item.ordinal}"}
    assert sum(line["left_out"].get("damaged", 0) for line in lines) == len(named)
    with pytest.raises(ShardDamaged, match=item.key):
        train(run, str(root), tmp_path / "other", report=quiet)


def test_accumulated_steps_read_the_same_samples_and_give_the_same_losses(
    dataset: Path, tmp_path: Path, tiny_spec: ModelSpec
) -> None:
    losses = []
    for parts in (1, 2):
        train(tiny_run(tiny_spec, accumulate=parts, steps=4), str(dataset), tmp_path / str(parts), report=quiet)
        losses.append([line["loss"] for line in read_metrics(tmp_path / str(parts))])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_eval_measures_the_newest_checkpoint_again(dataset: Path, tmp_path: Path, tiny_spec: ModelSpec) -> None:
    spec = tiny_run(tiny_spec, steps=2)
    outcome = train(spec, str(dataset), tmp_path, report=quiet, measure=open_measure())
    found = evaluate_run(EvalJob(folder=tmp_path, data=str(dataset), samples=6))
    assert found["step"] == 2
    assert found["after"]["loss"] == pytest.approx(outcome.held_out["after"]["loss"], rel=1e-5)


def test_unlabelled_samples_are_left_out_and_counted(tmp_path: Path, tiny_spec: ModelSpec) -> None:
    dataset = build_small(
        tmp_path / "data",
        generated("notes", "notes", "question_answer", 6),
        generated("tones", "dtmf", "unlabelled", 6, media_type="tones"),
    )
    train(tiny_run(tiny_spec, steps=3, data={"held_out": 0.0}), str(dataset), tmp_path / "run", report=quiet)
    lines = read_metrics(tmp_path / "run")
    assert sum(line["left_out"].get("unlabelled", 0) for line in lines) == 6
    assert lines[-1]["samples"] == 6


def test_a_dataset_without_any_answer_is_an_error(tmp_path: Path, tiny_spec: ModelSpec) -> None:
    dataset = build_small(tmp_path / "data", generated("tones", "dtmf", "unlabelled", 6, media_type="tones"))
    with pytest.raises(SpecError, match=r"none of 6 samples can be trained on \(.*unlabelled\)"):
        train(tiny_run(tiny_spec), str(dataset), tmp_path / "run", report=quiet)


def test_resuming_with_other_settings_is_refused_with_the_difference(
    dataset: Path, tmp_path: Path, tiny_spec: ModelSpec
) -> None:
    spec = tiny_run(tiny_spec, steps=2)
    train(spec, str(dataset), tmp_path, report=quiet)
    with pytest.raises(SpecError, match=r"batch_size = 4, the spec now says 8"):
        train(msgspec.structs.replace(spec, batch_size=8), str(dataset), tmp_path, report=quiet)
    with pytest.raises(SpecError, match="--resume is none"):
        train(spec, str(dataset), tmp_path, resume="none", report=quiet)
    with pytest.raises(SpecError, match="no whole checkpoint"):
        train(spec, str(dataset), tmp_path, resume=str(tmp_path / "nowhere"), report=quiet)
    more = train(msgspec.structs.replace(spec, steps=3), str(dataset), tmp_path, report=quiet)
    assert more.steps == 3


def test_going_back_behind_later_checkpoints_is_refused_and_elsewhere_does_not_count_as_the_beginning(
    dataset: Path, tmp_path: Path, tiny_spec: ModelSpec
) -> None:
    spec = tiny_run(tiny_spec, steps=4)
    train(spec, str(dataset), tmp_path / "run", report=quiet, measure=open_measure())
    second = str(tmp_path / "run" / "checkpoints" / "step-00000002")
    with pytest.raises(SpecError, match="holds later checkpoints, up to step-00000004"):
        train(spec, str(dataset), tmp_path / "run", resume=second, report=quiet)
    other = train(spec, str(dataset), tmp_path / "other", resume=second, report=quiet, measure=open_measure())
    assert [line["step"] for line in read_metrics(tmp_path / "other")] == [3, 4]
    assert "after" in other.held_out and "before" not in other.held_out


def test_samples_longer_than_the_language_model_takes_are_refused_at_once(
    dataset: Path, tmp_path: Path, tiny_spec: ModelSpec
) -> None:
    config = {**tiny_spec.language.config, "max_position_embeddings": 64}
    model = msgspec.structs.replace(tiny_spec, language=LanguageSpec(config=config))
    with pytest.raises(SpecError, match=r"data\.max_tokens is 128; the language model takes 64"):
        train(tiny_run(model), str(dataset), tmp_path, report=quiet)


def test_a_second_trainer_in_the_folder_fails_at_once(dataset: Path, tmp_path: Path, tiny_spec: ModelSpec) -> None:
    from trainer.folder import RunLocked

    def second(event: dict[str, Any]) -> None:
        if event["event"] == "start":
            with pytest.raises(RunLocked):
                train(tiny_run(tiny_spec), str(dataset), tmp_path, report=quiet)

    train(tiny_run(tiny_spec, steps=1), str(dataset), tmp_path, report=second)


def test_a_damaged_shard_stops_the_run_and_is_named(dataset: Path, tmp_path: Path, tiny_spec: ModelSpec) -> None:
    copy = tmp_path / "data"
    shutil.copytree(dataset, copy)
    for shard in copy.glob("shards/*/*"):
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.chmod(0o644)
        shard.write_bytes(data)
    with pytest.raises(ShardDamaged, match="shard"):
        train(tiny_run(tiny_spec), str(copy), tmp_path / "run", report=quiet)


def test_bfloat16_trains(dataset: Path, tmp_path: Path, tiny_spec: ModelSpec) -> None:
    train(tiny_run(tiny_spec, dtype="bfloat16", steps=2), str(dataset), tmp_path, report=quiet)
    assert len(read_metrics(tmp_path)) == 2


def test_a_loss_that_is_not_a_number_stops_the_run_and_is_not_kept(
    dataset: Path, tmp_path: Path, tiny_spec: ModelSpec
) -> None:
    from trainer.step import TrainingFailed

    spec = tiny_run(tiny_spec, optimizer={"rate": 1e30, "warmup": 0, "clip": 0.0}, checkpoint={"every": 1})
    with pytest.raises(TrainingFailed, match="gradient norm"):
        train(spec, str(dataset), tmp_path, report=quiet)


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory, tiny_spec: ModelSpec) -> Path:
    path = tmp_path_factory.mktemp("spec") / "tiny.yaml"
    path.write_bytes(msgspec.yaml.encode(tiny_run(tiny_spec)))
    return path


@pytest.fixture
def command(run_file: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "trainer", "train", str(run_file), "--out", str(tmp_path / "run"), *arguments]
        return subprocess.run(line, capture_output=True, text=True, timeout=120)

    return call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "x", "--set", "stepps=3"), "unknown field `stepps`"),
        (("--data", "x", "--set", "steps"), "--set steps: write it as name=value"),
        (("--data", "/nowhere/at/all"), "/nowhere/at/all"),
        (("--data", "http://127.0.0.1:9/data"), "127.0.0.1"),
        (("--data", "x", "--profile", "none"), "no profile 'none'"),
        ((), "--data"),
    ],
)
def test_bad_input_is_one_clear_message(
    command: Callable[..., subprocess.CompletedProcess[str]], arguments: tuple[str, ...], message: str
) -> None:
    done = command(*arguments)
    assert done.returncode == (1 if "127.0.0.1" in message else 2), done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_json_events_end_with_done(command: Callable[..., subprocess.CompletedProcess[str]], dataset: Path) -> None:
    done = command("--data", str(dataset), "--steps", "2", "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["start", "step", "step", "checkpoint", "done"]


def test_a_finished_run_says_so_and_changes_nothing(
    command: Callable[..., subprocess.CompletedProcess[str]], dataset: Path, tmp_path: Path
) -> None:
    command("--data", str(dataset), "--steps", "3")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    done = command("--data", str(dataset), "--steps", "2")
    assert done.returncode == 0 and "3 steps are done, 2 were asked for; --steps N trains on" in done.stdout
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_help_needs_no_torch() -> None:
    code = "import sys, trainer.cli.main, trainer.spec; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
