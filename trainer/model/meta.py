"""A model's shape without its weights: built on the meta device, from its spec alone and without a network.

Here: the sizes of well-known checkpoints, the model of a spec on the meta device, its weights by part.
Elsewhere: the model itself (omni.py), estimates from it (trainer.plan).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import torch

from shardkit import SpecError
from trainer.data.tokenise import Speech, load_speech
from trainer.model.fusion import Fusion
from trainer.model.kept import kept_by_connector, kept_by_crossing, kept_values
from trainer.model.loading import read_config
from trainer.model.table import Model, make_model
from trainer.model.trainable import ADAPTERS, set_trainable
from trainer.spec import EncoderSpec, LanguageSpec, ModelSpec, RunSpec

_QWEN = {"model_type": "qwen2", "max_position_embeddings": 32768, "num_key_value_heads": 2, "vocab_size": 151936,
         "tie_word_embeddings": True}  # fmt: skip
_SO400M = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
_VIT_L = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_VIT_B = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_LARGE_V3 = {"d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
             "num_mel_bins": 128, "max_source_positions": 1500}  # fmt: skip


def _whisper(width: int, layers: int, heads: int) -> dict[str, Any]:
    """The sizes of a Whisper encoder before version 3."""
    return {"d_model": width, "encoder_layers": layers, "encoder_attention_heads": heads,
            "encoder_ffn_dim": 4 * width, "num_mel_bins": 80, "max_source_positions": 1500}  # fmt: skip


KNOWN: dict[str, dict[str, Any]] = {
    "google/siglip-so400m-patch14-384": {**_SO400M, "image_size": 384, "patch_size": 14},
    "google/siglip2-so400m-patch14-384": {**_SO400M, "image_size": 384, "patch_size": 14},
    "google/siglip2-so400m-patch16-384": {**_SO400M, "image_size": 384, "patch_size": 16},
    "google/siglip2-so400m-patch16-512": {**_SO400M, "image_size": 512, "patch_size": 16},
    "openai/whisper-large-v3": _LARGE_V3,
    "openai/whisper-large-v3-turbo": _LARGE_V3,
    "google/siglip2-so400m-patch16-naflex": {**_SO400M, "num_patches": 256, "patch_size": 16},
    "google/siglip2-base-patch16-naflex": {**_VIT_B, "num_patches": 256, "patch_size": 16},
    "google/siglip-base-patch16-224": {**_VIT_B, "image_size": 224, "patch_size": 16},
    "google/siglip2-base-patch16-224": {**_VIT_B, "image_size": 224, "patch_size": 16},
    "google/siglip2-base-patch16-256": {**_VIT_B, "image_size": 256, "patch_size": 16},
    "google/siglip2-base-patch16-512": {**_VIT_B, "image_size": 512, "patch_size": 16},
    "openai/clip-vit-base-patch32": {**_VIT_B, "image_size": 224, "patch_size": 32},
    "openai/clip-vit-base-patch16": {**_VIT_B, "image_size": 224, "patch_size": 16},
    "openai/clip-vit-large-patch14": {**_VIT_L, "image_size": 224, "patch_size": 14},
    "openai/clip-vit-large-patch14-336": {**_VIT_L, "image_size": 336, "patch_size": 14},
    **{f"openai/whisper-{name}": _whisper(*sizes) for name, sizes in (
        ("tiny", (384, 4, 6)), ("base", (512, 6, 8)), ("small", (768, 12, 12)), ("medium", (1024, 24, 16)))},
    "Qwen/Qwen2.5-0.5B": {**_QWEN, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14},
    "Qwen/Qwen2.5-1.5B": {**_QWEN, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
        "num_attention_heads": 12},
    "Qwen/Qwen2.5-3B": {**_QWEN, "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
        "num_attention_heads": 16},
    "Qwen/Qwen2.5-7B": {**_QWEN, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False},
}  # fmt: skip
"""Sizes of checkpoints by their ids.

