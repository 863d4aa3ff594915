"""The model: a causal language model that reads the latents of images and sound in place of placeholder tokens.

Here: putting encoders, connectors and language model together; what is trainable; the forward pass.
Elsewhere: each part (encoders.py, connectors.py), losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from shardkit import SpecError
from trainer.data.collate import IGNORED, TrainBatch
from trainer.data.media import Senses
from trainer.data.tokenise import Speech
from trainer.model.attention import choose_attention, packed_inputs
from trainer.model.connectors import make_connector
from trainer.model.encoders import HearingEncoder, VisionEncoder
from trainer.model.language import make_language, recompute_layers
from trainer.model.pooling import Pairs, answer_fingerprints, mean_of_samples, media_samples, paired, sample_numbers
from trainer.spec import EncoderSpec, ModelSpec

DOORS = ("look", "listen", "hidden", "layered", "head", "embed", "words", "proceed", "aligned")
"""Methods by which a model is entered besides forward: what cuts it up over ranks must put it together for them."""


class Omni(nn.Module):
    """Language model with eyes and ears. `senses` says what its encoders take; frozen parts stay in eval mode.

    `loss_chunk`: losses make logits of so many tokens at once, and of those only that carry loss; 0 of all.
    """

    def __init__(self, spec: ModelSpec, speech: Speech) -> None:
        super().__init__()
        self.loss_chunk = 0
        self.language = make_language(spec.language, speech)
        choose_attention(_causal(self.language), spec.language.attention)
        width = int(self.language.get_input_embeddings().weight.shape[1])
        self.vision = VisionEncoder(spec.vision) if spec.vision else None
        self.audio = HearingEncoder(spec.audio) if spec.audio else None
        self.vision_connector = _connector(spec.vision, self.vision, width, "vision")
        self.audio_connector = _connector(spec.audio, self.audio, width, "audio")
        self.seen_ids = (speech.places["image"], speech.places["video"])
        self.heard_id = speech.places["audio"]
        self.senses = senses_of(spec, self.vision, self.audio)
        self._freeze(spec)
        parts = (("vision.", spec.vision), ("audio.", spec.audio), ("language.", spec.language))
        self.pretrained_parts = tuple(name for name, part in parts if part and part.pretrained)

    def forward(self, batch: TrainBatch) -> torch.Tensor:
        """Logits (B, T, vocabulary) of a batch on the model's device."""
        logits: torch.Tensor = self.language(**self._inputs(batch)).logits
        return logits + 0.0 * self._untouched(batch)

    def hidden(self, batch: TrainBatch) -> torch.Tensor:
        """The language model's last vectors (B, T, width): what its head takes."""
        return self.last_vectors(**self._inputs(batch)) + 0.0 * self._untouched(batch)

    def layered(self, batch: TrainBatch, layers: Sequence[int]) -> tuple[torch.Tensor, ...]:
        """What `hidden` gives, and then vectors (B, T, width) behind the layers of these numbers, from 1 on.

        Behind the last layer they are the same, for its norm is part of it.
        """
        language = _causal(self.language)
        inputs = self._inputs(batch) | {"output_hidden_states": True}
        output = getattr(language, language.base_model_prefix)(**inputs)
        last = output.last_hidden_state + 0.0 * self._untouched(batch)
        return (last, *(output.hidden_states[layer] for layer in layers))

    def last_vectors(self, **inputs: Any) -> torch.Tensor:
        """Last vectors of the language model's trunk for its own inputs."""
        language = _causal(self.language)
        vectors: torch.Tensor = getattr(language, language.base_model_prefix)(**inputs).last_hidden_state
        return vectors

    def head(self, vectors: torch.Tensor) -> torch.Tensor:
        """Logits (…, vocabulary) of last vectors."""
        logits: torch.Tensor = _causal(self.language).get_output_embeddings()(vectors)
        return logits

    def _inputs(self, batch: TrainBatch) -> dict[str, Any]:
        """What the language model takes: embeddings with media in their places, and who sees whom."""
        inputs: dict[str, Any] = {"inputs_embeds": self._embedded(batch), "use_cache": False}
        if batch.positions is None:
            return inputs | {"attention_mask": batch.attention}
        return inputs | packed_inputs(_causal(self.language), batch.positions)

    def embed(self, batch: TrainBatch) -> torch.Tensor:
        """What the language model reads (B, T, width): embeddings of tokens, latents in place of the placeholders."""
        return self._embedded(batch)

    def words(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings (…, width) of token ids."""
        embeds: torch.Tensor = self.language.get_input_embeddings()(ids)
        return embeds

    def proceed(self, **inputs: Any) -> Any:
        """The language model on inputs of its own, its whole output: for decoding with a cache."""
        return self.language(**inputs)

    def aligned(self, batch: TrainBatch) -> Pairs:
        """Means of media's latents and of their answers' embeddings, of the samples that have both.

        Latents stand where embeddings do, so that both are compared in the space that the language model reads.
        """
        pooled = [torch.zeros((0, self.words(batch.ids[:1, :1]).shape[-1]), device=batch.ids.device)]
        owners = [batch.ids.new_zeros(0)]
        seen = (batch.ids == self.seen_ids[0]) | (batch.ids == self.seen_ids[1])
        if len(batch.images):
            pooled.append(self.look(batch.images).float().mean(dim=1))
            owners.append(media_samples(batch, seen, len(batch.images)))
        if len(batch.mels):
            pooled.append(self.listen(batch.mels, batch.heard).float().mean(dim=1))
            owners.append(media_samples(batch, batch.ids == self.heard_id, len(batch.mels)))
        samples, said, number = torch.cat(owners), batch.labels != IGNORED, len(batch.keys)
        chosen = paired(batch, torch.bincount(samples, minlength=number) > 0)
        media = mean_of_samples(torch.cat(pooled), samples, number)[chosen]
        text = mean_of_samples(self.words(batch.ids[said]), sample_numbers(batch)[said], number)[chosen]
        touched = 0.0 * self._untouched(batch) + 0.0 * text.sum() + 0.0 * media.sum()
        return Pairs(media, text, answer_fingerprints(batch)[chosen], chosen, torch.ones_like(touched), touched)

    def look(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Latents (N, latents, width) of uint8 images."""
        if self.vision is None or self.vision_connector is None:
            raise ValueError("the batch holds images, the model has no vision")
        with torch.set_grad_enabled(torch.is_grad_enabled() and is_trainable(self.vision)):
            vectors = self.vision(images_NCHW)
        return self.vision_connector(vectors)

    def listen(self, mels_MCF: torch.Tensor, heard_MF: torch.Tensor) -> torch.Tensor:
        """Latents (M, latents, width) of log-mel windows; vectors of pure padding are not attended to."""
        if self.audio is None or self.audio_connector is None:
            raise ValueError("the batch holds sound, the model has no ears")
        with torch.set_grad_enabled(torch.is_grad_enabled() and is_trainable(self.audio)):
            vectors = self.audio(mels_MCF)
        return self.audio_connector(vectors, heard_MF[:, ::2])

    def train(self, mode: bool = True) -> Omni:
        """Training mode for the parts that train only."""
        super().train(mode)
        for part in (self.vision, self.audio, self.language):
            if part is not None and not is_trainable(part):
                part.eval()
        return self

    def _embedded(self, batch: TrainBatch) -> torch.Tensor:
        """See embed, which forward does not enter: a third of FSDP's doors within a second cuts the model up again."""
        embeds: torch.Tensor = self.language.get_input_embeddings()(batch.ids)
        if len(batch.images):
            seen = (batch.ids == self.seen_ids[0]) | (batch.ids == self.seen_ids[1])
            embeds = place(embeds, seen, self.look(batch.images), "image")
        if len(batch.mels):
            embeds = place(embeds, batch.ids == self.heard_id, self.listen(batch.mels, batch.heard), "audio")
        return embeds

    def _untouched(self, batch: TrainBatch) -> torch.Tensor | float:
        """Zero times the parts that this batch does not use, so that every rank has a gradient for every part."""
        absent: list[nn.Module | None] = [self.vision, self.vision_connector] if not len(batch.images) else []
        absent += [self.audio, self.audio_connector] if not len(batch.mels) else []
        parameters = [p for part in absent if part is not None for p in part.parameters() if p.requires_grad]
        return sum((p.sum() for p in parameters), start=torch.zeros((), device=batch.ids.device))

    def _freeze(self, spec: ModelSpec) -> None:
        if spec.vision and self.vision and not spec.vision.trainable:
            self.vision.requires_grad_(False)
        if spec.audio and self.audio and not spec.audio.trainable:
            self.audio.requires_grad_(False)
        for part, connector in ((spec.vision, self.vision_connector), (spec.audio, self.audio_connector)):
            if part and connector and not part.connector_trainable:
                connector.requires_grad_(False)
        if spec.language.train == "frozen":
            self.language.requires_grad_(False)
        if spec.checkpointing:
            recompute_layers(self)


def _causal(language: Any) -> Any:
    """The causal language model itself, adapters within its layers."""
    return language.get_base_model() if hasattr(language, "get_base_model") else language


def place(embeds_BTD: torch.Tensor, where_BT: torch.Tensor, latents_NKD: torch.Tensor, name: str) -> torch.Tensor:
    """Token embeddings with latents, in order, in place of the placeholders; their numbers must agree."""
    found, wanted = int(where_BT.sum()), latents_NKD.shape[0] * latents_NKD.shape[1]
    if found != wanted:
        raise ValueError(f"{found} {name} placeholders for {wanted} latents; the batch was collated for another model")
    rows = latents_NKD.flatten(0, 1).to(embeds_BTD.dtype)
    return embeds_BTD.masked_scatter(where_BT[..., None], rows)


def _connector(
    spec: EncoderSpec | None, encoder: VisionEncoder | HearingEncoder | None, out: int, name: str
) -> nn.Module | None:
    if spec is None or encoder is None:
        return None
    try:
        return make_connector(spec, encoder.width, encoder.length, out)
    except ValueError as error:
        raise SpecError(f"model.{name}.{error}") from None


def senses_of(spec: ModelSpec, vision: VisionEncoder | None, audio: HearingEncoder | None) -> Senses:
    """What the encoders take."""
    senses = Senses()
    fields: dict[str, Any] = {name: getattr(senses, name) for name in senses.__struct_fields__}
    if spec.vision and vision:
        fields.update(image_size=vision.size, image_latents=spec.vision.latents)
        fields.update(decode=spec.vision.decode, most_frames=spec.vision.frames)
    if spec.audio and audio:
        fields.update(mels=audio.mels, window_frames=audio.frames, waves=spec.audio.mel == "device")
        fields.update(audio_latents=spec.audio.latents, most_windows=spec.audio.windows)
    return Senses(**fields)


def is_trainable(part: nn.Module) -> bool:
    """Whether any of a part's weights trains."""
    return any(parameter.requires_grad for parameter in part.parameters())
