"""Distillation: what a frozen teacher says of the answers' tokens, beside what the labels say.

Here: the divergence of the two distributions, the distance of their last vectors, mixing with the labels' loss.
Elsewhere: loading the teacher (objective.py), weights of tokens (sft.py).

Hinton et al. 2015, arXiv:1503.02531: both distributions are softened by a temperature T and the divergence is
multiplied by T^2, so that its gradients keep their size. The reverse direction is that of MiniLLM (Gu et al. 2023,
arXiv:2306.08543), which covers less of what the teacher might say. Vectors as in FitNets (Romero et al. 2014,
arXiv:1412.6550), of the last layer.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from shardkit import SpecError
from trainer.data.collate import IGNORED, TrainBatch
from trainer.data.tokenise import Teaches
from trainer.losses.parts import LossParts, add_parts, parts_of
from trainer.losses.sft import answer_weights
from trainer.losses.tokens import check_pieces
from trainer.spec import DistilSpec, LossSpec


class DistilLoss:
    """`alpha` of the divergence, 1 - `alpha` of the labels' cross-entropy, `features` of the vectors' distance.

    `teacher` is set before `prepare`, and `words`: how many tokens the tokeniser has that both share.
    """

    teaches: Teaches = "answers"
    answers_only = True
    """Logits are made of tokens that carry loss, and of no others."""

    def __init__(self, spec: LossSpec) -> None:
        assert spec.distil is not None, "the spec says so"
        self._spec, self._distil = spec, spec.distil
        self.teacher: Any = None
        self.words = 0

    def prepare(self, model: Any) -> None:
        """Check that teacher and model fit; a learned projection becomes a part of the model, as `distil_projection`.

        Raises SpecError. To be called before the optimizer is made.
        """
        for each in (model, self.teacher):
            check_pieces(each, "loss.name is distil")
        if self._distil.features:
            self._project(model)

    def passes(self, model: Any) -> tuple[tuple[str, Any, int], ...]:
        """See Loss: the teacher."""
        return (("the teacher", self.teacher, 1),)

    def weight(self, batch: TrainBatch) -> torch.Tensor:
        """See Loss: the sum of its tokens' weights."""
        return answer_weights(batch, self._spec).sum()

    def __call__(self, model: Any, batch: TrainBatch) -> tuple[torch.Tensor, LossParts]:
        """See Loss."""
        where = batch.labels[:, 1:] != IGNORED
        with torch.no_grad():
            theirs = self.teacher.hidden(batch)[:, :-1][where]
        vectors = model.hidden(batch)[:, :-1]
        labels = batch.labels[:, 1:][where]
        divergences, hard = self._compare(model, vectors[where], theirs, labels)
        mixed = self._distil.alpha * self._distil.temperature**2 * divergences + (1 - self._distil.alpha) * hard
        if self._distil.features:
            mixed = mixed + self._distil.features * self._distance(model, vectors[where], theirs)
        # where no token carries loss the model still has its part in the graph: other ranks may wait for it
        losses = (
            torch.zeros(where.shape, device=mixed.device).masked_scatter(where, mixed) + 0.0 * vectors.sum().float()
        )
        total = (losses * answer_weights(batch, self._spec)).sum()
        return total, _parts(batch, losses.detach(), {"kl": divergences.detach(), "hard_loss": hard.detach()})

    def _compare(
        self, model: Any, own: torch.Tensor, theirs: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Divergences (N,) and the labels' cross-entropies (N,), by pieces of the model's `loss_chunk` tokens."""
        chunk = int(getattr(model, "loss_chunk", 0)) or max(1, len(own))
        pieces = [
            checkpoint(
                self._piece, model, own[at : at + chunk], theirs[at : at + chunk], labels[at : at + chunk],
                use_reentrant=False,
            )
            for at in range(0, len(own), chunk)
        ]  # fmt: skip
        none = own.new_zeros(0, dtype=torch.float32)
        return torch.cat([none, *(piece[0] for piece in pieces)]), torch.cat([none, *(piece[1] for piece in pieces)])

    def _piece(
        self, model: Any, own: torch.Tensor, theirs: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model.head(own).float()
        with torch.no_grad():
            wanted = self.teacher.head(theirs)[:, : self.words].float()
        return divergence(logits[:, : self.words], wanted, self._distil), F.cross_entropy(
            logits, labels, reduction="none"
        )

    def _project(self, model: Any) -> None:
        own, theirs = width_of(model), width_of(self.teacher)
        if self._distil.projection == "learned":
            device = next(model.parameters()).device
            model.distil_projection = nn.Linear(own, theirs, bias=False, device=device)
            nn.init.eye_(model.distil_projection.weight)
        elif own != theirs:
            raise SpecError(
                f"loss.distil.projection is identity, and the model's vectors are {own} wide, the teacher's {theirs}; "
                f"set loss.distil.projection=learned, or loss.distil.features=0"
            )

    def _distance(self, model: Any, own: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        """Mean squared distances (N,) of the last vectors."""
        shown = model.distil_projection(own) if self._distil.projection == "learned" else own
        return (shown.float() - theirs.float()).square().mean(dim=-1)


def divergence(logits: torch.Tensor, teacher: torch.Tensor, spec: DistilSpec) -> torch.Tensor:
    """Kullback-Leibler divergences (N,) in nats of softened distributions, from logits (N, words) in float32."""
    own = F.log_softmax(logits / spec.temperature, dim=-1)
    theirs = F.log_softmax(teacher / spec.temperature, dim=-1)
    first, second = (theirs, own) if spec.direction == "forward" else (own, theirs)
    return (first.exp() * (first - second)).sum(dim=-1)


def width_of(model: Any) -> int:
    """Width of a model's last vectors."""
    return int(model.language.get_input_embeddings().weight.shape[1])


def _parts(batch: TrainBatch, losses: torch.Tensor, told: dict[str, torch.Tensor]) -> LossParts:
    counts = batch.per_sample((batch.labels[:, 1:] != IGNORED).to(torch.int64)).tolist()
    totals = batch.per_sample(losses.double()).tolist()
    extra = {name: (float(values.double().sum()), float(len(values))) for name, values in told.items() if len(values)}
    own = LossParts(tokens={}, sums={}, answers={}, means={}, extra=extra)
    return add_parts([parts_of(batch.kinds, batch.sources, counts, totals), own])
