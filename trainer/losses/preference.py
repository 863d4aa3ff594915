"""Losses on pairs of answers, one of them preferred: DPO, IPO, SimPO, ORPO.

Here: the log-probabilities of answers under policy and reference, the rules, what is reported.
Elsewhere: KTO, which needs no pairs (kto.py), the reference (reference.py), rows of answers (data/collate.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import torch
import torch.nn.functional as F

from trainer.data.collate import IGNORED, TrainBatch
from trainer.data.tokenise import Teaches
from trainer.losses.parts import LossParts, add_parts
from trainer.losses.reference import Reference
from trainer.losses.tokens import token_losses
from trainer.spec import LossSpec, PreferenceSpec


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """Log-probabilities (R,) float32 of answers, summed over their tokens, and their numbers of tokens (R,)."""

    sums: torch.Tensor
    counts: torch.Tensor

    @property
    def means(self) -> torch.Tensor:
        """Log-probabilities (R,) a token."""
        return self.sums / self.counts


class Pairs(msgspec.Struct, frozen=True, kw_only=True):
    """P pairs of answers to the same prompt under policy and reference; without a reference its values are 0."""

    chosen: Answers
    rejected: Answers
    reference_chosen: Answers
    reference_rejected: Answers


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """Losses (P,) of pairs, and the implicit rewards (P,) of their answers."""

    losses: torch.Tensor
    chosen: torch.Tensor
    rejected: torch.Tensor


Rule = Callable[[Pairs, PreferenceSpec], Judged]


def dpo(pairs: Pairs, spec: PreferenceSpec) -> Judged:
    """-log sigmoid(h), h = beta (log pi/ref of the chosen - log pi/ref of the rejected).

    Rafailov et al. 2023, arXiv:2305.18290, eq. 7; beta 0.1. With `label_smoothing` e, (1 - e) of it and e of
    -log sigmoid(-h): conservative DPO (Mitchell 2023, "A note on DPO with noisy preferences").
    """
    beta, smooth = beta_of(spec, 0.1), spec.label_smoothing
    chosen = beta * (pairs.chosen.sums - pairs.reference_chosen.sums)
    rejected = beta * (pairs.rejected.sums - pairs.reference_rejected.sums)
    margin = chosen - rejected
    losses = -(1 - smooth) * F.logsigmoid(margin) - smooth * F.logsigmoid(-margin)
    return Judged(losses=losses, chosen=chosen, rejected=rejected)


def ipo(pairs: Pairs, spec: PreferenceSpec) -> Judged:
    """(h - 1 / (2 tau))^2, h = log pi/ref of the chosen - log pi/ref of the rejected; tau is `beta`, 0.1.

    Azar et al. 2023, arXiv:2310.12036, eq. 17. Log-probabilities are means over an answer's tokens, as the authors
    told TRL: sums would ask the same distance of pairs of any length.
    """
    tau = beta_of(spec, 0.1)
    chosen = pairs.chosen.means - pairs.reference_chosen.means
    rejected = pairs.rejected.means - pairs.reference_rejected.means
    losses = (chosen - rejected - 1 / (2 * tau)).square()
    return Judged(losses=losses, chosen=tau * chosen, rejected=tau * rejected)


def simpo(pairs: Pairs, spec: PreferenceSpec) -> Judged:
    """-log sigmoid(beta (mean log pi of the chosen - mean log pi of the rejected) - gamma); no reference.

    Meng et al. 2024, arXiv:2405.14734, eq. 6; beta 2.0, gamma 1.0 (half of beta, in the range that they recommend).
    """
    beta = beta_of(spec, 2.0)
    chosen, rejected = beta * pairs.chosen.means, beta * pairs.rejected.means
    return Judged(losses=-F.logsigmoid(chosen - rejected - spec.gamma), chosen=chosen, rejected=rejected)


def orpo(pairs: Pairs, spec: PreferenceSpec) -> Judged:
    """-mean log pi of the chosen - lambda log sigmoid(log odds of the chosen - log odds of the rejected); no reference.

    Hong et al. 2024, arXiv:2403.07691, eqs. 6 and 7: odds = p / (1 - p), p the answer's mean token probability
    exp(mean log pi); lambda is `beta`, 0.1. Rewards are lambda times the mean log-probabilities.
    """
    weight = beta_of(spec, 0.1)
    chosen, rejected = pairs.chosen.means, pairs.rejected.means
    odds = (chosen - _log_of_rest(chosen)) - (rejected - _log_of_rest(rejected))
    losses = -chosen - weight * F.logsigmoid(odds)
    return Judged(losses=losses, chosen=weight * chosen, rejected=weight * rejected)


RULES: dict[str, Rule] = {"dpo": dpo, "ipo": ipo, "simpo": simpo, "orpo": orpo}
"""Rules by the name of their loss. A new one is a function and a row here."""

REFERENCED = ("dpo", "ipo", "kto")
"""Losses that compare the policy with what it was when the run began."""


class PreferenceLoss:
    """The mean over pairs of a rule's losses: a batch weighs as many as it has pairs."""

    teaches: Teaches = "pairs"
    rows_together = 2
    """Rows that a batch may not be cut between: a pair's."""

    def __init__(self, spec: LossSpec) -> None:
        self._rule = RULES[spec.name]
        self._spec = spec.preference or PreferenceSpec()
        self._name = spec.name
        self.reference: Reference | None = None

    def prepare(self, model: Any) -> None:
        """Keep the model's weights as the reference, where the rule has one; call it before any of them changes."""
        self.reference = Reference(model) if self._name in REFERENCED else None

    def passes(self, model: Any) -> tuple[tuple[str, Any, int], ...]:
        """See Loss: the reference, where the rule has one."""
        return (("the reference", model, 1),) if self._name in REFERENCED else ()

    def weight(self, batch: TrainBatch) -> torch.Tensor:
        """See Loss: its number of pairs."""
        return torch.tensor(float(len(batch.keys)), device=batch.ids.device)

    def __call__(self, model: torch.nn.Module, batch: TrainBatch) -> tuple[torch.Tensor, LossParts]:
        """See Loss."""
        judged = self._rule(self._pairs(model, batch), self._spec)
        return judged.losses.sum(), _parts(batch, judged)

    def _pairs(self, model: torch.nn.Module, batch: TrainBatch) -> Pairs:
        check_answers(batch, paired=True)
        kept = reference_answers(self.reference, model, batch) if self._name in REFERENCED else None
        own = score_answers(model, batch)
        none = Answers(sums=torch.zeros_like(own.sums), counts=own.counts)
        (chosen, rejected), (kept_chosen, kept_rejected) = _split(own), _split(kept or none)
        return Pairs(chosen=chosen, rejected=rejected, reference_chosen=kept_chosen, reference_rejected=kept_rejected)


