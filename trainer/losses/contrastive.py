"""Contrastive alignment: a sample's media and its answer are to be neighbours, among the others of the batch.

Here: symmetric InfoNCE (van den Oord 2018; both ways, as in CLIP, Radford 2021), gathering over ranks, the loss.
Elsewhere: the vectors (model/pooling.py, omni.py, fusion.py).

Others are those of one part of a step: `accumulate` makes more parts with fewer others each. Of several processes, all
are gathered where gradients are (held-out figures are each rank's own), which then must do equally many parts: see
`gathers`. An answer that says the same as a sample's own is none of its others: it would be pushed away from itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from trainer.data.collate import TrainBatch
from trainer.data.tokenise import Teaches
from trainer.losses.parts import LossParts, add_parts, parts_of
from trainer.model.pooling import Pairs, paired
from trainer.spec import HeadsSpec, LossSpec

SHARPEST = 100.0
"""The largest inverse temperature that may be learnt, as CLIP has it."""
NOTHING = 1e-12
"""The weight of a batch without pairs: added to any number of them it is lost, and alone it makes 0 of 0."""


class Contrast(NamedTuple):
    """Losses (P,) of this rank's pairs, the mean of both ways; and 0, 0.5 or 1: how many ways find their own first."""

    losses: torch.Tensor
    right: torch.Tensor


class ContrastiveLoss:
    """InfoNCE of pooled media and pooled answers; a pair counts once. Samples without media have no part in it."""

    teaches: Teaches = "answers"
    gathers = True
    rows_together = 0  # a part that is cut has fewer others

    def __init__(self, spec: LossSpec) -> None:
        self._heads = spec.heads or HeadsSpec()

    def weight(self, batch: TrainBatch) -> torch.Tensor:
        """See Loss: the number of pairs."""
        return number_of_pairs(batch)

    def __call__(self, model: Any, batch: TrainBatch) -> tuple[torch.Tensor, LossParts]:
        """See Loss."""
        pairs: Pairs = model.aligned(batch)
        found = contrast(pairs, self._heads.temperature)
        counts, totals = [0] * len(batch.keys), [0.0] * len(batch.keys)
        for at, loss in zip(pairs.samples.tolist(), found.losses.detach().double().tolist(), strict=True):
            counts[at], totals[at] = 1, loss
        parts = add_parts([parts_of(batch.kinds, batch.sources, counts, totals), told(found)])
        return found.losses.sum() + pairs.touched, parts


def contrast(pairs: Pairs, temperature: float) -> Contrast:
    """Losses of this rank's pairs among all ranks', where these are gathered, else among its own."""
    media, text = F.normalize(pairs.media.float(), dim=-1), F.normalize(pairs.text.float(), dim=-1)
    others = gather(media, text, pairs.answers)
    scale = (pairs.sharpness / temperature).clamp(max=max(SHARPEST, 1.0 / temperature))
    start, count = others.start, len(media)
    own = torch.arange(count, device=media.device) + start
    same = pairs.answers[:, None] == others.answers[None, :]
    same[torch.arange(count, device=media.device), own] = False
    ways = [
        (scale * asking.float() @ given.float().T).masked_fill(same, float("-inf"))
        for asking, given in ((media, others.text), (text, others.media))
    ]
    losses = torch.stack([F.cross_entropy(logits, own, reduction="none") for logits in ways])
    first = torch.stack([_largest(logits) == own for logits in ways])
    return Contrast(losses.mean(dim=0), first.float().mean(dim=0))


def _largest(logits_PN: torch.Tensor) -> torch.Tensor:
    return logits_PN.argmax(dim=1) if logits_PN.numel() else logits_PN.new_zeros(0, dtype=torch.int64)


class Gathered(NamedTuple):
    """Pairs of all ranks, in the order of ranks; this rank's begin at `start`."""

    media: torch.Tensor
    text: torch.Tensor
    answers: torch.Tensor
    start: int


def gather(media: torch.Tensor, text: torch.Tensor, answers: torch.Tensor) -> Gathered:
    """Pairs of all ranks, with gradients to each rank's own; ranks may have different numbers of them, or none.

    Only where there are several processes and gradients are wanted; else this rank's alone.
    """
    import torch.distributed as dist

    if not (torch.is_grad_enabled() and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return Gathered(media, text, answers, 0)
    number = torch.tensor([len(media)], device=media.device)
    numbers = [torch.zeros_like(number) for _ in range(dist.get_world_size())]
    dist.all_gather(numbers, number)
    counts = [int(each) for each in numbers]
    most = max(counts)
    own = _padded(torch.cat([media, text], dim=1), most)
    # all ranks take part backward too, in one message: also one whose samples have no media, and so no gradient
    joined = _Gather.apply(own if own.requires_grad else own.requires_grad_(), counts).chunk(2, dim=1)
    rows = [torch.zeros((most,), dtype=answers.dtype, device=answers.device) for _ in counts]
    dist.all_gather(rows, _padded(answers[:, None], most)[:, 0].contiguous())
    together = torch.cat([row[:count] for row, count in zip(rows, counts, strict=True)])
    return Gathered(joined[0], joined[1], together, sum(counts[: dist.get_rank()]))


class _Gather(torch.autograd.Function):
    """Rows of all ranks; backward, every rank gets the sum of what all ranks' losses say of its own rows."""

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor, counts: list[int]) -> torch.Tensor:
        import torch.distributed as dist

        ctx.counts, ctx.shape = counts, own.shape
        rows = [torch.zeros_like(own) for _ in counts]
        dist.all_gather(rows, own.contiguous())
        return torch.cat([row[:count] for row, count in zip(rows, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        import torch.distributed as dist

        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        start, rank = sum(ctx.counts[: dist.get_rank()]), dist.get_rank()
        return _padded(total[start : start + ctx.counts[rank]], ctx.shape[0]), None


def _padded(rows: torch.Tensor, most: int) -> torch.Tensor:
    return F.pad(rows, (0, 0, 0, most - len(rows)))


def number_of_pairs(batch: TrainBatch) -> torch.Tensor:
    """How many samples () of a batch have media and an answer; NOTHING in place of none."""
    has = torch.tensor([kind != "text" for kind in batch.kinds], device=batch.ids.device)
    number = torch.tensor(float(len(paired(batch, has))), device=batch.ids.device)
    return number.clamp(min=NOTHING)


def told(found: Contrast) -> LossParts:
    """What a contrast tells: the mean loss of a pair, and how many of them are right."""
    count = float(len(found.losses))
    extra = {
        "contrastive_loss": (float(found.losses.detach().double().sum()), count),
        "contrastive_accuracy": (float(found.right.double().sum()), count),
    }
    return LossParts(tokens={}, sums={}, answers={}, means={}, extra=extra if count else {})
