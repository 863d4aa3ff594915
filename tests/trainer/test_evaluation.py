"""Evaluating while a run trains changes nothing of it, survives a resume, and counts the answers that are right."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from shardkit import ShardkitError
from tests.trainer.answers import PREFERENCES, teaching, text_model
from tests.trainer.datasets import tiny_run
from tests.trainer.exports import replace_weights
from tests.trainer.pages import Parsed
from tests.trainer.runs import Stop
from trainer.cli.main import app
from trainer.data.collate import collate
from trainer.data.media import Medium
from trainer.data.tokenise import Speech, train_speech
from trainer.eval.answers import answer_rows, score, split_answer
from trainer.eval.command import EvalJob, evaluate_run
from trainer.eval.gallery import MOST_SOUND_BYTES, show_item
from trainer.eval.heldout import choose_in_turn, open_measure
from trainer.eval.loss import Ready, Rows, blank, exchange, measure_rows, undisturbed
from trainer.loop import train
from trainer.losses.table import make_loss
from trainer.metrics import read_evaluations, read_metrics
from trainer.model.omni import Omni
from trainer.run import Run
from trainer.spec import LanguageSpec, LossSpec, MetricsSpec, ModelSpec, RunSpec

STEPS = 6
EXACT = ("step", "loss", "loss_by_modality", "loss_by_source", "gradient_norm", "learning_rate", "tokens", "left_out")


def pick(line: dict[str, Any]) -> dict[str, Any]:
    return {name: line[name] for name in EXACT}


def spec_of(model: ModelSpec, every: int, **more: Any) -> RunSpec:
    dropping = {**model.language.config, "attention_dropout": 0.1}  # training draws random numbers at every step
    model = msgspec.structs.replace(model, language=LanguageSpec(config=dropping))
    watched = {"blank": ["audio"], "samples": 6, "every": every, "generate": 3, "new_tokens": 60}
    return tiny_run(model, steps=STEPS, eval=watched, checkpoint={"every": 2}, **more)


def go(spec: RunSpec, dataset: Path, out: Path, report: Callable[[dict[str, Any]], None] = lambda event: None) -> None:
    train(spec, str(dataset), out, report=report, measure=open_measure())


@pytest.fixture(scope="module")
def watched(tiny_spec: ModelSpec, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("watched")
    go(spec_of(tiny_spec, 1), dataset, out)
    return out


def test_evaluating_at_every_step_leaves_the_training_bit_for_bit_as_it_is(
    watched: Path, tiny_spec: ModelSpec, dataset: Path, tmp_path: Path
) -> None:
    train(spec_of(tiny_spec, 0), str(dataset), tmp_path, report=lambda event: None)
    assert [pick(line) for line in read_metrics(watched)] == [pick(line) for line in read_metrics(tmp_path)]
    last = Path("checkpoints") / f"step-{STEPS:08d}"
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (watched / last / name).read_bytes() == (tmp_path / last / name).read_bytes()
    assert [line["step"] for line in read_evaluations(watched)] == list(range(STEPS + 1))
    assert not (tmp_path / "eval.jsonl").exists()


def test_an_evaluation_holds_losses_by_part_answers_and_a_page(watched: Path) -> None:
    line = read_evaluations(watched)[-1]
    assert set(line["by_modality"]) == set(line["samples"]) <= {"text", "image", "audio"}
    assert set(line["by_category"]) == set(line["by_source"]) <= {"notes", "screens", "tones"}
    assert sum(line["samples"].values()) == 6 and line["answers"]["generated"] == 3
    mean = sum(line["by_modality"][kind] * count for kind, count in line["samples"].items()) / 6
    assert line["loss"] == pytest.approx(mean)
    text = (watched / "eval" / f"step-{STEPS:08d}.html").read_text(encoding="utf-8")
    page = Parsed(text)
    words = " ".join(page.words)
    assert page.open == [] and page.fetched == []
    assert f"{line['loss']:.3f}" in words and text.count("<article") == 3
    for kind, loss in line["by_modality"].items():
        assert kind in words and f"{loss:.3f}" in words
    assert ("data:image/" in text) is ("image" in line["answers"]["exact_match_by_modality"])
    assert ("<audio" in text) is ("audio" in line["answers"]["exact_match_by_modality"])


def test_a_stopped_and_resumed_run_has_each_evaluation_once_and_the_same(
    watched: Path, tiny_spec: ModelSpec, dataset: Path, tmp_path: Path
) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "evaluation" and event["step"] == 5:
            raise Stop

    spec = spec_of(tiny_spec, 1)
    with pytest.raises(Stop):
        go(spec, dataset, tmp_path, stop)
    assert read_evaluations(tmp_path)[-1]["step"] == 5
    go(spec, dataset, tmp_path)
    assert read_evaluations(tmp_path) == read_evaluations(watched)
    go(spec, dataset, tmp_path)  # done: measured again, replaced
    assert read_evaluations(tmp_path) == read_evaluations(watched)


def test_a_run_knows_its_newest_held_out_loss(
    tiny_spec: ModelSpec, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trainer.loop

    seen: list[float | None] = []

    def watch(run: Run) -> None:
        seen.append(run.held_out_loss)
        keep(run)

    keep = trainer.loop.keep
    monkeypatch.setattr(trainer.loop, "keep", watch)
    spec = spec_of(tiny_spec, 4)
    go(msgspec.structs.replace(spec, steps=4), dataset, tmp_path)
    lines = {line["step"]: line["loss"] for line in read_evaluations(tmp_path)}
    assert seen == [lines[0], lines[4]]
    go(spec, dataset, tmp_path)
    assert seen[2] == read_evaluations(tmp_path)[-1]["loss"]


def test_trainer_eval_gives_the_figures_and_a_page_of_its_own(watched: Path, dataset: Path) -> None:
    found = evaluate_run(EvalJob(folder=watched, data=str(dataset), samples=6, generate=3))
    line = read_evaluations(watched)[-1]
    assert found["after"]["loss"] == pytest.approx(line["loss"], rel=1e-6)
    assert found["after"]["answers"] == line["answers"]
    assert "answers" in found["shuffled_image"] and "answers" in found["blanked_audio"]
    own, silent = (found[name]["by_modality"] for name in ("after", "blanked_audio"))
    assert own["audio"] != silent["audio"] and own["text"] == pytest.approx(silent["text"], rel=1e-5)
    assert Path(found["page"]).name == f"measured-step-{STEPS:08d}.html"
    assert Path(found["page"]).is_file()


def test_weights_that_give_no_numbers_are_told_and_fail_the_command(
    watched: Path, dataset: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(watched, tmp_path / "run")
    newest = run / "checkpoints" / f"step-{STEPS:08d}"
    spoil(newest, "audio_connector.")
    command = ["eval", str(run), "--data", str(dataset), "--samples", "6", "--generate", "0"]
    ended = CliRunner().invoke(app, [*command, "--json"])
    assert isinstance(ended.exception, ShardkitError) and ended.exception.exit_code == 1
    assert re.search(
        r"the weights of step 6 give held-out losses that are not finite \(audio\): audio_connector\.\S+ holds numbers "
        r"that are not finite; measure an earlier checkpoint with --checkpoint best",
        str(ended.exception),
    ), ended.exception
    event = json.loads(ended.stdout.splitlines()[-1], parse_constant=pytest.fail)
    assert event["after"]["loss"] is None and event["after"]["by_modality"]["text"] > 0
    assert event["not_finite"]["after.by_modality.audio"] == "nan"
    good = CliRunner().invoke(app, [*command, "--checkpoint", str(newest.with_name("step-00000004"))])
    assert good.exit_code == 0 and "over 6 samples" in good.stdout, good.output


def spoil(path: Path, part: str) -> None:
    """Put a NaN into a checkpoint's weights, which stays whole."""
    tensors = load_file(path / "model.safetensors")
    name = next(name for name in tensors if name.startswith(part))
    tensors[name].view(-1)[0] = float("nan")
    replace_weights(path, tensors)


