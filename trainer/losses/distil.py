"""Distillation: what a frozen teacher says of the answers' tokens, beside what the labels say.

Here: the divergence of the two distributions, the distance of their last vectors and of chosen inner ones, mixing with
the labels' loss.
Elsewhere: loading the teacher (objective.py), weights of tokens (sft.py).

Hinton et al. 2015, arXiv:1503.02531: both distributions are softened by a temperature T and the divergence is
multiplied by T^2, so that its gradients keep their size. The reverse direction is that of MiniLLM (Gu et al. 2023,
arXiv:2306.08543), which covers less of what the teacher might say. Vectors as in FitNets (Romero et al. 2014,
arXiv:1412.6550), of the last layer; of inner ones as in TinyBERT (Jiao et al. 2020, arXiv:1909.10351), whose
projections are learnt along.
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

    And `layer_features` of that of the inner vectors, where the spec pairs any.

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

        Those of inner layers as `distil_layers`.

        Raises SpecError. To be called before the optimizer is made.
        """
        for each in (model, self.teacher):
            check_pieces(each, "loss.name is distil")
        if self._distil.features:
            self._project(model)
        if self._distil.layers:
            self._project_layers(model)

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
            theirs, *inner = (each[:, :-1][where] for each in self._vectors(self.teacher, batch, at=1))
        vectors, *own = (each[:, :-1] for each in self._vectors(model, batch, at=0))
        labels = batch.labels[:, 1:][where]
        divergences, hard = self._compare(model, vectors[where], theirs, labels)
        mixed = self._distil.alpha * self._distil.temperature**2 * divergences + (1 - self._distil.alpha) * hard
        told = {"kl": divergences, "hard_loss": hard}
        if self._distil.features:
            told["feature_distance"] = self._distance(model, vectors[where], theirs)
            mixed = mixed + self._distil.features * told["feature_distance"]
        if own:
            told["layer_distance"] = self._inner_distance(model, [each[where] for each in own], inner)
            mixed = mixed + self._distil.layer_features * told["layer_distance"]
        # where no token carries loss the model still has its part in the graph: other ranks may wait for it
        losses = (
            torch.zeros(where.shape, device=mixed.device).masked_scatter(where, mixed) + 0.0 * vectors.sum().float()
        )
        total = (losses * answer_weights(batch, self._spec)).sum()
        return total, _parts(batch, losses.detach(), {name: value.detach() for name, value in told.items()})

    def _vectors(self, model: Any, batch: TrainBatch, at: int) -> tuple[torch.Tensor, ...]:
        """A model's last vectors (B, T, width), then those of its inner layers: `at` in each pair of the spec."""
        layers = [pair[at] for pair in self._distil.layers]
        found: tuple[torch.Tensor, ...] = model.layered(batch, layers) if layers else (model.hidden(batch),)
        return found

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
        if self._distil.projection == "learned":
            model.distil_projection = self._projection(model)
        else:
            self._check_widths(model, "loss.distil.features=0")

    def _project_layers(self, model: Any) -> None:
        for name, whose, at in (("model", model, 0), ("teacher", self.teacher, 1)):
            number = int(whose.language.config.num_hidden_layers)
            above = [pair[at] for pair in self._distil.layers if pair[at] > number]
            if above:
                raise SpecError(f"loss.distil.layers names layer {above[0]} of the {name}, which has {number}")
        if self._distil.projection == "learned":
            model.distil_layers = nn.ModuleList(self._projection(model) for _ in self._distil.layers)
        else:
            self._check_widths(model, "loss.distil.layers=[]")

    def _projection(self, model: Any) -> nn.Linear:
        device = next(model.parameters()).device
        made = nn.Linear(width_of(model), width_of(self.teacher), bias=False, device=device)
        nn.init.eye_(made.weight)
        return made

    def _check_widths(self, model: Any, without: str) -> None:
        own, theirs = width_of(model), width_of(self.teacher)
        if own != theirs:
            raise SpecError(
                f"loss.distil.projection is identity, and the model's vectors are {own} wide, the teacher's {theirs}; "
                f"set loss.distil.projection=learned, or {without}"
            )

    def _distance(self, model: Any, own: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        """Mean squared distances (N,) of the last vectors."""
        shown = model.distil_projection(own) if self._distil.projection == "learned" else own
        return distance(shown, theirs)

    def _inner_distance(self, model: Any, own: list[torch.Tensor], theirs: list[torch.Tensor]) -> torch.Tensor:
        """The same (N,) of inner vectors, their mean over the pairs of layers."""
        if self._distil.projection == "learned":
            own = [project(each) for project, each in zip(model.distil_layers, own, strict=True)]
        return torch.stack([distance(*pair) for pair in zip(own, theirs, strict=True)]).mean(dim=0)


def divergence(logits: torch.Tensor, teacher: torch.Tensor, spec: DistilSpec) -> torch.Tensor:
    """Kullback-Leibler divergences (N,) in nats of softened distributions, from logits (N, words) in float32."""
    own = F.log_softmax(logits / spec.temperature, dim=-1)
    theirs = F.log_softmax(teacher / spec.temperature, dim=-1)
    first, second = (theirs, own) if spec.direction == "forward" else (own, theirs)
    return (first.exp() * (first - second)).sum(dim=-1)


def distance(own: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Mean squared distances (N,) of vectors (N, width), in float32."""
    return (own.float() - theirs.float()).square().mean(dim=-1)


def width_of(model: Any) -> int:
    """Width of a model's last vectors."""
    return int(model.language.get_input_embeddings().weight.shape[1])


def _parts(batch: TrainBatch, losses: torch.Tensor, told: dict[str, torch.Tensor]) -> LossParts:
    counts = batch.per_sample((batch.labels[:, 1:] != IGNORED).to(torch.int64)).tolist()
    totals = batch.per_sample(losses.double()).tolist()
    extra = {name: (float(values.double().sum()), float(len(values))) for name, values in told.items() if len(values)}
    own = LossParts(tokens={}, sums={}, answers={}, means={}, extra=extra)
    return add_parts([parts_of(batch.kinds, batch.sources, counts, totals), own])
