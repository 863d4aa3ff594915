"""What makes a step faster or smaller changes nothing that is learnt: losses in pieces, layers compiled, device mel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from shardkit import SpecError
from trainer.data.collate import TrainBatch, collate
from trainer.data.media import load_media
from trainer.data.sounds import log_mel, window_of
from trainer.data.tokenise import Speech
from trainer.losses.sft import SftLoss
from trainer.losses.tokens import check_pieces, token_losses
from trainer.model.compiled import compile_regions, stacks
from trainer.model.mel import LogMel
from trainer.model.omni import Omni
from trainer.model.precision import settle_precision
from trainer.spec import Config, LanguageSpec, LoraSpec, LossSpec, ModelSpec

ASK = (("user", "<|image|>Q"), ("assistant", "red"))
HEAR = (("user", "<|audio|>Q"), ("assistant", "1 2"))
TEXT = (("user", "Q"), ("assistant", "a longer answer than the others"))
DEEP: Config = {
    "model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
}  # fmt: skip


def made(spec: ModelSpec, speech: Speech) -> Omni:
    torch.manual_seed(0)
    return Omni(spec, speech)


def batch_of(model: Omni, speech: Speech, *items: Any) -> TrainBatch:
    rows = [(i.key, speech.encode(i.sample, load_media(i, model.senses), model.senses, 200)) for i in items]
    return collate(rows, model.senses, speech.pad_id)


def gradients(model: Omni, batch: TrainBatch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss, _ = SftLoss(LossSpec())(model, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def close(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.allclose(found[name], value, atol=1e-6), name


def language(spec: ModelSpec, **fields: Any) -> ModelSpec:
    return msgspec.structs.replace(spec, language=LanguageSpec(**{"config": DEEP, **fields}))


@pytest.mark.parametrize("train", ["full", "lora"])
@pytest.mark.parametrize("chunk", [1, 5, 10_000])
def test_a_loss_in_pieces_has_the_same_gradients(
    tiny_spec: ModelSpec, speech: Speech, item: Callable[..., Any], train: Any, chunk: int
) -> None:
    model = made(language(tiny_spec, train=train, lora=LoraSpec(rank=2)), speech)
    check_pieces(model)
    batch = batch_of(model, speech, item(*ASK, images=1), item(*TEXT), item(*HEAR, sounds=1))
    whole, wanted = gradients(model, batch)
    model.loss_chunk = chunk
    pieces, found = gradients(model, batch)
    assert torch.allclose(whole, pieces, rtol=1e-6)
    close(found, wanted)


def test_a_loss_in_pieces_makes_no_logits_of_other_tokens(
    tiny_spec: ModelSpec, speech: Speech, item: Callable[..., Any]
) -> None:
    model = made(tiny_spec, speech)
    batch = batch_of(model, speech, item(*TEXT))
    made_of: list[int] = []
    head = model.language.get_output_embeddings()
    head.register_forward_hook(lambda module, args, output: made_of.append(args[0].numel() // args[0].shape[-1]))
    model.loss_chunk = 4
    with torch.no_grad():
        SftLoss(LossSpec())(model, batch)
    assert sum(made_of) == batch.answer_tokens < batch.ids.numel() and max(made_of) == 4


def test_a_batch_without_an_answer_keeps_every_part_in_the_graph(
    tiny_spec: ModelSpec, speech: Speech, item: Callable[..., Any]
) -> None:
    model = made(tiny_spec, speech)
    batch = batch_of(model, speech, item(*TEXT))
    model.loss_chunk = 4
    silent = msgspec.structs.replace(batch, labels=torch.full_like(batch.labels, -100))
    reached = []
    for chunk in (0, 4):
        model.zero_grad()
        model.loss_chunk = chunk
        token_losses(model, silent).sum().backward()  # type: ignore[no-untyped-call]
        reached.append({name for name, p in model.named_parameters() if p.grad is not None})
    assert reached[0] - reached[1] <= {"language.lm_head.weight"}  # a head that made nothing has no part


def test_a_model_that_changes_its_logits_behind_its_head_is_refused(tiny_spec: ModelSpec, speech: Speech) -> None:
    config = {**DEEP, "model_type": "cohere", "logit_scale": 0.25}
    with pytest.raises(SpecError, match="loss_chunk"):
        check_pieces(made(language(tiny_spec, config=config), speech))


def test_compiled_layers_give_the_same_gradients_and_names(
    tiny_spec: ModelSpec, speech: Speech, item: Callable[..., Any]
) -> None:
    model = made(language(tiny_spec), speech)
    batch = batch_of(model, speech, item(*ASK, images=1), item(*TEXT), item(*HEAR, sounds=1))
    names = list(model.state_dict())
    _, wanted = gradients(model, batch)
    assert compile_regions(model, backend="aot_eager") == 3  # the stacks of one layer are no regions
    _, found = gradients(model, batch)
    close(found, wanted)
    assert list(model.state_dict()) == names


def test_the_stacks_of_every_part_are_found(tiny_spec: ModelSpec, speech: Speech) -> None:
    assert tiny_spec.vision
    config = {**tiny_spec.vision.config, "num_hidden_layers": 2}
    vision = msgspec.structs.replace(tiny_spec.vision, config=config, depth=2)
    model = made(msgspec.structs.replace(language(tiny_spec), vision=vision), speech)
    assert [len(stack) for stack in stacks(model)] == [3, 2, 2]


@pytest.mark.parametrize("samples", [1, 160, 16_000, 31_999, 40_000])
def test_mel_on_the_device_equals_mel_on_the_host(samples: int) -> None:
    time = np.arange(samples) / 16_000
    noise = np.random.default_rng(0).standard_normal(samples)
    wave = (0.3 * np.sin(2 * np.pi * 523 * time) + 0.02 * noise).astype(np.float32)
    wanted, _ = log_mel(wave, 80, 200)
    sent = torch.from_numpy(window_of(wave, 80, 200, waves=True))
    found = LogMel(80)(sent[None])[0].numpy()
    assert found.shape == wanted.shape == (80, 200)
    assert np.abs(found - wanted).max() < 1e-2


def test_a_model_hears_the_same_with_mel_on_the_device(
    tiny_spec: ModelSpec, speech: Speech, item: Callable[..., Any]
) -> None:
    host = made(tiny_spec, speech).eval()
    assert tiny_spec.audio
    audio = msgspec.structs.replace(tiny_spec.audio, mel="device")
    device = made(msgspec.structs.replace(tiny_spec, audio=audio), speech).eval()
    heard = [
        batch_of(model, speech, item(("user", "<|audio|><|audio|>Q"), HEAR[1], sounds=2), item(*TEXT))
        for model in (host, device)
    ]
    assert heard[0].mels.shape == (2, 80, 100)
    assert heard[1].mels.shape == (2, 16_000)
    assert torch.equal(heard[0].heard, heard[1].heard)
    assert torch.allclose(host(heard[0]), device(heard[1]), atol=1e-3)


def test_what_trains_is_held_in_float32_and_what_is_frozen_as_the_run_computes(
    tiny_spec: ModelSpec, speech: Speech
) -> None:
    model = made(language(tiny_spec, train="lora", lora=LoraSpec(rank=2)), speech)
    model.to(torch.bfloat16)
    settle_precision(model, torch.bfloat16)
    kinds = {(p.requires_grad, p.dtype) for p in model.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
