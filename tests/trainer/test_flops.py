"""The arithmetic of a step agrees with sums by hand and with what is known of the real encoders."""

from __future__ import annotations

import msgspec
import pytest
import torch

from tests.trainer.batches import batch_of
from trainer.data.tokenise import Speech
from trainer.flops import Arithmetic, count_forward, count_model, count_step, device_peak, matrix_weights
from trainer.losses.distil import DistilLoss
from trainer.losses.table import make_loss
from trainer.model.encoders import HearingEncoder, VisionEncoder
from trainer.model.omni import Omni
from trainer.model.precision import settle_precision
from trainer.spec import Config, DistilSpec, HearingSpec, LanguageSpec, LoraSpec, LossSpec, ModelSpec, VisionSpec

LLAMA: Config = {
    "model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3,
    "num_attention_heads": 2, "num_key_value_heads": 1,
}  # fmt: skip
LAYER = 8 * 8 + 2 * (8 * 4) + 8 * 8 + 3 * 8 * 12
"""Queries, keys and values of half the heads, output, three products of the feed-forward."""


def test_a_language_model_that_trains_takes_six_operations_a_weight_and_twelve_a_pair(speech: Speech) -> None:
    model = Omni(ModelSpec(language=LanguageSpec(config={**LLAMA})), speech)
    weights = 3 * LAYER + 8 * speech.vocabulary
    counted = count_model(model)
    assert (counted.weights, counted.trained) == (weights, weights)
    pairs = 5 * 6 / 2 + 3 * 4 / 2
    assert counted.of([batch_of([5, 3])]) == 6 * weights * 8 + 12 * 3 * 8 * pairs


def test_packed_samples_do_not_see_one_another_and_count_so() -> None:
    segments = torch.tensor([[1, 1, 1, 2, 2, 0]])
    packed = msgspec.structs.replace(batch_of([6]), segments=segments, attention=segments > 0, keys=("a", "b"))
    assert Arithmetic(per_token=1000.0, per_pair=1.0).of([packed]) == 5 * 1000 + (3 * 4 / 2 + 2 * 3 / 2)


def test_tied_embeddings_count_once_as_the_head(speech: Speech) -> None:
    tied = Omni(ModelSpec(language=LanguageSpec(config={**LLAMA, "tie_word_embeddings": True})), speech)
    assert count_model(tied).weights == 3 * LAYER + 8 * speech.vocabulary


def test_a_head_in_pieces_counts_only_tokens_that_carry_loss(speech: Speech) -> None:
    model = Omni(ModelSpec(language=LanguageSpec(config={**LLAMA})), speech)
    whole, pieces = count_model(model), count_model(model, pieces=True)
    batch = batch_of([5, 3])
    batch = msgspec.structs.replace(batch, labels=torch.where(batch.attention, 7, -100))
    head = 8 * speech.vocabulary
    assert whole.of([batch]) - pieces.of([batch]) == 6 * head * 8 - 6 * head * (4 + 2)
    assert "of the head" in pieces.formula() and "of the head" not in whole.formula()


def test_frozen_parts_in_half_precision_and_sound_as_it_is_are_counted_too(
    tiny_spec: ModelSpec, speech: Speech
) -> None:
    assert tiny_spec.vision and tiny_spec.audio
    vision = msgspec.structs.replace(tiny_spec.vision, trainable=False)
    audio = msgspec.structs.replace(tiny_spec.audio, trainable=False)
    plain = Omni(msgspec.structs.replace(tiny_spec, vision=vision, audio=audio), speech)
    audio = msgspec.structs.replace(audio, mel="device")
    model = Omni(msgspec.structs.replace(tiny_spec, vision=vision, audio=audio), speech)
    settle_precision(model, torch.bfloat16)
    assert model.senses.waves
    assert count_model(model).per_image == count_model(plain).per_image
    assert count_model(model).per_window == count_model(plain).per_window


def test_under_adapters_a_frozen_weight_takes_four(speech: Speech) -> None:
    lora = LoraSpec(rank=2, targets=("q_proj",))
    model = Omni(ModelSpec(language=LanguageSpec(config={**LLAMA}, train="lora", lora=lora)), speech)
    frozen, adapters = 3 * LAYER + 8 * speech.vocabulary, 3 * 2 * (8 + 8)
    assert count_model(model).per_token == 4 * frozen + 6 * adapters


def test_frozen_encoders_count_forward_only_and_trained_ones_three_times(tiny_spec: ModelSpec, speech: Speech) -> None:
    def counted(trainable: bool) -> Arithmetic:
        assert tiny_spec.vision and tiny_spec.audio
        vision = msgspec.structs.replace(tiny_spec.vision, trainable=trainable)
        audio = msgspec.structs.replace(tiny_spec.audio, trainable=trainable)
        return count_model(Omni(msgspec.structs.replace(tiny_spec, vision=vision, audio=audio), speech))

    frozen, trained = counted(False), counted(True)
    width, patches = 16, 4
    conv = 2 * patches * 3 * 16 * 16 * width
    layer = 2 * patches * (4 * width * width + 2 * width * 32) + 4 * patches * patches * width
    assert trained.per_image - frozen.per_image == 2 * (conv + layer)
    assert trained.per_window > frozen.per_window
    media = frozen.of([batch_of([4], images=3, windows=2)]) - frozen.of([batch_of([4])])
    assert media == 3 * frozen.per_image + 2 * frozen.per_window