A Qwen2.5 with `-Instruct` behind its name, or `Coder-` in it, has the sizes of the plain one.
"""

SIZES = {
    "vision": ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size",
               "num_patches", "patch_size"),
    "audio": ("d_model", "encoder_layers", "encoder_attention_heads", "encoder_ffn_dim", "num_mel_bins",
              "max_source_positions"),
}  # fmt: skip
FOUR_BIT = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in nf4, quantised twice: half of one, a byte of scale for every 64, a float32 for 256 of those."""


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """Weights of one kind in a part: how many, whether they train, bytes of each."""

    number: int
    trains: bool
    bytes_each: float


class SenseShape(msgspec.Struct, frozen=True, kw_only=True):
    """An encoder with its connector: most `items` a row, `length` vectors an item, and sizes.

    For the backward pass a layer keeps `kept_values` of a vector, and the connector `connector_values` of an item.
    """

    items: int
    length: int
    width: int
    layers: int
    kept_values: int
    connector_values: int
    latents: int
    trains: bool


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """A model on the meta device, its weights by part, the sizes that estimates need."""

    model: Any
    parts: dict[str, tuple[Weights, ...]]
    layers: int
    width: int
    kept_values: int
    vocabulary: int
    senses: tuple[SenseShape, ...]


def open_meta(spec: RunSpec) -> Model:
    """A run's model on the meta device. Raises SpecError where a checkpoint's sizes are not known."""
    made = _from_sizes(spec.model)
    with torch.device("meta"):
        return make_model(made, cast(Speech, _Ids(_vocabulary(spec, made.language))))


def shape_of(model: Model, spec: RunSpec) -> Shape:
    """The shape of a model as `open_meta` gave it, with what trains of it in this run. Raises SpecError."""
    if spec.trainable is not None:
        set_trainable(model, spec.trainable)
    config = model.language.config
    gated = any("gate" in name for name, _ in model.language.named_parameters())
    return Shape(
        model=model,
        parts=_parts(model, spec),
        layers=int(config.num_hidden_layers),
        width=int(config.hidden_size),
        kept_values=_kept_by_layer(model, gated),
        vocabulary=int(model.language.get_input_embeddings().weight.shape[0]),
        senses=tuple(_senses(spec, model)),
    )


def _kept_by_layer(model: Model, gated: bool) -> int:
    config = model.language.config
    width = int(config.hidden_size)
    if isinstance(model, Fusion):  # its text attends twice: to itself and to media
        return kept_values(width, 0, gated=False) + 5 * width
    return kept_values(width, int(getattr(config, "intermediate_size", 0)), gated)


class _Ids:
    """What a model asks of its tokeniser: how many ids there are, and some of them."""

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.pad_id = 0
        self.places = {"image": 1, "video": 2, "audio": 3}
        self.end_ids = frozenset({0})


def _from_sizes(spec: ModelSpec) -> ModelSpec:
    """The same model from sizes in place of checkpoints."""
    parts: dict[str, Any] = {}
    for name in ("vision", "audio", "language"):
        part: EncoderSpec | LanguageSpec | None = getattr(spec, name)
        if part is not None and part.pretrained:
            train = {"train": "lora"} if getattr(part, "train", "") == "qlora" else {}  # of the same shape
            parts[name] = msgspec.structs.replace(part, pretrained="", config=_sizes(part.pretrained, name), **train)
    return msgspec.structs.replace(spec, **parts)


def _sizes(name: str, part: str) -> dict[str, Any]:
    plain = name.removesuffix("-Instruct").replace("Qwen2.5-Coder-", "Qwen2.5-")
    known = KNOWN.get(name, KNOWN.get(plain))
    if known and not Path(name).is_dir():
        return dict(known)
    try:
        config = read_config(name, f"model.{part}")
    except SpecError as error:
        raise SpecError(f"{error}; its sizes are not built in, so that the plan needs its config.json") from None
    inner = getattr(config, "vision_config", config) if part == "vision" else config
    found = inner.to_dict()
    if part != "language":
        return {field: found[field] for field in SIZES[part] if field in found}
    left = ("dtype", "torch_dtype", "architectures", "transformers_version", "_name_or_path", "quantization_config")
    return {field: value for field, value in found.items() if field not in left}


