"""The fusion model's heads learn together: captions, transcripts, and media beside their answers.

Here: the weighted sum, its parts by head.
Elsewhere: the heads (model/heads.py), InfoNCE (contrastive.py), weighting of answers (sft.py).

Samples with sound and nothing to be seen go to the transcription head, all others, text alone too, to the caption head;
samples with media also to the contrastive head. The loss is the mean over samples of
    caption x or transcription x (the answer's mean loss a token) + contrastive x (InfoNCE of the sample)
where a sample counts as its answer's tokens do (loss.weighting), so that accumulation and ranks do not change it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from trainer.data.collate import IGNORED, TrainBatch
from trainer.data.tokenise import Teaches
from trainer.losses.contrastive import contrast, told
from trainer.losses.parts import LossParts, add_parts, parts_of
from trainer.losses.sft import answer_weights
from trainer.model.fusion import Outputs
from trainer.spec import HeadsSpec, LossSpec


class FusionLoss:
    """The three heads' losses in one; see the module."""

    teaches: Teaches = "answers"

    def __init__(self, spec: LossSpec) -> None:
        self._spec, self._heads = spec, spec.heads or HeadsSpec()
        self.gathers = self._heads.contrastive > 0
        self.rows_together = 0 if self.gathers else 1

    def weight(self, batch: TrainBatch) -> torch.Tensor:
        """See Loss: the sum of its tokens' weights."""
        return answer_weights(batch, self._spec).sum()

    def __call__(self, model: Any, batch: TrainBatch) -> tuple[torch.Tensor, LossParts]:
        """See Loss."""
        heads = self._heads
        found: Outputs = model.outputs(batch, contrast=heads.contrastive > 0)
        labels, weights = batch.labels[:, 1:], answer_weights(batch, self._spec)
        captions = _losses(found.captions, labels, found.captioned)
        transcripts = _losses(found.transcripts, labels, found.transcribed)
        total = ((heads.caption * captions + heads.transcription * transcripts) * weights).sum() + found.touched
        parts = [
            _parts(batch, (captions + transcripts).detach()),
            _head("caption_loss", captions, found.captioned),
            _head("transcription_loss", transcripts, found.transcribed),
        ]
        if found.pairs is not None:
            compared = contrast(found.pairs, heads.temperature)
            of_samples = batch.per_sample(weights)[found.pairs.samples]
            total = total + heads.contrastive * (compared.losses * of_samples).sum() + found.pairs.touched
            parts.append(told(compared))
        return total, add_parts(parts)


def _losses(logits_NV: torch.Tensor, labels: torch.Tensor, where: torch.Tensor) -> torch.Tensor:
    """Losses (B, T - 1) of the tokens for which a head has logits; 0 elsewhere."""
    losses = F.cross_entropy(logits_NV.float(), labels[where], reduction="none")
    return torch.zeros(labels.shape, device=losses.device).masked_scatter(where, losses)


def _head(name: str, losses: torch.Tensor, where: torch.Tensor) -> LossParts:
    count = float(where.sum())
    extra = {name: (float(losses.detach().double().sum()), count)} if count else {}
    return LossParts(tokens={}, sums={}, answers={}, means={}, extra=extra)


def _parts(batch: TrainBatch, losses: torch.Tensor) -> LossParts:
    counts = batch.per_sample((batch.labels[:, 1:] != IGNORED).to(torch.int64)).tolist()
    return parts_of(batch.kinds, batch.sources, counts, batch.per_sample(losses.double()).tolist())