def test_an_encoder_that_cannot_be_counted_is_estimated_and_said_to_be(
    tiny_spec: ModelSpec, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_at_values(self: VisionEncoder, images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(f"no values: {bool(images.any())}")

    monkeypatch.setattr(VisionEncoder, "forward", look_at_values)
    counted = count_model(Omni(tiny_spec, speech))
    weights = 3 * 16 * 16 * 16 + 4 * 16 * 16 + 2 * 16 * 32
    assert counted.per_image == 3 * 2 * weights * 4
    assert "an image (estimated" in counted.formula()


SO400M: Config = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
}  # fmt: skip
TURBO: Config = {
    "d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120, "num_mel_bins": 128,
    "max_source_positions": 1500,
}  # fmt: skip


@pytest.mark.parametrize(
    ("size", "patch", "tera"), [(384, 14, 0.67), (512, 16, 0.97)], ids=["siglip-384", "siglip2-512"]
)
def test_siglip_at_its_true_size_takes_what_is_known(size: int, patch: int, tera: float) -> None:
    with torch.device("meta"):
        encoder = VisionEncoder(VisionSpec(config={**SO400M, "image_size": size, "patch_size": patch}))
    images = torch.zeros((1, 3, size, size), dtype=torch.uint8, device="meta")
    assert count_forward(encoder, images) / 1e12 == pytest.approx(tera, rel=0.05)


def test_whisper_turbo_takes_what_is_known() -> None:
    with torch.device("meta"):
        encoder = HearingEncoder(HearingSpec(config={**TURBO}))
    assert count_forward(encoder, torch.zeros((1, 128, 3000), device="meta")) / 1e12 == pytest.approx(2.27, rel=0.05)


def test_the_formula_names_every_part(tiny_spec: ModelSpec, speech: Speech) -> None:
    formula = count_model(Omni(tiny_spec, speech)).formula()
    for part in ("a token", "trained", "an image", "a window of sound", "connector", "padding"):
        assert part in formula


def test_a_peak_comes_from_the_spec_or_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert device_peak(cpu, None) is None
    assert device_peak(cpu, 2.5) == 2.5
    for name, peak in (("NVIDIA H100 80GB HBM3", 989.0), ("NVIDIA H200", 989.0), ("NVIDIA A100-SXM4-80GB", 312.0),
                       ("NVIDIA H100 PCIe", 756.0), ("NVIDIA L4", 121.0), ("Some Card", None)):  # fmt: skip
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert device_peak(gpu, None) == peak


def test_four_bit_weights_count_as_what_they_stand_for() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    layer = bitsandbytes.nn.Linear4bit(64, 32, bias=False).to("cpu")
    assert layer.weight.numel() < 64 * 32
    assert list(matrix_weights(torch.nn.Sequential(layer))) == [(64 * 32, False)]


def test_of_experts_only_those_that_a_token_meets_count(speech: Speech) -> None:
    config: Config = {
        "model_type": "mixtral", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 1,
    }  # fmt: skip
    model = Omni(ModelSpec(language=LanguageSpec(config=config)), speech)
    router, expert = 8 * 4, 3 * 8 * 12
    assert count_model(model).weights == 4 * 8 * 8 + router + expert + 8 * speech.vocabulary


def test_a_reference_counts_forward_only_beside_the_model_that_trains(tiny_spec: ModelSpec, speech: Speech) -> None:
    model = Omni(tiny_spec, speech)
    alone, dpo = (count_step(model, make_loss(LossSpec(name=name))) for name in ("simpo", "dpo"))
    batch = batch_of([5, 3], images=1, windows=2)
    (reference,) = dpo.beside
    forward = 2 * dpo.weights * 8 + dpo.per_pair / 3 * (15 + 6)
    assert reference.of([batch]) == pytest.approx(forward + reference.per_image + 2 * reference.per_window)
    assert dpo.of([batch]) == alone.of([batch]) + reference.of([batch])
    assert reference.per_image == pytest.approx(dpo.per_image / 3)  # all of it trains here
    assert f"the reference, forward only: {reference.per_token:.4g} a token (2 x" in dpo.formula()
    assert "forward only:" not in alone.formula()


def test_kto_tries_the_reference_twice_and_the_model_once_more(tiny_spec: ModelSpec, speech: Speech) -> None:
    model = Omni(tiny_spec, speech)
    counted = count_step(model, make_loss(LossSpec(name="kto")))
    once = 2 * count_model(model).weights
    assert [each.per_token for each in counted.beside] == [2 * once, once]
    assert "the reference (2 times), forward only" in counted.formula()


def test_a_teacher_of_another_size_counts_forward_and_only_answers_have_logits(speech: Speech) -> None:
    student, teacher = (Omni(ModelSpec(language=LanguageSpec(config={**LLAMA, "num_hidden_layers": layers})), speech)
                        for layers in (1, 3))  # fmt: skip
    loss = DistilLoss(LossSpec(name="distil", distil=DistilSpec(teacher="x")))
    loss.teacher = teacher
    counted, (taught,) = count_step(student, loss), count_step(student, loss).beside
    head = 8 * speech.vocabulary
    assert (counted.per_token, counted.per_answer) == (6 * LAYER, 6 * head)
    assert (taught.per_token, taught.per_answer) == (2 * 3 * LAYER, 2 * head)
    assert "the teacher, forward only" in counted.formula()
