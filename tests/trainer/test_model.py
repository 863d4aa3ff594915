"""The model: latents land where their marks stand, absent media keep their gradients, real checkpoints load."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from shardkit import SpecError
from trainer.data.collate import IGNORED, TrainBatch, collate
from trainer.data.media import load_media
from trainer.data.tokenise import Speech
from trainer.losses.sft import SftLoss, answer_weights
from trainer.model.encoders import HearingEncoder, VisionEncoder
from trainer.model.omni import Omni, place
from trainer.spec import HearingSpec, LanguageSpec, LoraSpec, LossSpec, ModelSpec, VisionSpec


@pytest.fixture
def model(tiny_spec: ModelSpec, speech: Speech) -> Omni:
    torch.manual_seed(0)
    return Omni(tiny_spec, speech)


def batch_of(model: Omni, speech: Speech, *items: Any) -> TrainBatch:
    rows = [(i.key, speech.encode(i.sample, load_media(i, model.senses), model.senses, 200)) for i in items]
    return collate(rows, model.senses, speech.pad_id)


ASK = (("user", "<|image|>Q"), ("assistant", "red"))
HEAR = (("user", "<|audio|>Q"), ("assistant", "1 2"))
TEXT = (("user", "Q"), ("assistant", "a longer answer than the others"))


def test_latents_replace_their_placeholders_in_order() -> None:
    where = torch.tensor([[False, True, True, False], [True, False, False, True]])
    latents = torch.arange(1.0, 9.0).reshape(2, 2, 2)
    placed = place(torch.zeros(2, 4, 2), where, latents, "image")
    assert placed[..., 0].tolist() == [[0, 1, 3, 0], [5, 0, 0, 7]]


def test_another_number_of_placeholders_than_latents_is_an_error() -> None:
    with pytest.raises(ValueError, match="3 image placeholders for 4 latents"):
        place(torch.zeros(1, 4, 2), torch.tensor([[True, True, True, False]]), torch.zeros(2, 2, 2), "image")


def test_a_row_does_not_depend_on_what_else_is_in_the_batch(
    model: Omni, speech: Speech, item: Callable[..., Any]
) -> None:
    model.eval()
    alone = batch_of(model, speech, item(*ASK, images=1))
    among = batch_of(model, speech, item(*TEXT), item(*ASK, images=1), item(*HEAR, sounds=1))
    length = alone.ids.shape[1]
    assert torch.allclose(model(alone)[0], model(among)[1, :length], atol=1e-5)


def test_answers_depend_on_the_media_of_their_own_row_only(
    model: Omni, speech: Speech, item: Callable[..., Any]
) -> None:
    model.eval()
    batch = batch_of(model, speech, item(*ASK, images=1), item(*ASK, images=1), item(*HEAR, sounds=1))
    images = batch.images.clone()
    images[1] = 255 - images[1]
    before, after = model(batch), model(msgspec.structs.replace(batch, images=images))
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1])
    assert torch.equal(before[2], after[2])


def test_silence_behind_a_recording_is_not_attended_to(model: Omni) -> None:
    vectors = torch.randn(1, 50, 16)
    seen = torch.arange(50)[None] < 20
    other = vectors.clone()
    other[:, 20:] = 7.0
    assert model.audio_connector is not None
    assert torch.equal(model.audio_connector(vectors, seen), model.audio_connector(other, seen))

    mels, heard = torch.randn(1, 80, 100), torch.arange(100)[None] < 40
    assert not torch.allclose(model.listen(mels, heard), model.listen(mels, torch.ones_like(heard)))


def test_labels_are_exactly_what_the_assistant_says(model: Omni, speech: Speech, item: Callable[..., Any]) -> None:
    batch = batch_of(model, speech, item(*ASK, images=1), item(*TEXT))
    for ids, labels, answer in zip(batch.ids, batch.labels, ("red", TEXT[1][1]), strict=True):
        said = labels != IGNORED
        assert torch.equal(labels[said], ids[said])
        assert speech.tokenizer.decode(labels[said]) == f"{answer}<|end|>"
    assert batch.answer_tokens == int((batch.labels != IGNORED).sum())


@pytest.mark.parametrize("turns", [{"images": 0}, {"images": 1}, {"sounds": 1}])
def test_every_trainable_part_has_a_gradient_whatever_media_are_absent(
    model: Omni, speech: Speech, item: Callable[..., Any], turns: dict[str, int]
) -> None:
    batch = batch_of(model, speech, item(("user", "Q"), ("assistant", "A"), **turns))
    loss, _ = SftLoss(LossSpec())(model, batch)
    loss.backward()
    missing = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


def test_frozen_parts_get_no_gradient_and_stay_in_eval_mode(
    tiny_spec: ModelSpec, speech: Speech, item: Callable[..., Any]
) -> None:
    assert tiny_spec.vision
    frozen = msgspec.structs.replace(tiny_spec, vision=msgspec.structs.replace(tiny_spec.vision, trainable=False))
    model = Omni(frozen, speech).train()
    SftLoss(LossSpec())(model, batch_of(model, speech, item(*ASK, images=1)))[0].backward()
    assert model.vision and model.vision_connector
    assert not model.vision.training
    assert model.vision_connector.training
    assert all(parameter.grad is None for parameter in model.vision.parameters())
    assert all(parameter.grad is not None for parameter in model.vision_connector.parameters())


@pytest.mark.parametrize("weighting", ["token", "square", "sample"])
def test_accumulated_gradients_equal_those_of_one_batch(
    model: Omni, speech: Speech, item: Callable[..., Any], weighting: Any
) -> None:
    items = [item(*ASK, images=1), item(*TEXT), item(*HEAR, sounds=1), item(*TEXT)]
    spec = LossSpec(weighting=weighting)

    def gradients(*parts: TrainBatch) -> list[torch.Tensor]:
        model.zero_grad()
        weight = sum(answer_weights(part, spec).sum() for part in parts)
        for part in parts:
            (SftLoss(spec)(model, part)[0] / weight).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    whole = gradients(batch_of(model, speech, *items))
    halves = gradients(batch_of(model, speech, *items[:1]), batch_of(model, speech, *items[1:]))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(whole, halves, strict=True))


SIGLIP = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**SIGLIP, "image_size": 32, "patch_size": 16}
WHISPER = {
    "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "num_mel_bins": 128, "max_source_positions": 50, "vocab_size": 60,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "max_target_positions": 20,
}  # fmt: skip


@pytest.mark.parametrize("whole", [True, False], ids=["image and text model", "vision tower alone"])
def test_siglip_weights_load_from_either_form_of_checkpoint(tmp_path: Path, whole: bool) -> None:
    if whole:
        text = {**SIGLIP, "vocab_size": 40, "max_position_embeddings": 8, "projection_size": 16}
        saved: Any = SiglipModel(SiglipConfig(text_config=text, vision_config=VISION))
        vision = saved.vision_model
    else:
        saved = vision = SiglipVisionModel(SiglipVisionConfig(**VISION))
    saved.save_pretrained(tmp_path)
    loaded = VisionEncoder(VisionSpec(pretrained=str(tmp_path))).eval()
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    wanted = vision.eval()(pixel_values=images.float() / 127.5 - 1).last_hidden_state
    assert torch.allclose(loaded(images), wanted, atol=1e-5)
    assert not any("head" in name for name, _ in loaded.named_parameters())


def test_whisper_encoder_weights_load_from_a_whole_checkpoint(tmp_path: Path) -> None:
    saved = WhisperForConditionalGeneration(WhisperConfig(**WHISPER)).eval()
    saved.save_pretrained(tmp_path)
    loaded = HearingEncoder(HearingSpec(pretrained=str(tmp_path))).eval()
    assert (loaded.mels, loaded.frames) == (128, 100)
    mels = torch.randn(1, 128, 100)
    assert torch.equal(loaded(mels), saved.model.encoder(mels).last_hidden_state)


def test_a_checkpoint_that_would_leave_weights_random_is_refused(tmp_path: Path) -> None:
    WhisperEncoder(WhisperConfig(**WHISPER)).save_pretrained(tmp_path)
    with pytest.raises(SpecError, match="would be random"):
        HearingEncoder(HearingSpec(pretrained=str(tmp_path)))


def test_another_kind_of_checkpoint_is_refused(tmp_path: Path) -> None:
    WhisperForConditionalGeneration(WhisperConfig(**WHISPER)).save_pretrained(tmp_path)
    with pytest.raises(SpecError, match=r"model\.vision\.pretrained: .* is a 'whisper'"):
        VisionEncoder(VisionSpec(pretrained=str(tmp_path)))


def test_a_pickled_checkpoint_is_refused(tmp_path: Path) -> None:
    vision = SiglipVisionModel(SiglipVisionConfig(**VISION))
    vision.config.save_pretrained(tmp_path)
    torch.save(vision.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(SpecError, match="is a pickle in a zip archive"):
        VisionEncoder(VisionSpec(pretrained=str(tmp_path)))


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    config = LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=64
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def test_language_weights_load_and_grow_to_the_tokeniser(llama: Path, tiny_spec: ModelSpec, speech: Speech) -> None:
    model = Omni(msgspec.structs.replace(tiny_spec, language=LanguageSpec(pretrained=str(llama))), speech)
    saved = LlamaForCausalLM.from_pretrained(llama).get_input_embeddings().weight
    grown = model.language.get_input_embeddings().weight
    assert grown.shape[0] == speech.vocabulary
    assert torch.equal(grown[:64], saved)


def test_lora_trains_adapters_and_connectors_only(
    llama: Path, tiny_spec: ModelSpec, speech: Speech, item: Callable[..., Any]
) -> None:
    language = LanguageSpec(pretrained=str(llama), train="lora", lora=LoraSpec(rank=2, targets=("q_proj", "v_proj")))
    assert tiny_spec.vision and tiny_spec.audio
    model = Omni(
        ModelSpec(
            vision=msgspec.structs.replace(tiny_spec.vision, trainable=False),
            audio=msgspec.structs.replace(tiny_spec.audio, trainable=False),
            language=language,
        ),
        speech,
    ).train()
    SftLoss(LossSpec())(model, batch_of(model, speech, item(*ASK, images=1)))[0].backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained
    assert all("lora_" in name or "connector" in name for name in trained)


def test_unknown_fields_and_impossible_sizes_are_spec_errors(tiny_spec: ModelSpec, speech: Speech) -> None:
    with pytest.raises(SpecError, match="no field 'hidden_sise'"):
        VisionEncoder(VisionSpec(config={"hidden_sise": 16}))
    assert tiny_spec.vision
    with pytest.raises(SpecError, match=r"model\.vision\.heads"):
        Omni(msgspec.structs.replace(tiny_spec, vision=msgspec.structs.replace(tiny_spec.vision, heads=5)), speech)
    for wrong in ({"hidden_size": 17}, {"patch_size": 64}, {"num_hidden_layers": "two"}):
        config = {**tiny_spec.vision.config, **wrong}
        with pytest.raises(SpecError, match=r"model\.vision\.config"):
            VisionEncoder(VisionSpec(config=config))
    with pytest.raises(SpecError, match=r"model\.language\.config.*multiple"):
        config = {**tiny_spec.language.config, "num_attention_heads": 3}
        Omni(msgspec.structs.replace(tiny_spec, language=LanguageSpec(config=config)), speech)
    with pytest.raises(SpecError, match=r"model\.language\.config"):
        Omni(msgspec.structs.replace(tiny_spec, language=LanguageSpec(config={"model_type": "no-such-model"})), speech)
