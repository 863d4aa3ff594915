"""A trained model answers the same from its run, its checkpoint and its exports; bad input says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from shardkit import Message, SpecError
from tests.media.making import clip
from tests.trainer.exports import make_base, train_tiny
from trainer.cli.main import app
from trainer.export.command import ExportJob, Form, export_run
from trainer.generate import Conversation, Decoding, Given, Model, open_model, read_messages
from trainer.generate.sampling import chooser, nucleus
from trainer.spec import ModelSpec

FORMS: tuple[Form, ...] = ("adapter", "merged", "deploy")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, png: Callable[..., bytes], flac: Callable[..., bytes]) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "red.png").write_bytes(png((200, 30, 30)))
    (folder / "blue.png").write_bytes(png((0, 30, 230)))
    (folder / "tone.flac").write_bytes(flac(0.5))
    (folder / "broken.png").write_bytes(png()[:60])
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_spec: ModelSpec) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    return train_tiny(folder, tiny_spec, make_base(folder / "base"), "lora")


@pytest.fixture(scope="module")
def model(run: Path) -> Model:
    return open_model(run, device="cpu")


def answers(model: Model, files: Path) -> list[str]:
    how = Decoding(max_tokens=12)
    return [
        model.answer("Which colour?", images=[files / "red.png"], how=how),
        model.answer(
            "<|audio|>Which digits?<|image|>", images=[files / "blue.png"], audio=[files / "tone.flac"], how=how
        ),
        model.answer("What now?", how=how),
    ]


def test_run_checkpoint_and_exports_answer_alike(run: Path, model: Model, files: Path, tmp_path: Path) -> None:
    wanted = answers(model, files)
    assert len(set(wanted)) == 3
    assert answers(open_model(run / "checkpoints" / "step-00000004", device="cpu"), files) == wanted
    for form in FORMS:
        export_run(ExportJob(folder=run, form=form, out=tmp_path / form), lambda text: None)
        assert answers(open_model(tmp_path / form, device="cpu"), files) == wanted, form
    earlier = open_model(run / "checkpoints" / "step-00000002", device="cpu")
    assert earlier.step == 2


def test_what_is_seen_and_heard_reaches_the_prompt(model: Model, files: Path) -> None:
    senses = model.omni.senses
    plain = model.reply(read_messages(None, "Which?", Given()))
    seen = model.reply(read_messages(None, "Which?", Given(images=(files / "red.png",) * 2)))
    heard = model.reply(read_messages(None, "Which?", Given(audio=((files / "tone.flac").read_bytes(),))))
    assert seen.prompt_tokens == plain.prompt_tokens + 2 * senses.image_latents
    assert heard.prompt_tokens == plain.prompt_tokens + senses.audio_latents


def test_the_prompt_is_the_one_of_training(model: Model) -> None:
    turns = (Message(role="user", content="a"), Message(role="assistant", content="b"),
             Message(role="user", content="c"))  # fmt: skip
    prompt = model._prompt(Conversation(messages=turns))
    text = model.speech.tokenizer.decode(list(prompt.ids))
    assert text == "<|user|>a<|end|><|assistant|>b<|end|><|user|>c<|end|><|assistant|>"


def test_a_streamed_answer_is_the_answer(model: Model, files: Path) -> None:
    pieces: list[str] = []
    conversation = read_messages(None, "Which?", Given(images=(files / "red.png",)))
    reply = model.reply(conversation, Decoding(max_tokens=20), pieces.append)
    assert "".join(pieces) == reply.text
    assert len(pieces) > 1
    assert reply.text == model.reply(conversation, Decoding(max_tokens=20)).text


def test_a_seed_repeats_a_draw(model: Model) -> None:
    conversation = read_messages(None, "Which?", Given())
    drawn = [model.reply(conversation, Decoding(max_tokens=16, temperature=1.5, seed=seed)).text for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]
    narrow = Decoding(max_tokens=16, temperature=1.5, seed=1, top_p=1e-9)
    assert model.reply(conversation, narrow).text == model.reply(conversation, Decoding(max_tokens=16)).text


def test_the_nucleus_holds_the_likeliest_tokens() -> None:
    chances = torch.tensor([[0.1, 0.5, 0.15, 0.25]], dtype=torch.float64)
    assert nucleus(chances, 0.6).tolist() == [[0.0, 0.5, 0.0, 0.25]]
    assert nucleus(chances, 0.5).tolist() == [[0.0, 0.5, 0.0, 0.0]]
    assert nucleus(chances, 1.0) is chances
    logits = chances.log().float()
    counts = torch.zeros(4)
    choose = chooser(Decoding(temperature=1.0, top_p=0.75, seed=3))
    for _ in range(400):
        counts[int(choose(logits)[0])] += 1
    assert counts[0] == counts[2] == 0
    assert abs(counts[1] / 400 - 2 / 3) < 0.1


def test_messages_come_from_a_file(model: Model, files: Path, run: Path) -> None:
    path = files / "talk.json"
    talk: dict[str, Any] = {
        "messages": [{"role": "user", "content": "<|image|>Which?"}, {"role": "assistant", "content": "red"},
                     {"role": "user", "content": "And this? <|image|>"}],
        "modalities": {"image": ["red.png", "blue.png"]},
    }  # fmt: skip
    path.write_text(json.dumps(talk))
    ended = CliRunner().invoke(app, ["generate", str(run), "--messages", str(path), "--max-tokens", "5", "--json"])
    assert ended.exit_code == 0, ended.output
    event = json.loads(ended.stdout)
    assert event["answer"] == model.reply(read_messages(path, "", Given()), Decoding(max_tokens=5)).text
    longer = model.reply(read_messages(path, "Why?", Given()), Decoding(max_tokens=5))
    assert longer.prompt_tokens > event["prompt_tokens"]


def test_the_command_streams(run: Path, model: Model, files: Path) -> None:
    command = ["generate", str(run), "--image", str(files / "red.png"), "--max-tokens", "6", "Which?"]
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 0, ended.output
    assert ended.stdout == model.answer("Which?", images=[files / "red.png"], how=Decoding(max_tokens=6)) + "\n"


def test_bad_input_says_what_is_wrong(run: Path, model: Model, files: Path, tmp_path: Path) -> None:
    bad: list[tuple[str, Callable[[], object]]] = [
        ("the question is empty", lambda: model.answer("  ")),
        ("--image .*absent.png: No such file", lambda: model.answer("?", images=[files / "absent.png"])),
        ("broken.png: not image", lambda: model.answer("?", images=[files / "broken.png"])),
        ("talk.txt: not audio", lambda: model.answer("?", audio=[_text(files / "talk.txt")])),
        ("talk.txt: not video", lambda: model.answer("?", videos=[_text(files / "talk.txt")])),
        ("as many as the files", lambda: model.answer("<|image|><|image|>?", images=[files / "red.png"])),
        ("top_p is 0", lambda: Decoding(top_p=0)),
        ("temperature is -1", lambda: Decoding(temperature=-1)),
        ("holds no run", lambda: open_model(tmp_path)),
        ("is no folder", lambda: open_model(tmp_path / "gone")),
        ("the last message is the assistant's", lambda: model.reply(
            Conversation(messages=(Message(role="assistant", content="x"),)))),
        ("wanted {messages, modalities}", lambda: read_messages(_text(files / "talk.txt"), "", Given())),
        ("the language model has 512 places", lambda: model.answer("word " * 4000)),
        ("there are cpu, cuda and auto", lambda: open_model(run, device="tpu")),
    ]  # fmt: skip
    for message, make in bad:
        with pytest.raises(SpecError, match=message):
            make()


def test_a_model_without_eyes_or_ears_says_so(tmp_path: Path, tiny_spec: ModelSpec, files: Path) -> None:
    import msgspec

    deaf_and_blind = msgspec.structs.replace(tiny_spec, vision=None, audio=None)
    model = open_model(train_tiny(tmp_path, deaf_and_blind, make_base(tmp_path / "base"), "full"), device="cpu")
    with pytest.raises(SpecError, match="no eyes"):
        model.answer("?", images=[files / "red.png"])
    with pytest.raises(SpecError, match="no ears"):
        model.answer("?", audio=[files / "tone.flac"])


def test_a_damaged_export_is_refused(run: Path, tmp_path: Path) -> None:
    export_run(ExportJob(folder=run, form="merged", out=tmp_path / "out"), lambda text: None)
    path = tmp_path / "out" / "omni" / "connectors.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SpecError, match=r"connectors.safetensors has [0-9,]+ bytes, digests.json says"):
        open_model(tmp_path / "out")
    (tmp_path / "out" / "digests.json").unlink()  # without it, damage is found where a file does not read
    with pytest.raises(SpecError, match=r"connectors.safetensors cannot be read"):
        open_model(tmp_path / "out")
    (tmp_path / "out" / "omni" / "config.json").write_text("{")
    with pytest.raises(SpecError, match="export the run again"):
        open_model(tmp_path / "out")


def _text(path: Path) -> Path:
    path.write_text("no medium at all")
    return path


def test_a_video_is_seen_and_heard(model: Model, files: Path) -> None:
    (files / "clip.mp4").write_bytes(clip())
    senses = model.omni.senses
    plain = model.reply(read_messages(None, "Which?", Given()))
    shown = model.reply(read_messages(None, "Which? <|video|>", Given(videos=(files / "clip.mp4",))))
    more = senses.image_latents * senses.most_frames + senses.audio_latents * senses.most_windows
    assert shown.prompt_tokens == plain.prompt_tokens + len(model.speech.encode_text(" ")) + more
