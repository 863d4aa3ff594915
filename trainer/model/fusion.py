"""The fusion model: no language model, but a transformer in which text attends to the vectors of images and sound.

Here: putting encoders, projections, transformer and heads together; which text sees which media; answering.
Elsewhere: the transformer (crossing.py), heads (heads.py), encoders (encoders.py), losses.

A medium has one place among the tokens, which text does not see: it says which sample a medium belongs to, and gives
its vectors their position. Which head answers a sample is told by its media: transcription where there is sound and
nothing to be seen, else caption.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import msgspec
import torch
from torch import nn

from trainer.data.collate import IGNORED, TrainBatch
from trainer.data.tokenise import Speech
from trainer.model.crossing import CrossingText
from trainer.model.encoders import HearingEncoder, VisionEncoder
from trainer.model.growing import note_tokens
from trainer.model.heads import ContrastiveHead, TokenHead
from trainer.model.omni import is_trainable, senses_of
from trainer.model.pooling import (
    Pairs,
    answer_fingerprints,
    answer_positions,
    mean_of_samples,
    media_samples,
    paired,
    sample_numbers,
)
from trainer.spec import EncoderSpec, ModelSpec

DOORS = ("look", "listen", "hidden", "embed", "outputs", "aligned", "go_on")
"""Methods by which a model is entered besides forward: what cuts it up over ranks must put it together for them."""


class Media(NamedTuple):
    """Vectors of all media of a batch, Z of them in turn: `vectors` (Z, width), their `rows` and `samples` (Z,).

    `samples` is -1 for a vector of padding behind a recording.
    """

    vectors: torch.Tensor
    rows: torch.Tensor
    samples: torch.Tensor


class Outputs(NamedTuple):
    """What the heads say of a batch: logits (N, vocabulary) of next tokens at `captioned`, `transcribed` (B, T - 1).

    `pairs` is none where they were not asked for. `touched` () is zero and holds on to all that trains.
    """

    captioned: torch.Tensor
    transcribed: torch.Tensor
    captions: torch.Tensor
    transcripts: torch.Tensor
    pairs: Pairs | None
    touched: torch.Tensor


class Fusion(nn.Module):
    """Encoders, a cross-attention transformer and three heads. `senses` says what its encoders take.

    `language` is the transformer, of random weights. Frozen encoders stay in eval mode.
    """

    def __init__(self, spec: ModelSpec, speech: Speech) -> None:
        super().__init__()
        assert spec.fusion is not None, "the spec says so"
        self.loss_chunk = 0
        width = spec.fusion.width
        self.language = CrossingText(spec.fusion, speech.vocabulary)
        self.vision = VisionEncoder(spec.vision) if spec.vision else None
        self.audio = HearingEncoder(spec.audio) if spec.audio else None
        self.vision_connector = _projection(self.vision, width)
        self.audio_connector = _projection(self.audio, width)
        self.caption = TokenHead(width, speech.vocabulary)
        self.transcription = TokenHead(width, speech.vocabulary)
        self.contrastive = ContrastiveHead(width, spec.fusion.learn_temperature)
        self.seen_ids = (speech.places["image"], speech.places["video"])
        self.heard_id = speech.places["audio"]
        self.end_ids = speech.end_ids
        senses = senses_of(spec, self.vision, self.audio)
        one = {name: 1 for name in ("image_latents", "audio_latents") if getattr(senses, name)}
        self.senses = msgspec.structs.replace(senses, **one)
        parts: tuple[tuple[str, EncoderSpec | None], ...] = (("vision", spec.vision), ("audio", spec.audio))
        for name, part in parts:
            if part and not part.trainable:
                getattr(self, name).requires_grad_(False)
        self.pretrained_parts = tuple(f"{name}." for name, part in parts if part and part.pretrained)

    def forward(self, batch: TrainBatch) -> torch.Tensor:
        """Logits (B, T, vocabulary) of a batch on the model's device, of every sample's own head."""
        vectors = self._hidden(batch, self.media(batch))
        hears = batch.per_token(self.hears(batch))
        if batch.segments is not None:  # per_token leaves out the first token, which has its neighbour's sample
            hears = torch.cat([hears[:, :1], hears], dim=1)
        logits = torch.where(hears.bool()[..., None], self.transcription(vectors), self.caption(vectors))
        return logits + self._touched(batch)

    def hidden(self, batch: TrainBatch) -> torch.Tensor:
        """The transformer's last vectors (B, T, width): what its heads take."""
        return self._hidden(batch, self.media(batch)) + self._touched(batch)

    def embed(self, batch: TrainBatch) -> torch.Tensor:
        """What the transformer reads (B, T, width): embeddings of tokens and positions."""
        return self._embedded(batch.ids, _positions(batch))

    def outputs(self, batch: TrainBatch, contrast: bool = True) -> Outputs:
        """What the heads say of a batch; `contrast`: with the pairs to be compared."""
        media = self.media(batch)
        vectors = self._hidden(batch, media)[:, :-1]
        said = batch.labels[:, 1:] != IGNORED
        hears = batch.per_token(self.hears(batch)).bool()
        captioned, transcribed = said & ~hears, said & hears
        return Outputs(
            captioned=captioned,
            transcribed=transcribed,
            captions=self.caption(vectors[captioned]),
            transcripts=self.transcription(vectors[transcribed]),
            pairs=self._pairs(batch, media) if contrast else None,
            touched=self._touched(batch),
        )

    def aligned(self, batch: TrainBatch) -> Pairs:
        """Pooled media and answers of the samples that have both, in the contrastive head's space."""
        return self._pairs(batch, self.media(batch))

    def look(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        """Projected vectors (N, patches, width) of uint8 images."""
        if self.vision is None or self.vision_connector is None:
            raise ValueError("the batch holds images, the model has no vision")
        with torch.set_grad_enabled(torch.is_grad_enabled() and is_trainable(self.vision)):
            vectors = self.vision(images_NCHW)
        projected: torch.Tensor = self.vision_connector(vectors)
        return projected

    def listen(self, mels_MCF: torch.Tensor, heard_MF: torch.Tensor) -> torch.Tensor:
        """Projected vectors (M, frames / 2, width) of log-mel windows; which of them are padding, `heard_MF` says."""
        if self.audio is None or self.audio_connector is None:
            raise ValueError("the batch holds sound, the model has no ears")
        with torch.set_grad_enabled(torch.is_grad_enabled() and is_trainable(self.audio)):
            vectors = self.audio(mels_MCF)
        projected: torch.Tensor = self.audio_connector(vectors)
        return projected

    def train(self, mode: bool = True) -> Fusion:
        """Training mode for the parts that train only."""
        super().train(mode)
        for part in (self.vision, self.audio):
            if part is not None and not is_trainable(part):
                part.eval()
        return self

    def answer(self, batch: TrainBatch, max_tokens: int) -> list[int]:
        """The likeliest answer to the one prompt of a batch, token by token, without the token that ends it.

        Raises ValueError for a batch of several rows.
        """
        from trainer.model.generate import greedy

        if len(batch.keys) != 1:
            raise ValueError(f"the batch has {len(batch.keys)} samples; wanted one, the prompt to be answered")
        return greedy(self, batch, max_tokens, self.end_ids)[0]

    def go_on(
        self, batch: TrainBatch, most: int, stop_ids: Collection[int], choose: Callable[[torch.Tensor], torch.Tensor]
    ) -> list[list[int]]:
        """New tokens of every row, chosen from its own head's logits; see generate.decode, which calls this.

        Media are encoded once, text anew for every token: the transformer is small. Never longer than its positions.
        """
        media, hears = self.media(batch), self.hears(batch).bool()
        lengths = batch.attention.sum(dim=1)
        rows = torch.arange(len(batch.ids), device=batch.ids.device)
        answers: list[list[int]] = [[] for _ in batch.keys]
        going = [True] * len(answers)
        room = self.language.config.max_position_embeddings - int(lengths.max())
        for _ in range(min(most, room)):
            last = self._hidden(batch, media)[rows, lengths - 1]
            logits = torch.where(hears[:, None], self.transcription(last), self.caption(last))
            chosen = choose(logits.float())
            if not note_tokens(answers, going, chosen.tolist(), stop_ids):
                break
            batch, lengths = _with_token(batch, chosen, lengths), lengths + 1
        return answers

    def hears(self, batch: TrainBatch) -> torch.Tensor:
        """1.0 (samples,) where a sample has sound and nothing to be seen: transcription answers it, else caption."""
        seen, heard = self._places(batch)
        sounds, sights = (batch.per_sample(where.long()) > 0 for where in (heard, seen))
        return (sounds & ~sights).float()

    def media(self, batch: TrainBatch) -> Media:
        """Projected vectors of all media, with their sample and their place's position."""
        seen, heard = self._places(batch)
        found = []
        if len(batch.images):
            found.append(self._placed(batch, seen, self.look(batch.images), None))
        if len(batch.mels):
            vectors = self.listen(batch.mels, batch.heard)
            found.append(self._placed(batch, heard, vectors, batch.heard[:, ::2]))
        if found:
            return Media(*(torch.cat(parts) for parts in zip(*found, strict=True)))
        none = batch.ids.new_zeros(0)
        return Media(torch.zeros((0, self.language.config.hidden_size), device=none.device), none, none)

    def _placed(
        self, batch: TrainBatch, where_BT: torch.Tensor, vectors_NLD: torch.Tensor, valid_NL: torch.Tensor | None
    ) -> Media:
        count, length = vectors_NLD.shape[:2]
        rows = where_BT.nonzero()[:, 0]
        if len(rows) != count:
            raise ValueError(f"{len(rows)} places for {count} media; the batch was collated for another model")
        samples = media_samples(batch, where_BT, count)[:, None].expand(-1, length)
        if valid_NL is not None:
            samples = torch.where(valid_NL, samples, -1)
        positions = self.language.places(_positions(batch)[where_BT])
        vectors = vectors_NLD + positions[:, None].to(vectors_NLD.dtype)
        return Media(vectors.flatten(0, 1), rows.repeat_interleave(length), samples.flatten())

    def _places(self, batch: TrainBatch) -> tuple[torch.Tensor, torch.Tensor]:
        seen = (batch.ids == self.seen_ids[0]) | (batch.ids == self.seen_ids[1])
        return seen, batch.ids == self.heard_id

    def _embedded(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        embeds: torch.Tensor = self.language.words(ids) + self.language.places(positions)
        return embeds

    def _hidden(self, batch: TrainBatch, media: Media) -> torch.Tensor:
        seen, heard = self._places(batch)
        shown = batch.attention & ~seen & ~heard
        memory, reaches = _by_row(batch, media)
        vectors: torch.Tensor = self.language(self.embed(batch), _sees(batch, shown), memory, reaches)
        return vectors

    def _pairs(self, batch: TrainBatch, media: Media) -> Pairs:
        """The answers are read by themselves, without media and prompt: else they would tell what is to be found."""
        said, samples = batch.labels != IGNORED, len(batch.keys)
        none = media.vectors.new_zeros((len(batch.ids), 0, media.vectors.shape[1]))
        reaches = torch.zeros((len(batch.ids), 1, 0), dtype=torch.bool, device=said.device)
        embeds = self._embedded(batch.ids, answer_positions(batch, said))
        vectors = self.language(embeds, _sees(batch, said), none, reaches)
        text = mean_of_samples(vectors[said], sample_numbers(batch)[said], samples)
        pooled = mean_of_samples(media.vectors, media.samples, samples)
        has = torch.zeros(samples, dtype=torch.bool, device=said.device)
        has[media.samples[media.samples >= 0]] = True
        chosen = paired(batch, has)
        own, theirs = self.contrastive(pooled[chosen], text[chosen])
        sharpness = self.contrastive.sharpness().to(own.device)
        return Pairs(own, theirs, answer_fingerprints(batch)[chosen], chosen, sharpness, self._touched(batch))

    def _touched(self, batch: TrainBatch) -> torch.Tensor:
        """Zero times all that a batch may leave unused, so that every rank has a gradient for every part."""
        parts: list[nn.Module | None] = [self.caption, self.transcription, self.contrastive, self.language.places]
        parts += [self.vision, self.vision_connector] if not len(batch.images) else []
        parts += [self.audio, self.audio_connector] if not len(batch.mels) else []
        parameters = [p for part in parts if part is not None for p in part.parameters() if p.requires_grad]
        return 0.0 * sum((p.sum() for p in parameters), start=torch.zeros((), device=batch.ids.device))


def _projection(encoder: VisionEncoder | HearingEncoder | None, width: int) -> nn.Module | None:
    """An encoder's vectors into the transformer's width."""
    return nn.Sequential(nn.LayerNorm(encoder.width), nn.Linear(encoder.width, width)) if encoder else None


def _positions(batch: TrainBatch) -> torch.Tensor:
    """The position (B, T) of every token in its sample."""
    if batch.positions is not None:
        return batch.positions
    return torch.arange(batch.ids.shape[1], device=batch.ids.device).expand_as(batch.ids)


def _sees(batch: TrainBatch, shown_BT: torch.Tensor) -> torch.Tensor:
    """Which tokens see which (B, T, T): those shown, of their own sample, at and before them; and always themselves."""
    samples, length = sample_numbers(batch), batch.ids.shape[1]
    own = torch.eye(length, dtype=torch.bool, device=batch.ids.device)
    before = torch.ones_like(own).tril()
    return (before & shown_BT[:, None, :] & (samples[:, :, None] == samples[:, None, :])) | own


def _by_row(batch: TrainBatch, media: Media) -> tuple[torch.Tensor, torch.Tensor]:
    """Media's vectors by row (B, S, width), padded, and which tokens reach which of them (B, T or 1, S)."""
    counts = torch.bincount(media.rows, minlength=len(batch.ids))
    order = media.rows.argsort(stable=True)
    rows = media.rows[order]
    slots = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    shape = (len(batch.ids), int(counts.max()))
    memory = media.vectors.new_zeros((*shape, media.vectors.shape[1])).index_put((rows, slots), media.vectors[order])
    samples = torch.full(shape, -1, device=rows.device).index_put((rows, slots), media.samples[order])
    if batch.segments is None:
        return memory, (samples >= 0)[:, None, :]
    return memory, (samples[:, None, :] == sample_numbers(batch)[:, :, None]) & (samples >= 0)[:, None, :]


def _with_token(batch: TrainBatch, chosen_B: torch.Tensor, lengths_B: torch.Tensor) -> TrainBatch:
    """The batch with one more token in every row, behind its last one."""
    at = lengths_B[:, None]
    ids = nn.functional.pad(batch.ids, (0, 1)).scatter(1, at, chosen_B[:, None])
    attention = nn.functional.pad(batch.attention, (0, 1)).scatter(1, at, True)
    labels = nn.functional.pad(batch.labels, (0, 1), value=IGNORED)
    return msgspec.structs.replace(batch, ids=ids, attention=attention, labels=labels)
