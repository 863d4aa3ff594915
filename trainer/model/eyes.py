"""The kinds of eyes: SigLIP, SigLIP 2 and CLIP of Hugging Face, a small CNN and ViT from scratch.

Here: opening each, and how pixels become vectors with it.
Elsewhere: the networks from scratch (scratch.py), loading (loading.py), the module around them (encoders.py).

Every picture is resized to the encoder's square as a whole: CLIP's own processor would cut off a screenshot's sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from shardkit import SpecError
from trainer.model.loading import load_weights, make_config, make_model, read_config
from trainer.model.scratch import SmallCnn, SmallVit
from trainer.spec import Config, VisionSpec

FIELD = "model.vision"
HALF = (0.5, 0.5, 0.5)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Eyes(NamedTuple):
    """A tower with the `width` and `length` of its output, the `size` of its images, and how pixels become vectors."""

    tower: nn.Module
    width: int
    size: int
    length: int
    vectors: Callable[[Any, torch.Tensor], torch.Tensor]
    mean: Sequence[float] = HALF
    std: Sequence[float] = HALF


def open_eyes(spec: VisionSpec) -> Eyes:
    """The encoder that a spec names. Raises SpecError where it cannot be made or loaded."""
    return KINDS[spec.kind](spec)


def open_siglip(spec: VisionSpec) -> Eyes:
    """SigLIP, without its pooling head. SigLIP 2 of one resolution has the same model type; NaFlex has its own."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    if spec.pretrained:
        config = _vision_part(spec, "siglip", "siglip2")
        if config.model_type.startswith("siglip2"):
            return _open_naflex(spec, config)
        config.vision_use_head = False
        return _square(load_weights(SiglipVisionModel, spec.pretrained, FIELD, config=config))
    if "num_patches" in spec.config:
        return _open_naflex(spec, None)
    made = make_config(SiglipVisionConfig, {**spec.config, "vision_use_head": False}, f"{FIELD}.config")
    return _square(make_model(SiglipVisionModel, _checked(made), f"{FIELD}.config"))


def open_clip(spec: VisionSpec) -> Eyes:
    """CLIP, without its class token."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    if spec.pretrained:
        config = _vision_part(spec, "clip")
        tower = load_weights(CLIPVisionModel, spec.pretrained, FIELD, config=config)
    else:
        made = make_config(CLIPVisionConfig, spec.config, f"{FIELD}.config")
        tower = make_model(CLIPVisionModel, _checked(made), f"{FIELD}.config")
    _drop_pooling(tower)
    return _square(tower)._replace(vectors=_without_class_token, mean=CLIP_MEAN, std=CLIP_STD)


def open_cnn(spec: VisionSpec) -> Eyes:
    """A small convolutional network, its sizes from the spec's `config` (see SmallCnn)."""
    return _from_scratch(SmallCnn, spec.config)


def open_vit(spec: VisionSpec) -> Eyes:
    """A small vision transformer, its sizes from the spec's `config` (see SmallVit)."""
    return _from_scratch(SmallVit, spec.config)


KINDS: dict[str, Callable[[VisionSpec], Eyes]] = {
    "siglip": open_siglip, "siglip2": open_siglip, "clip": open_clip, "cnn": open_cnn, "vit": open_vit,
}  # fmt: skip


def _open_naflex(spec: VisionSpec, config: Any) -> Eyes:
    """SigLIP 2 NaFlex on squares: as many patches a side as fit into its number of patches."""
    from transformers import Siglip2VisionConfig, Siglip2VisionModel

    if config is None:
        made = make_config(Siglip2VisionConfig, {**spec.config, "vision_use_head": False}, f"{FIELD}.config")
        tower = make_model(Siglip2VisionModel, made, f"{FIELD}.config")
    else:
        config.vision_use_head = False
        tower = load_weights(Siglip2VisionModel, spec.pretrained, FIELD, config=config)
    side, patch = int(tower.config.num_patches**0.5), int(tower.config.patch_size)
    return Eyes(tower, int(tower.config.hidden_size), side * patch, side * side, _naflex)


def _vision_part(spec: VisionSpec, *kinds: str) -> Any:
    """The vision config of a checkpoint of one of these families."""
    config = read_config(spec.pretrained, FIELD)
    known = {*kinds, *(f"{kind}_vision_model" for kind in kinds)}
    if config.model_type not in known:
        raise SpecError(
            f"{FIELD}.pretrained: {spec.pretrained} is a {config.model_type!r}; "
            f"with {FIELD}.kind={spec.kind} wanted one of {', '.join(sorted(known))}"
        )
    return getattr(config, "vision_config", config)


def _checked(config: Any) -> Any:
    if config.image_size < config.patch_size:
        raise SpecError(f"{FIELD}.config: patch_size {config.patch_size} is more than image_size {config.image_size}")
    return config


def _square(tower: Any) -> Eyes:
    config = tower.config
    size = int(config.image_size)
    return Eyes(tower, int(config.hidden_size), size, (size // int(config.patch_size)) ** 2, _last)


def _last(tower: Any, pixels_NCHW: torch.Tensor) -> torch.Tensor:
    vectors: torch.Tensor = tower(pixel_values=pixels_NCHW).last_hidden_state
    return vectors


def _drop_pooling(tower: nn.Module) -> None:
    """Take out the norm of the pooled class token: weights that train and never get a gradient would stall ranks."""
    for module in tower.modules():
        if hasattr(module, "post_layernorm"):
            module.post_layernorm = nn.Identity()


def _without_class_token(tower: Any, pixels_NCHW: torch.Tensor) -> torch.Tensor:
    return _last(tower, pixels_NCHW)[:, 1:]


def _naflex(tower: Any, pixels_NCHW: torch.Tensor) -> torch.Tensor:
    """Patches row by row, each as its pixels' colours in turn; all of them are there."""
    patch = int(tower.config.patch_size)
    rows = pixels_NCHW.unfold(2, patch, patch).unfold(3, patch, patch)  # (N, C, h, w, p, p)
    patches = rows.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
    shape = torch.tensor([rows.shape[2:4]] * len(patches), device=patches.device)
    mask = torch.ones(patches.shape[:2], dtype=torch.int64, device=patches.device)
    output = tower(pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=shape)
    vectors: torch.Tensor = output.last_hidden_state
    return vectors


def _direct(tower: nn.Module, pixels_NCHW: torch.Tensor) -> torch.Tensor:
    vectors: torch.Tensor = tower(pixels_NCHW)
    return vectors


def _from_scratch(kind: Any, config: Config) -> Eyes:
    tower = kind(**_known(kind, config))
    return Eyes(tower, tower.width, tower.size, tower.length, _direct)


def _known(kind: Any, config: Config) -> Config:
    unknown = sorted(set(config) - set(kind.FIELDS))
    if unknown:
        raise SpecError(
            f"{FIELD}.config: {kind.__name__} has no field {unknown[0]!r}; there are: {', '.join(kind.FIELDS)}"
        )
    return config
