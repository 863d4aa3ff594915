"""Runs with other losses than SFT: preferences from a source to a trained model, resumed, measured; a teacher's run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shardkit import SpecError
from tests.trainer.answers import text_model
from tests.trainer.datasets import build_small
from tests.trainer.runs import Stop
from trainer.checkpoint import load_model
from trainer.data.tokenise import load_speech, train_speech
from trainer.eval.command import EvalJob, evaluate_run, read_run
from trainer.eval.heldout import open_measure
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.model.omni import Omni
from trainer.spec import load_run

RUNS = Path(__file__).resolve().parents[2] / "specs" / "runs"
COLOURS = ("red", "green", "blue", "yellow", "white")
THINGS = ("sky", "grass", "door", "snow", "lemon", "rose", "sea", "brick")
STEPS, STOP = 6, "3"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 preferences, and answers without one beside them."""
    folder = tmp_path_factory.mktemp("source")
    rows = [
        {"prompt": f"Which colour has the {thing}?", "chosen": f"It is {colour}.", "rejected": f"{colour} or so, eh"}
        for thing in THINGS
        for colour in COLOURS
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [{"question": f"What is {n}?", "answer": "a number"} for n in range(30)]
    (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    common = {"kind": "jsonl", "domain": "test"}
    return build_small(
        tmp_path_factory.mktemp("data") / "preferences",
        {**common, "name": "pairs", "path": str(folder / "pairs.jsonl"), "normalizer": "preference"},
        {**common, "name": "answers", "path": str(folder / "answers.jsonl"), "normalizer": "question_answer"},
    )


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    speech = train_speech(["Which colour has the sky? It is red."], 320)
    text_model(speech).language.save_pretrained(folder)
    speech.save(folder)
    return folder


def run(dataset: Path, out: Path, stop: str = "", name: str = "dpo", measure: str = "", **settings: str) -> Path:
    def report(event: dict[str, Any]) -> None:
        if stop and event["event"] == "step" and event["step"] == int(stop):
            raise Stop

    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    spec = load_run(RUNS / f"{name}.yaml", {"steps": str(STEPS), "checkpoint.every": "2", **dotted}, "tiny")
    train(spec, str(dataset), out, report=report, measure=open_measure() if measure else None)
    return out


def lines(out: Path, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(line[name] for name in names) for line in read_metrics(out)]


@pytest.mark.parametrize("name", ["dpo", "ipo", "simpo", "orpo", "kto"])
def test_the_tiny_profile_trains_on_preferences_with_every_rule(name: str, dataset: Path, tmp_path: Path) -> None:
    out = run(dataset, tmp_path, loss__name=name, steps="12", measure="yes", optimizer__rate="3.0e-3")
    found = lines(out, "loss", "reward_margin", "reward_accuracy")
    assert found[-1][1] > found[0][1] + 0.01
    assert sum(line["left_out"].get("no-preference", 0) for line in read_metrics(out)) > 0
    held_out = json.loads((out / "held_out.json").read_bytes())
    assert held_out["after"]["loss"] < held_out["before"]["loss"]
    measured = evaluate_run(EvalJob(folder=out, data=str(dataset), samples=8))
    assert measured["after"]["loss"] == pytest.approx(held_out["after"]["loss"], rel=1e-6)


VARIANTS = [("full", False), ("lora", False), ("lora", True)]


@pytest.mark.parametrize(("how", "loaded"), VARIANTS)
def test_a_resumed_run_compares_with_what_it_began_with(
    how: str, loaded: bool, dataset: Path, pretrained: Path, tmp_path: Path
) -> None:
    settings = {"model__language__train": how, "optimizer__rate": "1.0e-2"}
    if loaded:
        settings |= {"model__language": f"{{pretrained: {pretrained}, train: {how}}}"}
        settings |= {"tokenizer": f"{{pretrained: {pretrained}}}"}
        del settings["model__language__train"]
    whole = run(dataset, tmp_path / "whole", **settings)
    with pytest.raises(Stop):
        run(dataset, tmp_path / "resumed", STOP, **settings)
    resumed = run(dataset, tmp_path / "resumed", **settings)
    figures = ("step", "loss", "reward_margin", "chosen_reward", "rejected_reward", "gradient_norm")
    assert lines(resumed, *figures) == lines(whole, *figures)
    assert lines(whole, "reward_margin")[0] == (0.0,)  # the reference is the policy, at first
    last = Path("checkpoints") / f"step-{STEPS:08d}" / "model.safetensors"
    assert (resumed / last).read_bytes() == (whole / last).read_bytes()


def test_a_resume_that_would_compare_with_other_weights_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(dataset, tmp_path, STOP)
    path = tmp_path / "reference.json"
    noted = json.loads(path.read_bytes())
    first = min(noted)
    path.write_text(json.dumps({**noted, first: noted[first] * 1.001}))
    with pytest.raises(SpecError, match=r"the run began with other weights than can be made now \(.*differs\)"):
        run(dataset, tmp_path)
    path.write_text("{")
    with pytest.raises(SpecError, match=r"reference\.json is damaged"):
        run(dataset, tmp_path)


def test_a_dataset_without_preferences_says_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f'{{"question": "q{n}", "answer": "a"}}\n' for n in range(6)))
    source = {"kind": "jsonl", "name": "a", "path": str(tmp_path / "a.jsonl"), "normalizer": "question_answer"}
    data = build_small(tmp_path / "data", {**source, "domain": "test"})
    with pytest.raises(SpecError, match=r"no-preference.*wanted samples .* with a preference where the loss compares"):
        run(data, tmp_path / "out", tokenizer__samples="4")


def test_text_sft_and_language_train_packed_from_the_tiny_profile(dataset: Path, tmp_path: Path) -> None:
    for name in ("sft", "language"):
        out = run(
            dataset,
            tmp_path / name,
            name="text-sft",
            loss__name=name,
            steps="4",
            measure="yes" if name == "language" else "",
        )
        found = lines(out, "loss")
        assert found[-1] < found[0]


def test_a_run_is_the_teacher_of_another(dataset: Path, tmp_path: Path) -> None:
    teacher = run(dataset, tmp_path / "teacher", name="text-sft")
    tokens = teacher / "checkpoints" / f"step-{STEPS:08d}" / "tokenizer"
    settings = {
        "loss": f"{{name: distil, distil: {{teacher: {teacher}, features: 0.1, projection: learned}}}}",
        "tokenizer": f"{{pretrained: {tokens}}}",
        "seed": "5",
    }
    whole = run(dataset, tmp_path / "student", name="text-sft", measure="yes", **settings)
    kl = [line[0] for line in lines(whole, "kl")]
    assert kl[-1] < kl[0]
    with pytest.raises(Stop):
        run(dataset, tmp_path / "resumed", STOP, name="text-sft", **settings)
    resumed = run(dataset, tmp_path / "resumed", name="text-sft", **settings)
    assert lines(resumed, "loss", "kl", "hard_loss") == lines(whole, "loss", "kl", "hard_loss")
    assert evaluate_run(EvalJob(folder=whole, data=str(dataset), samples=8))["after"]["loss"] > 0
    path = whole / "checkpoints" / f"step-{STEPS:08d}"
    alone = Omni(read_run(whole).model, load_speech(str(path / "tokenizer")))
    load_model(path, alone)  # without what only its training needed
    assert not any(name.startswith("distil_projection") for name, _ in alone.named_parameters())


def test_a_preference_run_in_packs_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"loss\.name is dpo and data\.pack is given"):
        run(dataset, tmp_path, data__pack="{tokens: 256}")