def test_losses_that_are_not_finite_are_warned_of_while_a_run_trains(
    tiny_spec: ModelSpec, dataset: Path, tmp_path: Path
) -> None:
    def measure(run: Run, when: str) -> None:
        if when == "after":
            with torch.no_grad():
                run.model.audio_connector.latents.fill_(float("nan"))  # type: ignore[union-attr, operator]
        inner(run, when)

    inner = open_measure()
    events: list[dict[str, Any]] = []
    spec = msgspec.structs.replace(spec_of(tiny_spec, 0), steps=2)
    train(spec, str(dataset), tmp_path, report=events.append, measure=measure)
    (text,) = [event["text"] for event in events if event["event"] == "warning"]
    assert text.startswith("held-out losses after step 2 are not finite: audio")
    assert "loss" in read_evaluations(tmp_path)[-1] and read_evaluations(tmp_path)[-1]["loss"] is None
    train(spec, str(dataset), tmp_path, report=events.append)  # held_out.json with null is read


def test_a_run_in_bfloat16_is_evaluated_in_it(tiny_spec: ModelSpec, dataset: Path, tmp_path: Path) -> None:
    spec = msgspec.structs.replace(spec_of(tiny_spec, 4), dtype="bfloat16")
    go(spec, dataset, tmp_path)
    assert [line["step"] for line in read_evaluations(tmp_path)] == [0, 4, 6]
    assert all(line["answers"]["generated"] == 3 for line in read_evaluations(tmp_path))


