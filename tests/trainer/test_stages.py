"""Chains of stages: each begins with the best weights of the one before; killed anywhere, a chain ends the same."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from shardkit import SpecError
from tests.trainer.datasets import tiny_run
from tests.trainer.runs import Stop
from trainer.checkpoint import list_checkpoints
from trainer.cli.chain import _line
from trainer.eval.heldout import open_measure
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.run import Run, open_run
from trainer.spec import ModelSpec, RunSpec, load_run, stage_runs
from trainer.stages import ChainOutcome, read_chain, train_chain

STAGES: list[dict[str, Any]] = [
    {"name": "align", "steps": 4, "trainable": ["vision_connector", "audio_connector"],
     "data": {"where": "modality~image|audio"}, "optimizer": {"rate": 3e-3}},
    {"name": "sft", "steps": 5, "trainable": ["language", "vision_connector"], "batch_size": 3,
     "loss": {"weighting": "sample"}},
]  # fmt: skip
ALL = ("1-align", "2-sft")


@pytest.fixture(scope="module")
def spec(tiny_spec: ModelSpec) -> RunSpec:
    return tiny_run(
        tiny_spec, stages=STAGES, checkpoint={"every": 1, "keep": 9}, eval={"samples": 6, "every": 1, "generate": 0}
    )


@pytest.fixture(scope="module")
def whole(spec: RunSpec, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    chain(spec, dataset, out)
    return out


def chain(spec: RunSpec, dataset: Path, out: Path, resume: str = "auto", **watch: Any) -> ChainOutcome:
    report = watch.get("report", lambda event: None)
    return train_chain(spec, str(dataset), out, resume=resume, report=report, open_measure=open_measure)


def weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / f"step-{step:08d}" / "model.safetensors")


def assert_same(out: Path, other: Path) -> None:
    for name, step in (("1-align", 4), ("2-sft", 5)):
        for file in ("model.safetensors", "optimizer.safetensors"):
            path = Path(name) / "checkpoints" / f"step-{step:08d}" / file
            assert (out / path).read_bytes() == (other / path).read_bytes(), path
        assert [line["loss"] for line in read_metrics(out / name)] == [
            line["loss"] for line in read_metrics(other / name)
        ]
    assert read_chain(out) == read_chain(other)


def test_runs_and_chains_do_not_share_a_folder(spec: RunSpec, whole: Path, dataset: Path, tmp_path: Path) -> None:
    plain = msgspec.structs.replace(spec, stages=(), steps=1)
    train(plain, str(dataset), tmp_path, report=lambda event: None)
    with pytest.raises(SpecError, match="holds a run without stages"):
        chain(spec, dataset, tmp_path)
    with pytest.raises(SpecError, match="holds a chain of stages"):
        train(plain, str(dataset), whole, report=lambda event: None)
    assert sorted(path.name for path in whole.iterdir() if path.name[0] != ".") == [*ALL, "chain.json"]


def test_each_stage_has_its_own_folder_and_chain_json_names_where_each_began_and_ended(whole: Path) -> None:
    first, second = read_chain(whole)
    assert (first.folder, second.folder) == ALL
    assert (first.status, second.status) == ("done", "done")
    assert (first.start, first.end) == ("", "1-align/checkpoints/step-00000004")
    assert (second.start, second.end) == (first.best, "2-sft/checkpoints/step-00000005")
    assert [len(read_metrics(whole / name)) for name in ALL] == [4, 5]
    assert json.loads((whole / "2-sft" / "run.json").read_text())["loss"]["weighting"] == "sample"


def test_what_does_not_train_stays_bit_identical_and_what_trains_moves(whole: Path) -> None:
    first = weights(whole / "1-align", 1), weights(whole / "1-align", 4)
    moved = {name.partition(".")[0] for name in first[0] if not torch.equal(first[0][name], first[1][name])}
    assert moved == {"vision_connector", "audio_connector"}
    begun = load_file(whole / read_chain(whole)[1].start / "model.safetensors")
    after = weights(whole / "2-sft", 5)
    assert begun.keys() == after.keys()
    moved = {name.partition(".")[0] for name in begun if not torch.equal(begun[name], after[name])}
    assert moved == {"vision_connector", "language"}


def test_the_second_stage_begins_with_the_best_weights_a_fresh_optimizer_and_from_the_first_sample(
    spec: RunSpec, dataset: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {2: 0.5, 4: 0.7}  # the last is not the best
    begun: list[Run] = []

    def measure(run: Run, when: str) -> None:
        if run.spec.name.endswith("sft") and not run.step:
            begun.append(run)
            stored = load_file(tmp_path / "1-align" / "checkpoints" / "step-00000002" / "model.safetensors")
            assert all(torch.equal(value, stored[name]) for name, value in run.model.named_parameters())
            assert not run.optimizer.state and not run.progress.reading
        if run.step in losses:
            run.metrics.write_evaluation({"step": run.step, "loss": losses[run.step], "samples": {"text": 6}})

    train_chain(spec, str(dataset), tmp_path, report=lambda event: None, open_measure=lambda: measure)
    assert begun
    first, second = read_chain(tmp_path)
    assert second.start == first.best == "1-align/checkpoints/step-00000002"
    assert (first.held_out_loss, first.held_out_samples) == (0.5, 6)  # of the best, not of the last
    assert "best 1-align/checkpoints/step-00000002 (held-out loss 0.500 over 6 samples)" in _line(first)


def test_without_held_out_losses_the_last_checkpoint_is_the_start(spec: RunSpec, dataset: Path, tmp_path: Path) -> None:
    train_chain(spec, str(dataset), tmp_path, report=lambda event: None)
    assert read_chain(tmp_path)[1].start == "1-align/checkpoints/step-00000004"


@pytest.mark.parametrize("at", [("align", 1), ("align", 4), ("sft", 1), ("sft", 3)])
def test_a_chain_stopped_anywhere_goes_on_in_its_stage_and_ends_the_same(
    at: tuple[str, int], spec: RunSpec, dataset: Path, whole: Path, tmp_path: Path
) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and (event["stage"], event["step"]) == at:
            raise Stop

    with pytest.raises(Stop):
        chain(spec, dataset, tmp_path, report=stop)
    chain(spec, dataset, tmp_path)
    assert_same(tmp_path, whole)


def test_a_chain_killed_in_its_second_stage_ends_with_the_same_weights_by_the_same_command(
    spec: RunSpec, dataset: Path, whole: Path, tmp_path: Path
) -> None:
    run_file, out = tmp_path / "run.yaml", tmp_path / "out"
    run_file.write_bytes(msgspec.yaml.encode(spec))
    command = [sys.executable, "-m", "trainer", "train", str(run_file), "--data", str(dataset), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list_checkpoints(out / "2-sft" / "checkpoints"):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["stage"] for event in events if "stage" in event} == {"sft"}
    assert next(event["step"] for event in events if event["event"] == "start") >= 1
    assert_same(out, whole)


def test_a_finished_chain_does_nothing_more(spec: RunSpec, dataset: Path, whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()}
    assert chain(spec, dataset, whole).outcomes == {}
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.is_file()} == before


def test_a_killed_last_measurement_of_a_stage_is_made_up_for(
    spec: RunSpec, dataset: Path, whole: Path, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    def killed_at_its_end() -> Any:
        real = open_measure()

        def measure(run: Run, when: str) -> None:
            if when == "after":
                raise Killed
            real(run, when)

        return measure

    with pytest.raises(Killed):
        train_chain(spec, str(dataset), tmp_path, report=lambda event: None, open_measure=killed_at_its_end)
    chain(spec, dataset, tmp_path)
    assert_same(tmp_path, whole)


def test_what_would_change_a_stage_that_another_began_from_is_refused(
    spec: RunSpec, dataset: Path, whole: Path, tmp_path: Path
) -> None:
    longer = with_stage(spec, 0, steps=9)
    with pytest.raises(SpecError, match=r"1-align stands at step 4 of 9 and 2-sft has begun from it"):
        chain(longer, dataset, whole)
    with pytest.raises(SpecError, match=r"optimizer\.rate = 0\.003, the spec now says 0\.1"):
        chain(with_stage(spec, 0, optimizer={"rate": 0.1}), dataset, whole)
    with pytest.raises(SpecError, match="holds the stage 2-sft, which the spec has not"):
        chain(msgspec.structs.replace(spec, stages=spec.stages[:1]), dataset, whole)
    with pytest.raises(SpecError, match="--resume is none"):
        chain(spec, dataset, whole, resume="none")
    with pytest.raises(SpecError, match="2-sft has begun from what would be trained anew"):
        chain(spec, dataset, whole, resume=str(whole / "1-align" / "checkpoints" / "step-00000004"))
    with pytest.raises(SpecError, match="no checkpoint of a stage"):
        chain(spec, dataset, whole, resume=str(tmp_path))


def test_a_longer_last_stage_trains_on(spec: RunSpec, dataset: Path, tmp_path: Path) -> None:
    chain(with_stage(spec, 1, steps=2), dataset, tmp_path)
    chain(with_stage(spec, 1, steps=3), dataset, tmp_path)
    assert read_chain(tmp_path)[1].end == "2-sft/checkpoints/step-00000003"
    assert [line["step"] for line in read_metrics(tmp_path / "2-sft")] == [1, 2, 3]


def test_a_stage_keeps_what_another_trained_of_pretrained_weights(
    dataset: Path, tmp_path: Path, tiny_spec: ModelSpec
) -> None:
    from transformers import SiglipVisionConfig, SiglipVisionModel

    assert tiny_spec.vision
    config: dict[str, Any] = {**tiny_spec.vision.config, "vision_use_head": False}
    SiglipVisionModel(SiglipVisionConfig(**config)).save_pretrained(tmp_path / "siglip")
    vision = msgspec.structs.replace(tiny_spec.vision, config={}, pretrained=str(tmp_path / "siglip"))
    model = msgspec.structs.replace(tiny_spec, vision=vision)
    stages = [
        {"name": "see", "steps": 2, "trainable": ["vision"], "data": {"where": "modality~image"}},
        {"name": "say", "steps": 2, "trainable": ["language"]},
    ]
    out = tmp_path / "out"
    chain(tiny_run(model, stages=stages, checkpoint={"every": 1}), dataset, out)
    seen, said = weights(out / "1-see", 2), weights(out / "2-say", 2)
    names = [name for name in seen if name.startswith("vision.")]
    assert names and all(torch.equal(seen[name], said[name]) for name in names)
    fresh = SiglipVisionModel.from_pretrained(tmp_path / "siglip").state_dict()
    assert any(not torch.equal(seen[name], fresh[name.removeprefix("vision.tower.")]) for name in names)
    chain(tiny_run(model, stages=[stages[0], {**stages[1], "steps": 3}], checkpoint={"every": 1}), dataset, out)
    more = weights(out / "2-say", 3)  # resumed: the trained eyes came from the checkpoint, not from the folder
    assert all(torch.equal(seen[name], more[name]) for name in names)


def test_a_run_begins_with_the_weights_and_the_tokeniser_of_another_and_resumes_without_it(
    spec: RunSpec, dataset: Path, tmp_path: Path, tiny_spec: ModelSpec
) -> None:
    plain = tiny_run(tiny_spec, steps=2, eval={"samples": 0}, tokenizer={"vocabulary": 320})
    train(plain, str(dataset), tmp_path / "first", report=lambda event: None)
    second = tiny_run(tiny_spec, steps=2, eval={"samples": 0}, start=str(tmp_path / "first"), seed=9)
    with open_run(second, str(dataset), tmp_path / "second", "auto", lambda event: None) as run:
        stored = weights(tmp_path / "first", 2)
        assert all(torch.equal(value, stored[name]) for name, value in run.model.named_parameters())
        assert run.speech.vocabulary == 320 and run.step == 0
    train(second, str(dataset), tmp_path / "second", report=lambda event: None)
    shutil.rmtree(tmp_path / "first")
    longer = msgspec.structs.replace(second, steps=3)
    train(longer, str(dataset), tmp_path / "second", report=lambda event: None)
    assert [line["step"] for line in read_metrics(tmp_path / "second")] == [1, 2, 3]
    with pytest.raises(SpecError, match=r"start is .*first': no whole checkpoint there"):
        train(second, str(dataset), tmp_path / "third", report=lambda event: None)


def test_a_start_of_another_model_or_a_damaged_one_is_refused(
    spec: RunSpec, dataset: Path, whole: Path, tmp_path: Path, tiny_spec: ModelSpec
) -> None:
    begun = whole / "1-align" / "checkpoints" / "step-00000004"
    deaf = tiny_run(msgspec.structs.replace(tiny_spec, audio=None), start=str(begun))
    with pytest.raises(SpecError, match="is of another model"):
        train(deaf, str(dataset), tmp_path / "deaf", report=lambda event: None)
    copy = shutil.copytree(begun, tmp_path / "step-00000004")
    (copy / "model.safetensors").write_bytes((begun / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(SpecError, match=r"start: the checkpoint .* is not whole \(model.safetensors is not what"):
        train(tiny_run(tiny_spec, start=str(copy)), str(dataset), tmp_path / "out", report=lambda event: None)


def test_a_part_that_the_model_has_not_is_named(dataset: Path, tmp_path: Path, tiny_spec: ModelSpec) -> None:
    spec = tiny_run(tiny_spec, trainable=["adapters"])
    with pytest.raises(SpecError, match=r"trainable: .* adapters"):
        chain(
            msgspec.structs.replace(spec, stages=tiny_run(tiny_spec, stages=[{"name": "a"}]).stages), dataset, tmp_path
        )


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("{name: a, optimiser: {}}", "unknown field `optimiser` - at `$.stages[1]`; did you mean `optimizer`"),
        ("{name: a, optimizer: {ratte: 1}}", "unknown field `ratte` - at `$.stages[1].optimizer`; did you mean `rate`"),
        ("{name: a, data: {pack: {tokens: many}}}", "at `$.stages[1].data.pack.tokens`"),
        ("{name: a, trainable: [vison]}", "Invalid enum value 'vison' - at `$.stages[1].trainable[0]`"),
        ("{name: a, trainable: []}", "trainable names no part"),
        ("{name: a, steps: 0}", "steps is 0; at least 1 - at `$.stages[1]`"),
        ("{name: a/b}", "a stage's name is 'a/b'"),
        ("{name: first}", "two stages are named 'first'"),
        (
            "{name: a, batch_size: 9, accumulate: 2}",
            "batch_size 9 is not a multiple of accumulate 2 - at `$.stages[1]`",
        ),
    ],
)
def test_mistakes_in_a_stage_are_refused_with_their_place(stage: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(f"name: x\nmodel: {{language: {{pretrained: m}}}}\nstages: [{{name: first}}, {stage}]\n")
    with pytest.raises(SpecError) as error:
        load_run(path)
    assert message in str(error.value)


def test_stages_take_what_they_do_not_say_from_the_run_and_settings_reach_them_by_name(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    stages = "[{name: a, optimizer: {rate: 0.5}}, {name: b, steps: 3, data: {where: modality~image}}]"
    path.write_text(f"name: x\nsteps: 7\nmodel: {{language: {{pretrained: m}}}}\nstages: {stages}\n")
    first, second = stage_runs(load_run(path, {"optimizer.warmup": "2", "stages.b.steps": "4", "stages.0.seed": "9"}))
    assert (first.name, first.steps, first.seed, first.optimizer.rate, first.optimizer.warmup) == ("x-a", 7, 9, 0.5, 2)
    assert (second.steps, second.data.where, second.optimizer.rate) == (4, "modality~image", 3e-4)
    with pytest.raises(SpecError, match="no entry 'c' in the list; there are: a, b"):
        load_run(path, {"stages.c.steps": "4"})


def with_stage(spec: RunSpec, at: int, **changes: Any) -> RunSpec:
    stages = list(spec.stages)
    stages[at] = msgspec.structs.replace(stages[at], **changes)
    return msgspec.structs.replace(spec, stages=tuple(stages))
