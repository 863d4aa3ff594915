"""Cross-entropy of the tokens of a batch, all at once or in pieces.

Here: the losses of a batch's predicted tokens, without ever holding all logits where the model is told so.
Elsewhere: which tokens count how much (sft.py and the other losses).

All logits of 8,192 tokens over 152,000 words are 5 GB in float32, and as much again for their gradient. In pieces, only
those of the tokens that carry loss are made, so many at once, and made again in the backward pass.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from shardkit import SpecError
from trainer.data.collate import IGNORED, TrainBatch

TRIED_TOKENS = 5
TOLERANCE = 1e-3


def token_losses(model: Any, batch: TrainBatch) -> torch.Tensor:
    """Losses (B, T - 1) in float32 of every predicted token; 0 where the label is IGNORED.

    Where the model's `loss_chunk` is set, by pieces of so many tokens.
    """
    labels = batch.labels[:, 1:]
    chunk = int(getattr(model, "loss_chunk", 0))
    if chunk:
        return _in_pieces(model, batch, labels, chunk)
    logits = model(batch)[:, :-1].float()
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none")
    return losses.unflatten(0, labels.shape)


def check_pieces(model: Any, asked: str = "speed.loss_chunk") -> None:
    """Refuse pieces for a language model that does more to its last vectors than its head does (scales, caps).

    `asked` names what asks for them.
    Raises SpecError.
    """
    language, device = model.language, next(model.parameters()).device
    ids = torch.arange(2, 2 + TRIED_TOKENS, device=device)[None]
    embeds = language.get_input_embeddings()(ids)
    was_training = language.training
    language.eval()
    with torch.no_grad():
        whole = language(inputs_embeds=embeds, use_cache=False).logits
        own = model.head(model.last_vectors(inputs_embeds=embeds, use_cache=False))
    language.train(was_training)
    if whole.shape != own.shape or not torch.allclose(whole, own, rtol=TOLERANCE, atol=TOLERANCE):
        raise SpecError(
            f"{asked}: this language model changes its logits behind its head, so that they cannot be made in pieces; "
            + ("set speed.loss_chunk=0" if asked == "speed.loss_chunk" else "give another model, or another loss")
        )


def _in_pieces(model: Any, batch: TrainBatch, labels: torch.Tensor, chunk: int) -> torch.Tensor:
    vectors = model.hidden(batch)[:, :-1]
    rows, columns = (labels != IGNORED).nonzero(as_tuple=True)
    wanted, chosen = labels[rows, columns], vectors[rows, columns]
    pieces = [
        checkpoint(_piece, model, chosen[at : at + chunk], wanted[at : at + chunk], use_reentrant=False)
        for at in range(0, len(wanted), chunk)
    ]
    # where no token carries loss the model still has its part in the graph: other ranks may wait for it
    losses = torch.cat([vectors.new_zeros(0, dtype=torch.float32), *pieces]) + 0.0 * vectors.sum().float()
    return torch.zeros(labels.shape, device=labels.device).index_put((rows, columns), losses)


def _piece(model: Any, vectors_ND: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model.head(vectors_ND).float(), labels_N, reduction="none")
