"""Parts by name: every kind of eyes and connector, adapters of every kind, what trains, layers computed twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from shardkit import SpecError
from trainer.checkpoint import load_model, model_tensors
from trainer.data.collate import TrainBatch, collate
from trainer.data.images import normalise
from trainer.data.media import load_media
from trainer.data.tokenise import Speech
from trainer.losses.sft import SftLoss
from trainer.model.capsules import squash
from trainer.model.connectors import make_connector
from trainer.model.encoders import HearingEncoder, VisionEncoder
from trainer.model.eyes import CLIP_MEAN, CLIP_STD
from trainer.model.language import make_language
from trainer.model.omni import Omni
from trainer.model.trainable import set_trainable
from trainer.spec import HearingSpec, LanguageSpec, LoraSpec, LossSpec, ModelSpec, VisionSpec

SIZES: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2,
}  # fmt: skip
FROM_CONFIG = {
    "siglip": {**SIZES, "image_size": 32},
    "siglip2": {**SIZES, "num_patches": 16},
    "clip": {**SIZES, "image_size": 32},
    "cnn": {"image_size": 32, "width": 32, "blocks": 3},
    "vit": {"image_size": 32, "patch_size": 8, "width": 16, "layers": 2, "heads": 2},
}
ASK = (("user", "<|image|>Q"), ("assistant", "red"))
HEAR = (("user", "<|audio|>Q"), ("assistant", "1 2"))
TEXT = (("user", "Q"), ("assistant", "a longer answer than the others"))


def pictures() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def batch_of(model: Omni, speech: Speech, *items: Any) -> TrainBatch:
    rows = [(i.key, speech.encode(i.sample, load_media(i, model.senses), model.senses, 200)) for i in items]
    return collate(rows, model.senses, speech.pad_id)


def loss_of(model: Omni, batch: TrainBatch) -> torch.Tensor:
    return SftLoss(LossSpec())(model, batch)[0]


@pytest.mark.parametrize("kind", FROM_CONFIG)
def test_eyes_of_every_kind_say_what_they_give(kind: Any) -> None:
    encoder = VisionEncoder(VisionSpec(kind=kind, config=FROM_CONFIG[kind])).eval()
    assert encoder.size == 32 and encoder.length == 16
    seen = encoder(pictures())
    assert seen.shape == (2, encoder.length, encoder.width)
    changed = pictures()
    changed[1] = 255 - changed[1]
    again = encoder(changed)
    assert torch.allclose(seen[0], again[0], atol=1e-6) and not torch.allclose(seen[1], again[1], atol=1e-3)


def test_clip_sees_as_transformers_runs_it_with_its_own_colours(tmp_path: Path) -> None:
    vision = CLIPVisionConfig(**SIZES, image_size=32).to_dict()
    saved = CLIPModel(CLIPConfig(vision_config=vision, text_config={"hidden_size": 16, "num_hidden_layers": 1})).eval()
    saved.save_pretrained(tmp_path)
    encoder = VisionEncoder(VisionSpec(kind="clip", pretrained=str(tmp_path))).eval()
    pixels = (pictures() / 255 - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)
    wanted = saved.vision_model(pixel_values=pixels).last_hidden_state[:, 1:]
    assert torch.allclose(encoder(pictures()), wanted, atol=1e-5)


def test_siglip_2_of_one_resolution_loads_as_the_siglip_that_it_is(tmp_path: Path) -> None:
    saved = SiglipVisionModel(SiglipVisionConfig(**SIZES, image_size=32, vision_use_head=False)).eval()
    saved.save_pretrained(tmp_path)
    encoder = VisionEncoder(VisionSpec(kind="siglip2", pretrained=str(tmp_path))).eval()
    wanted = saved(pixel_values=normalise(pictures())).last_hidden_state
    assert torch.allclose(encoder(pictures()), wanted, atol=1e-6)


def test_naflex_sees_squares_as_its_own_processor_would_cut_them(tmp_path: Path) -> None:
    from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

    saved = Siglip2VisionModel(Siglip2VisionConfig(**SIZES, num_patches=16, vision_use_head=False)).eval()
    saved.save_pretrained(tmp_path)
    encoder = VisionEncoder(VisionSpec(kind="siglip2", pretrained=str(tmp_path))).eval()
    assert (encoder.size, encoder.length) == (32, 16)
    images = normalise(pictures())
    patches = torch.stack([torch.as_tensor(convert_image_to_patches(image.numpy(), 8)) for image in images])
    shapes, mask = torch.tensor([[4, 4], [4, 4]]), torch.ones(2, 16, dtype=torch.int64)
    wanted = saved(pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=shapes).last_hidden_state
    assert torch.allclose(encoder(pictures()), wanted, atol=1e-5)


def test_a_checkpoint_of_another_family_is_refused_with_what_would_do(tmp_path: Path) -> None:
    SiglipVisionModel(SiglipVisionConfig(**SIZES, image_size=32)).save_pretrained(tmp_path)
    with pytest.raises(SpecError, match=r"siglip_vision_model.*kind=clip.*clip"):
        VisionEncoder(VisionSpec(kind="clip", pretrained=str(tmp_path)))


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("cnn", {"width": 30}, "divides"),
        ("cnn", {"blocks": 0}, "blocks"),
        ("vit", {"patch_size": 7}, "patch_size"),
        ("vit", {"layer": 2}, "no field 'layer'.*layers"),
    ],
)
def test_impossible_sizes_from_scratch_are_said(kind: Any, config: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        VisionEncoder(VisionSpec(kind=kind, config=config))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"model_type": "llama", "hiden_size": 64},
            "LlamaConfig has no field 'hiden_size'; did you mean 'hidden_size'",
        ),
        ({"model_type": "llamma"}, "model.language.config"),
    ],
)
def test_a_field_that_a_language_model_does_not_have_is_refused(speech: Speech, config: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        make_language(LanguageSpec(config=config), speech)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "mistral"])
def test_fields_of_a_language_model_by_their_old_and_general_names_are_taken(kind: str, speech: Speech) -> None:
    config = {"model_type": kind, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    more = {} if kind == "gpt2" else {"intermediate_size": 32, "num_key_value_heads": 2, "rope_theta": 5000.0}
    assert make_language(LanguageSpec(config={**config, **more}), speech).config.hidden_size == 32


@pytest.mark.parametrize("connector", ["perceiver", "capsules", "linear"])
@pytest.mark.parametrize("latents", [1, 5, 12])
def test_connectors_give_their_latents_and_hidden_vectors_do_not_matter(connector: Any, latents: int) -> None:
    torch.manual_seed(0)
    spec = VisionSpec(
        config={"image_size": 32}, connector=connector, latents=latents, depth=1, heads=2, capsule_width=8
    )
    made = make_connector(spec, 16, 20, 24).eval()
    vectors, seen = torch.randn(2, 20, 16), torch.ones(2, 20, dtype=torch.bool)
    seen[1, 7:] = False
    latents_of = made(vectors, seen)
    assert latents_of.shape == (2, latents, 24)
    assert torch.allclose(latents_of[0], made(vectors)[0], atol=1e-6)
    vectors[1, 7:] = 100.0
    assert torch.allclose(made(vectors, seen), latents_of, atol=1e-5)


def test_more_linear_latents_than_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match="latents: found 21"):
        make_connector(VisionSpec(config={"a": 1}, connector="linear", latents=21), 16, 20, 24)


def test_squashed_capsules_keep_their_direction_and_stay_under_one() -> None:
    vectors = torch.randn(50, 8) * torch.logspace(-3, 3, 50)[:, None]
    squashed = squash(vectors)
    assert (squashed.norm(dim=-1) < 1).all()
    assert torch.allclose(torch.cosine_similarity(vectors[5:], squashed[5:]), torch.ones(45), atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "cnn", "vit"])
@pytest.mark.parametrize("connector", ["capsules", "linear"])
def test_a_model_of_these_parts_learns_a_batch(
    tiny_spec: ModelSpec, speech: Speech, item: Callable[..., Any], kind: Any, connector: Any
) -> None:
    torch.manual_seed(0)
    eyes = VisionSpec(
        kind=kind, config=FROM_CONFIG[kind], connector=connector, latents=4, capsule_width=16, trainable=True
    )
    assert tiny_spec.audio
    ears = msgspec.structs.replace(tiny_spec.audio, connector=connector, capsule_width=16)
    model = Omni(msgspec.structs.replace(tiny_spec, vision=eyes, audio=ears), speech)
    batch = batch_of(model, speech, item(*ASK, images=1), item(*HEAR, sounds=1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    assert all(p.grad is not None for n, p in model.named_parameters() if n.startswith(("vision", "audio_connector")))


@pytest.fixture
def saved_llama(tmp_path: Path, speech: Speech) -> Path:
    torch.manual_seed(1)
    LlamaForCausalLM(LlamaConfig(**LLAMA, vocab_size=speech.vocabulary + 7)).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def adapted(tiny_spec: ModelSpec, saved: Path, train: Any) -> ModelSpec:
    language = LanguageSpec(pretrained=str(saved), train=train, lora=LoraSpec(rank=2, alpha=4))
    return msgspec.structs.replace(tiny_spec, language=language)


@pytest.mark.parametrize("train", ["lora", "dora", "qlora"])
def test_adapters_train_alone_and_a_checkpoint_holds_them_and_not_the_base(
    tiny_spec: ModelSpec, speech: Speech, item: Callable[..., Any], saved_llama: Path, tmp_path: Path, train: Any
) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    spec = adapted(tiny_spec, saved_llama, train)
    model = Omni(spec, speech)
    trained = {name for name, p in model.named_parameters() if p.requires_grad and name.startswith("language.")}
    assert trained and all(".lora_" in name for name in trained)
    assert any("magnitude" in name for name in trained) == (train == "dora")
    batch = batch_of(model, speech, item(*ASK, images=1), item(*TEXT))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    first = float(loss_of(model, batch))
    for _ in range(8):
        optimizer.zero_grad()
        loss_of(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(loss_of(model, batch)) < first
    held = model_tensors(model)
    assert not [name for name in held if name.endswith(("q_proj.base_layer.weight", "lm_head.weight"))]
    (tmp_path / "step").mkdir()
    save_file(held, tmp_path / "step" / "model.safetensors")
    torch.manual_seed(5)
    again = Omni(spec, speech).eval()
    load_model(tmp_path / "step", again)
    assert torch.equal(again(batch), model.eval()(batch))


def test_a_head_that_has_grown_by_our_tokens_is_in_the_checkpoint(
    tiny_spec: ModelSpec, speech: Speech, item: Callable[..., Any], tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    config = LlamaConfig(**LLAMA, vocab_size=speech.vocabulary - 20, tie_word_embeddings=False)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "small")
    found = []
    for seed in (0, 1):  # the new rows are drawn anew with every model
        torch.manual_seed(seed)
        model = Omni(adapted(tiny_spec, tmp_path / "small", "lora"), speech).eval()
        if not seed:
            save_file(model_tensors(model), tmp_path / "model.safetensors")
        load_model(tmp_path, model)
        found.append(model(batch_of(model, speech, item(*ASK, images=1))))
    assert torch.equal(found[0], found[1])


def test_qlora_holds_its_base_in_four_bits(tiny_spec: ModelSpec, speech: Speech, saved_llama: Path) -> None:
    model = Omni(adapted(tiny_spec, saved_llama, "qlora"), speech)
    base = model.language.get_base_model().model.layers[0].self_attn.q_proj.base_layer
    assert base.weight.dtype == torch.uint8 and base.weight.quant_type == "nf4" and base.weight.quant_state.nested


def test_qlora_without_pretrained_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="qlora quantises pretrained weights"):
        LanguageSpec(config={"model_type": "llama"}, train="qlora")


def test_parts_train_by_name(tiny_spec: ModelSpec, speech: Speech, saved_llama: Path) -> None:
    model = Omni(adapted(tiny_spec, saved_llama, "lora"), speech)
    set_trainable(model, ("vision_connector", "adapters"))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in trained} == {"vision_connector", "language"}
    assert all(".lora_" in name for name in trained if name.startswith("language"))
    with pytest.raises(SpecError, match="no part 'eyes'"):
        set_trainable(model, ("eyes",))
    with pytest.raises(SpecError, match="has adapters"):
        set_trainable(model, ("language",))
    with pytest.raises(SpecError, match="no adapters"):
        set_trainable(Omni(tiny_spec, speech), ("adapters",))
    with pytest.raises(SpecError, match="no vision"):
        set_trainable(Omni(msgspec.structs.replace(tiny_spec, vision=None), speech), ("vision",))


def test_a_frozen_connector_has_no_gradient(tiny_spec: ModelSpec, speech: Speech) -> None:
    assert tiny_spec.vision
    vision = msgspec.structs.replace(tiny_spec.vision, connector_trainable=False)
    model = Omni(msgspec.structs.replace(tiny_spec, vision=vision), speech)
    assert not [n for n, p in model.named_parameters() if p.requires_grad and n.startswith("vision_connector")]


def test_layers_computed_twice_give_the_same_gradients(
    tiny_spec: ModelSpec, speech: Speech, item: Callable[..., Any]
) -> None:
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = Omni(msgspec.structs.replace(tiny_spec, checkpointing=checkpointing), speech).train()
        assert model.language.is_gradient_checkpointing == checkpointing
        batch = batch_of(model, speech, item(*ASK, images=1), item(*HEAR, sounds=1), item(*TEXT))
        loss_of(model, batch).backward()  # type: ignore[no-untyped-call]
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-6) for name in found[0])


EYES, EARS = (
    VisionSpec(
        kind="siglip2", latents=64, depth=6, heads=16,
        config={
            "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
            "image_size": 512, "patch_size": 16,
        },
    ),
    HearingSpec(
        latents=64, depth=6, heads=20,
        config={
            "d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
            "num_mel_bins": 128, "max_source_positions": 1500,
        },
    ),
)  # fmt: skip


@pytest.mark.parametrize("width", [1536, 2048, 3584])
def test_the_true_sizes_fit_together_without_any_memory(width: int) -> None:
    with torch.device("meta"):
        eyes, ears = VisionEncoder(EYES), HearingEncoder(EARS)
        seen = eyes(torch.zeros(1, 3, 512, 512, dtype=torch.uint8))
        heard = ears(torch.zeros(1, 128, 3000))
        assert seen.shape == (1, 1024, 1152) and heard.shape == (1, 1500, 1280)
        for spec, encoder, vectors in ((EYES, eyes, seen), (EARS, ears, heard)):
            connector = make_connector(spec, encoder.width, encoder.length, width)
            latents = connector(vectors, torch.ones(vectors.shape[:2], dtype=torch.bool))
            assert latents.shape == (1, 64, width) and latents.is_meta
        assert sum(p.numel() for p in eyes.parameters()) == pytest.approx(414e6, rel=0.02)  # 429M less the pooling head
        assert sum(p.numel() for p in ears.parameters()) == pytest.approx(637e6, rel=0.01)


def test_truncated_weights_are_a_clear_error(tiny_spec: ModelSpec, speech: Speech, saved_llama: Path) -> None:
    weights = saved_llama / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(SpecError, match=r"model\.language\.pretrained: cannot load weights"):
        Omni(adapted(tiny_spec, saved_llama, "lora"), speech)
