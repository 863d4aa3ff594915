"""Answers token by token: prompts of a batch go on until a stop token or a limit.

Here: decoding with a cache over prompts of different lengths, greedy or by a given choice.
Elsewhere: prompts and their media (data), what is made of the answers (eval, generate).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from trainer.data.collate import TrainBatch
from trainer.model.growing import note_tokens
from trainer.model.omni import Omni
from trainer.model.table import Model

Choose = Callable[[torch.Tensor], torch.Tensor]
"""Logits (B, vocabulary) float32 of the next token to its ids (B,)."""


def greedy(model: Model, batch: TrainBatch, max_new_tokens: int, stop_ids: Collection[int]) -> list[list[int]]:
    """The likeliest next token, again and again: the new ids of every row, without the stop token that ended it.

    `batch` holds prompts on the model's device, a row each, padded on the right as collate does.
    """
    return decode(model, batch, max_new_tokens, stop_ids, lambda logits: logits.argmax(dim=-1))


def decode(
    model: Model, batch: TrainBatch, max_new_tokens: int, stop_ids: Collection[int], choose: Choose
) -> list[list[int]]:
    """New ids of every row as `choose` takes them from the logits; see greedy.

    The model is put in eval mode meanwhile; no gradients. It is entered by `embed`, `words` and `proceed` only, which
    is where a model that is cut up over ranks puts itself together. Raises ValueError for packed rows.
    """
    if batch.segments is not None:
        raise ValueError("the batch is packed; to go on with prompts, give each a row of its own")
    answers: list[list[int]] = [[] for _ in batch.keys]
    with torch.no_grad(), evaluating(model), uncompiled(model):
        if not isinstance(model, Omni):
            return model.go_on(batch, max_new_tokens, stop_ids, choose)
        embeds = model.embed(batch)
        lengths = batch.attention.sum(dim=1).tolist()
        for rows in _together(model.language, lengths):
            part, mask = align_left([embeds[at, : lengths[at]] for at in rows])
            found = _continue(model, part, mask, max_new_tokens, set(stop_ids), choose)
            for at, ids in zip(rows, found, strict=True):
                answers[at] = ids
    return answers


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while; afterwards every module has the mode that it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def uncompiled(model: nn.Module) -> Iterator[None]:
    """Compiled parts run as they are written: every new token is another shape, which would be compiled anew."""
    compiled = any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules())
    with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        yield


def align_left(rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (T_i, D) as one tensor (B, T, D), padded in front, so that all end together; and where they are (B, T)."""
    longest = max(len(row) for row in rows)
    embeds = torch.stack([nn.functional.pad(row, (0, 0, longest - len(row), 0)) for row in rows])
    starts = torch.tensor([longest - len(row) for row in rows], device=embeds.device)
    return embeds, torch.arange(longest, device=embeds.device)[None, :] >= starts[:, None]


def _together(language: Any, lengths: list[int]) -> list[list[int]]:
    """Rows that may share a batch: all, or one each where the model takes no positions and would count the padding."""
    takes = inspect.signature(getattr(language, "get_base_model", lambda: language)().forward).parameters
    if "position_ids" in takes or len(set(lengths)) == 1:
        return [list(range(len(lengths)))]
    return [[at] for at in range(len(lengths))]


def _continue(
    model: Omni, embeds: torch.Tensor, mask: torch.Tensor, most: int, stop_ids: set[int], choose: Choose
) -> list[list[int]]:
    answers: list[list[int]] = [[] for _ in range(len(embeds))]
    going = [True] * len(embeds)
    cache, shown = None, embeds
    for _ in range(most):
        output = _forward(model, shown, mask, cache)
        cache = getattr(output, "past_key_values", None)
        chosen = choose(output.logits[:, -1].float())
        if not note_tokens(answers, going, chosen.tolist(), stop_ids):
            break
        newest = model.words(chosen[:, None]).to(embeds.dtype)
        shown = newest if cache is not None else torch.cat([shown, newest], dim=1)
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return answers


def _forward(model: Omni, embeds: torch.Tensor, mask: torch.Tensor, cache: Any) -> Any:
    """The language model on its newest tokens, placed as if nothing were padded; without padding it needs no places."""
    fields: dict[str, Any] = {"attention_mask": mask, "use_cache": True}
    if cache is not None:
        fields["past_key_values"] = cache
    if not bool(mask.all()):
        positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
        fields["position_ids"] = positions[:, -embeds.shape[1] :]
    return model.proceed(inputs_embeds=embeds, **fields)