def score_answers(model: torch.nn.Module, batch: TrainBatch) -> Answers:
    """The log-probability of every row's answer; its prompt counts for nothing."""
    counts = (batch.labels[:, 1:] != IGNORED).sum(dim=1)
    return Answers(sums=-token_losses(model, batch).sum(dim=1), counts=counts)


def reference_answers(reference: Reference | None, model: torch.nn.Module, batch: TrainBatch) -> Answers:
    """The same under the reference, without gradients. Call it before the policy's own forward pass."""
    if reference is None:
        raise ValueError("the loss has no reference yet; call prepare(model) before the model trains")
    with reference.of(model) as began:
        return score_answers(began, batch)


def check_answers(batch: TrainBatch, paired: bool) -> None:
    """Raises ValueError where a batch holds no answers to compare, or not two of every sample where it must."""
    if batch.wanted is None or batch.owners is None or (paired and len(batch.wanted) != 2 * len(batch.keys)):
        raise ValueError("the batch holds no pairs of answers; encode samples with a Speech that teaches `pairs`")


def beta_of(spec: PreferenceSpec, default: float) -> float:
    """The spec's beta, or the paper's."""
    return default if spec.beta is None else spec.beta


def _split(answers: Answers) -> tuple[Answers, Answers]:
    """Chosen and rejected of rows that alternate."""
    first, second = (Answers(sums=answers.sums[at::2], counts=answers.counts[at::2]) for at in (0, 1))
    return first, second


def _log_of_rest(logs: torch.Tensor) -> torch.Tensor:
    """log(1 - exp(x)) of x < 0, exact near 0 where the plain form loses all digits."""
    logs = logs.clamp(max=-1e-7)
    return torch.where(logs > -0.6931, torch.log(-torch.expm1(logs)), torch.log1p(-torch.exp(logs)))


def _parts(batch: TrainBatch, judged: Judged) -> LossParts:
    """The loss a pair, by modality and source; rewards, their margin, and how often the better answer has more."""
    losses = judged.losses.detach().double().tolist()
    chosen, rejected = judged.chosen.detach().double().tolist(), judged.rejected.detach().double().tolist()
    sources = batch.sources or ("",) * len(losses)
    parts = []
    for kind, source, loss, good, bad in zip(batch.kinds, sources, losses, chosen, rejected, strict=True):
        extra = {
            "reward_margin": (good - bad, 1.0),
            "reward_accuracy": (float(good > bad), 1.0),
            "chosen_reward": (good, 1.0),
            "rejected_reward": (bad, 1.0),
        }
        parts.append(one_part(kind, source, loss, extra))
    return add_parts(parts)


def one_part(kind: str, source: str, loss: float, extra: dict[str, tuple[float, float]]) -> LossParts:
    """The part of one pair, or of one answer: it counts once, however many tokens it has."""
    return LossParts(
        tokens={kind: 1},
        sums={kind: loss},
        answers={kind: 1},
        means={kind: loss},
        source_tokens={source: 1} if source else {},
        source_sums={source: loss} if source else {},
        extra=extra,
    )