def test_a_stopped_run_leaves_its_page_of_curves(tiny_spec: ModelSpec, dataset: Path, tmp_path: Path) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 3:
            raise Stop

    with pytest.raises(Stop):
        go(spec_of(tiny_spec, 0), dataset, tmp_path, stop)
    page = Parsed((tmp_path / "metrics.html").read_text(encoding="utf-8"))
    assert page.readings[0][-1][1] == 3
    quiet = msgspec.structs.replace(spec_of(tiny_spec, 0), metrics=MetricsSpec(html=False))
    go(quiet, dataset, tmp_path / "quiet")
    assert not (tmp_path / "quiet" / "metrics.html").exists()


COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (250, 250, 250)}


@pytest.fixture(scope="module")
def learned(tiny_spec: ModelSpec, item: Callable[..., Any]) -> tuple[Ready, Rows, Speech]:
    """A model that has learned its pictures by heart."""
    torch.manual_seed(1)
    torch.set_num_threads(1)
    speech = train_speech(["Which colour is it? red green blue white"], 320)
    config: dict[str, int | float | str | bool] = {
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "initializer_range": 0.1,
    }  # fmt: skip
    model = Omni(msgspec.structs.replace(tiny_spec, language=LanguageSpec(config=config)), speech).train()
    rows: Rows = []
    for name, colour in COLOURS.items():
        asked = item(("user", "Which colour is it?"), ("assistant", name), images=1)
        pixels = np.broadcast_to(np.array(colour, dtype=np.uint8)[:, None, None], (3, 32, 32))
        media = (Medium(modality="image", images=(pixels.copy(),)),)
        rows.append((name, speech.encode(asked.sample, media, model.senses, 64)))
    loss, optimizer = make_loss(LossSpec()), torch.optim.AdamW(model.parameters(), 3e-3)
    batch = collate(rows, model.senses, speech.pad_id)
    for _ in range(150):
        (loss(model, batch)[0] / loss.weight(batch)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    return Ready(model=model, loss=loss, pad_id=speech.pad_id), rows, speech


def test_answers_learned_by_heart_are_all_right_and_wrong_with_others_pictures(
    learned: tuple[Ready, Rows, Speech],
) -> None:
    ready, rows, speech = learned
    answers = answer_rows(ready, rows, speech, 12)
    assert [answer.found for answer in answers] == list(COLOURS)
    assert score(answers)["exact_match"] == 1.0
    grey = score(answer_rows(ready, blank(rows, "image"), speech, 12))
    assert grey["exact_match"] <= 0.25  # one answer to all of them
    others = score(answer_rows(ready, exchange(rows, "image"), speech, 12))
    assert others["exact_match"] == others["exact_match_by_modality"]["image"] == 0.0
    own, other = measure_rows(ready, rows), measure_rows(ready, exchange(rows, "image"))
    assert own and other and own.held_out.loss < 0.1 and other.held_out.loss > 1.0


def test_an_answer_longer_than_the_limit_is_not_compared(learned: tuple[Ready, Rows, Speech]) -> None:
    ready, rows, speech = learned
    answers = answer_rows(ready, rows, speech, 1)
    assert {answer.exact for answer in answers} == {None}
    assert "exact_match" not in score(answers) and score(answers)["generated"] == 4


def test_losses_by_sample_are_those_of_the_samples_alone(learned: tuple[Ready, Rows, Speech]) -> None:
    ready, rows, _ = learned
    together = measure_rows(ready, rows)
    assert together
    for row in rows:
        alone = measure_rows(ready, [row])
        assert alone and alone.by_key[row[0]] == pytest.approx(together.by_key[row[0]], rel=1e-3, abs=1e-5)
    assert together.held_out.loss == pytest.approx(sum(together.by_key.values()) / len(rows))


def test_measuring_leaves_modes_and_randomness_alone(learned: tuple[Ready, Rows, Speech]) -> None:
    ready = learned[0]
    ready.model.vision_connector.eval()
    modes = [module.training for module in ready.model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    with undisturbed(ready):
        assert not ready.model.training and not torch.is_grad_enabled()
        torch.rand(3), random.random(), np.random.rand()
    assert [module.training for module in ready.model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]  # type: ignore[index]
    ready.model.train()


def test_the_prompt_ends_before_the_last_answer_and_keeps_the_media_before_it(
    item: Callable[..., Any], speech: Speech, tiny_spec: ModelSpec
) -> None:
    from trainer.data.media import load_media

    senses = Omni(tiny_spec, speech).senses
    asked = item(
        ("user", "<|image|> red?"), ("assistant", "blue"), ("user", "<|audio|><|image|> digits"), ("assistant", "1 2"),
        images=2, sounds=1,
    )  # fmt: skip
    row = speech.encode(asked.sample, load_media(asked, senses), senses, 128)
    split = split_answer(row, senses, speech)
    assert split
    prompt, expected = split
    assert speech.tokenizer.decode(expected) == "1 2<|end|>" and prompt.ids + expected == row.ids
    assert speech.tokenizer.decode(prompt.ids).endswith("digits<|end|><|assistant|>")
    assert (len(prompt.images), len(prompt.windows), any(prompt.said)) == (2, 1, False)
    assert split_answer(msgspec.structs.replace(row, cut_tokens=1), senses, speech) is None


def test_the_ends_of_answers_are_the_turn_s_and_the_text_s(speech: Speech) -> None:
    assert {speech.tokenizer.convert_ids_to_tokens(token) for token in speech.end_ids} == {"<|end|>"}


def test_kinds_are_chosen_in_turn(learned: tuple[Ready, Rows, Speech]) -> None:
    row = learned[1][0][1]
    named = [("a", "text"), ("b", "text"), ("c", "text"), ("d", "image"), ("e", "audio"), ("f", "audio")]
    rows: Rows = [(key, msgspec.structs.replace(row, kind=kind)) for key, kind in named]
    assert choose_in_turn(rows, 5) == ["e", "d", "a", "f", "b"]
    assert choose_in_turn(rows, 99) == ["e", "d", "a", "f", "b", "c"] and choose_in_turn([], 3) == []


def test_a_page_shows_pictures_small_and_names_a_sound_that_is_too_large(item: Callable[..., Any]) -> None:
    asked = item(("user", r"<|image|><|audio|> what is <|\image|>?"), ("assistant", "x"), images=1, sounds=1)
    shown = show_item(asked)
    assert shown.turns[0] == ("user", "⟨image⟩⟨audio⟩ what is <|image|>?")
    assert shown.pictures[0].startswith("data:image/") and shown.sounds[0].startswith("data:audio/flac;base64,")
    asked.members["audio0.flac"] = bytes(MOST_SOUND_BYTES + 1)
    assert show_item(asked).missing == ("audio0.flac: 2,000,001 bytes",) and show_item(asked).sounds == ()


def test_compared_answers_are_measured_by_their_loss_and_answered_from_the_prompt() -> None:
    speech = teaching("pairs")
    model = text_model(speech)
    rows: Rows = [(each.id, speech.encode(each, (), model.senses, 64)) for each in PREFERENCES]
    ready = Ready(model=model, loss=make_loss(LossSpec(name="simpo")), pad_id=speech.pad_id)
    measured = measure_rows(ready, rows)
    assert measured and set(measured.by_key) == {each.id for each in PREFERENCES}
    told = measured.held_out.told
    assert told["reward_margin"] == pytest.approx(told["chosen_reward"] - told["rejected_reward"], abs=1e-6)
    answers = answer_rows(ready, rows, speech, 8)
    assert [answer.expected for answer in answers] == ["red", "blue as can be", "0"]
    image = np.zeros((3, 8, 8), dtype=np.uint8)
    seen = [(key, msgspec.structs.replace(row, images=(image + at,))) for at, (key, row) in enumerate(rows)]
    for changed in (exchange(seen, "image"), blank(seen, "image")):
        for _, row in changed:
            assert row.rival and np.array_equal(row.rival.images[0], row.images[0])
