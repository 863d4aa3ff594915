"""KTO: a loss on single answers, each known to be good or bad; pairs are two of them.

Here: the loss, and its estimate of how far the policy is from its reference.
Elsewhere: log-probabilities of answers (preference.py), the reference (reference.py).

Ethayarajh et al. 2024, arXiv:2402.01306, eqs. 7 and 8: with r = log pi/ref of an answer and z0 the divergence of policy
and reference, a good answer costs desirable (1 - sigmoid(beta (r - z0))), a bad one undesirable (1 - sigmoid(beta (z0 -
r))). z0 is the mean of log pi/ref over prompts with another sample's answer, at least 0, without gradient. It is
estimated anew from every part of a step: another `accumulate` gives another estimate.
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch

from trainer.data.collate import IGNORED, TrainBatch
from trainer.data.tokenise import Teaches
from trainer.losses.parts import LossParts, add_parts
from trainer.losses.preference import Answers, beta_of, check_answers, one_part, reference_answers, score_answers
from trainer.losses.reference import Reference
from trainer.spec import LossSpec, PreferenceSpec


class KtoLoss:
    """The mean over answers of KTO's losses: a batch weighs as many as it has answers."""

    teaches: Teaches = "feedback"
    rows_together = 0
    """A batch may not be cut at all: its answers are tried on each other's prompts."""

    def __init__(self, spec: LossSpec) -> None:
        self._spec = spec.preference or PreferenceSpec()
        self.reference: Reference | None = None

    def prepare(self, model: Any) -> None:
        """Keep the model's weights as the reference; to be called before any of them changes."""
        self.reference = Reference(model)

    def passes(self, model: Any) -> tuple[tuple[str, Any, int], ...]:
        """See Loss: the reference on the answers and on exchanged ones, on which the model is tried, too."""
        return (("the reference", model, 2), ("the model on exchanged answers", model, 1))

    def weight(self, batch: TrainBatch) -> torch.Tensor:
        """See Loss: its number of answers."""
        return torch.tensor(float(len(batch.ids)), device=batch.ids.device)

    def __call__(self, model: torch.nn.Module, batch: TrainBatch) -> tuple[torch.Tensor, LossParts]:
        """See Loss."""
        check_answers(batch, paired=False)
        assert batch.wanted is not None
        distance = self._distance(model, batch)
        kept = reference_answers(self.reference, model, batch)
        ratios = score_answers(model, batch).sums - kept.sums
        losses = kto(ratios, batch.wanted, distance, self._spec)
        return losses.sum(), self._parts(batch, losses, ratios, distance)

    def _distance(self, model: torch.nn.Module, batch: TrainBatch) -> torch.Tensor:
        """z0 (): 0 where the batch has one sample only, whose answers have no other prompt."""
        crossed = mismatched(batch)
        if crossed is None:
            return torch.zeros((), device=batch.ids.device)
        with torch.no_grad():
            kept: Answers = reference_answers(self.reference, model, crossed)
            return (score_answers(model, crossed).sums - kept.sums).mean().clamp(min=0.0)

    def _parts(
        self, batch: TrainBatch, losses: torch.Tensor, ratios: torch.Tensor, distance: torch.Tensor
    ) -> LossParts:
        assert batch.wanted is not None and batch.owners is not None
        rewards = (beta_of(self._spec, 0.1) * ratios.detach()).double().tolist()
        good, owners = batch.wanted.tolist(), batch.owners.tolist()
        parts = []
        for loss, reward, wanted, at in zip(losses.detach().double().tolist(), rewards, good, owners, strict=True):
            extra = {"chosen_reward" if wanted else "rejected_reward": (reward, 1.0), "kl": (float(distance), 1.0)}
            parts.append(one_part(batch.kinds[at], batch.sources[at] if batch.sources else "", loss, extra))
        for first, second in _pairs(owners):
            margin = rewards[first] - rewards[second]
            parts.append(_pair_part({"reward_margin": (margin, 1.0), "reward_accuracy": (float(margin > 0), 1.0)}))
        return add_parts(parts)


def kto(ratios: torch.Tensor, wanted: torch.Tensor, distance: torch.Tensor, spec: PreferenceSpec) -> torch.Tensor:
    """Losses (R,) of answers from their log pi/ref (R,), whether they are good (R,), and z0 ()."""
    beta = beta_of(spec, 0.1)
    good = spec.desirable * (1 - torch.sigmoid(beta * (ratios - distance)))
    bad = spec.undesirable * (1 - torch.sigmoid(beta * (distance - ratios)))
    return torch.where(wanted, good, bad)


def mismatched(batch: TrainBatch) -> TrainBatch | None:
    """Every row's prompt with the answer of the next row that is of another sample; none if there is no other.

    Rows are cut at the batch's own length: longer ones need not fit the model.
    """
    assert batch.owners is not None
    owners, carries = batch.owners.tolist(), batch.labels != IGNORED
    if len(set(owners)) < 2:
        return None
    count, width = batch.ids.shape
    ids, labels = torch.full_like(batch.ids, 0), torch.full_like(batch.labels, IGNORED)
    attention = torch.zeros_like(batch.attention)
    for at in range(count):
        other = next((at + n) % count for n in range(1, count) if owners[(at + n) % count] != owners[at])
        start, answer = int(carries[at].int().argmax()), batch.ids[other][carries[other]]
        stop = min(width, start + len(answer))
        ids[at, :start], ids[at, start:stop] = batch.ids[at, :start], answer[: stop - start]
        labels[at, start:stop], attention[at, :stop] = answer[: stop - start], True
    return msgspec.structs.replace(batch, ids=ids, labels=labels, attention=attention)


def _pairs(owners: list[int]) -> list[tuple[int, int]]:
    """Rows of the two answers of every sample that has two."""
    return [(at, at + 1) for at in range(len(owners) - 1) if owners[at] == owners[at + 1]]


def _pair_part(extra: dict[str, tuple[float, float]]) -> LossParts:
    return LossParts(tokens={}, sums={}, answers={}, means={}, extra=extra)