def _vocabulary(spec: RunSpec, language: LanguageSpec) -> int:
    """Rows of the embeddings: the checkpoint's, or the tokeniser's where it has more (a BPE: at most)."""
    own = int(language.config.get("vocab_size", 0)) if spec.model.language.pretrained else 0
    name = spec.tokenizer.pretrained
    if not name:
        return max(own, spec.tokenizer.vocabulary)
    if Path(name).is_dir():
        return max(own, load_speech(name).vocabulary)
    return own or int(_sizes(name, "language").get("vocab_size", 0))


def weights_of(model: torch.nn.Module, spec: RunSpec) -> Iterator[tuple[str, torch.nn.Parameter, float]]:
    """Weights by name with bytes of each number, in the precisions that the run settles them in (precision.py)."""
    language: Any = model.language
    heads = [language.get_input_embeddings(), language.get_output_embeddings()]
    linear = {id(module.weight) for module in language.modules() if isinstance(module, torch.nn.Linear)}
    linear -= {id(module.weight) for module in heads if module is not None}
    four_bit = linear if spec.model.language.train == "qlora" else set()
    for name, weight in model.named_parameters():
        bytes_each = 4.0 if weight.requires_grad or spec.dtype == "float32" else 2.0
        quantised = id(weight) in four_bit and part_of(name) == "language"
        yield name, weight, FOUR_BIT if quantised else bytes_each


def _parts(model: Model, spec: RunSpec) -> dict[str, tuple[Weights, ...]]:
    """Weights by part, those of one kind together."""
    counts: dict[str, dict[tuple[bool, float], int]] = {}
    for name, weight, bytes_each in weights_of(model, spec):
        kinds = counts.setdefault(part_of(name), {})
        kind = (weight.requires_grad, bytes_each)
        kinds[kind] = kinds.get(kind, 0) + weight.numel()
    return {
        part: tuple(Weights(number=number, trains=trains, bytes_each=each) for (trains, each), number in kinds.items())
        for part, kinds in counts.items()
    }


def part_of(parameter: str) -> str:
    """The part that a parameter belongs to, by its name; peft calls every parameter that it adds `lora_…`."""
    module = parameter.partition(".")[0]
    return ADAPTERS if module == "language" and ".lora_" in parameter else module


def _senses(spec: RunSpec, model: Model) -> list[SenseShape]:
    """Encoders with the most that a row of a batch holds: one image, one window, or what data.pack allows."""
    pack, found = spec.data.pack, []
    rows = pack.tokens // spec.data.max_tokens if pack else 1
    if spec.model.vision and model.vision:
        items = (pack.images if pack else None) or rows
        found.append(_sense(spec.model.vision, model, model.vision, items))
    if spec.model.audio and model.audio:
        seconds = model.audio.frames / 100
        items = round(pack.audio_seconds / seconds) if pack and pack.audio_seconds else rows
        found.append(_sense(spec.model.audio, model, model.audio, max(1, items)))
    return found


def _sense(spec: EncoderSpec, model: Model, encoder: Any, items: int) -> SenseShape:
    config = getattr(encoder.tower, "config", None)  # those from scratch have none
    layers = getattr(config, "num_hidden_layers", None) or int(spec.config.get("layers", spec.config.get("blocks", 1)))
    feed = getattr(config, "intermediate_size", None) or getattr(config, "encoder_ffn_dim", 4 * encoder.width)
    return SenseShape(
        items=items,
        length=encoder.length,
        width=encoder.width,
        layers=layers,
        kept_values=kept_values(encoder.width, feed, gated=False),
        connector_values=_connector_values(spec, model, encoder),
        latents=spec.latents,
        trains=any(weight.requires_grad for weight in encoder.parameters()),
    )


def _connector_values(spec: EncoderSpec, model: Model, encoder: Any) -> int:
    if isinstance(model, Fusion):
        sizes = model.language.config
        return kept_by_crossing(sizes.num_hidden_layers, sizes.hidden_size, encoder.width, encoder.length)
    return kept_by_connector(spec, encoder.width, encoder.length)
