"""Attention among the tokens of one document only, registered once with transformers as `documents`.

Here: choosing a model's attention; the marks of documents in packed rows; attention within each of them, by torch's
varlen kernel on CUDA in half precision, else document by document.
Elsewhere: masks of rows that hold one sample each (transformers' own), the trial before a run packs (isolation.py).

With a mask, every token of a row is compared with every other and most of it is thrown away; document by document the
work is the sum of the squared lengths in place of the square of their sum, and no mask is made.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from shardkit import SpecError

NAME = "documents"
UNKNOWN = ("softcap", "s_aux", "position_bias", "cache")
"""What some models add to their attention and neither way of ours computes."""


class Documents(NamedTuple):
    """Where documents (and runs of padding) begin in the rows laid end to end, and the end: `cu_seqlens`, int32.

    `longest` is no less than the longest of them.
    """

    starts: torch.Tensor
    longest: int


def choose_attention(language: Any, name: str) -> None:
    """Have a language model attend in the way of this name; `auto` leaves it to transformers. Raises SpecError."""
    if name == "auto":
        return
    register_documents()
    try:
        language.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        raise SpecError(f"model.language.attention: {' '.join(str(error).split())[:200]}") from None
    found = language.config._attn_implementation
    if found != name:
        raise SpecError(f"model.language.attention: this model attends by {found}, and not by {name}; take `auto`")


def register_documents() -> None:
    """Make `documents` a name that transformers knows; rows that are not packed go through its own SDPA."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def packed_inputs(language: Any, positions_BT: torch.Tensor) -> dict[str, Any]:
    """What tells a language model who sees whom in packed rows, whose positions begin at 0 with every document."""
    told = {"attention_mask": None, "position_ids": positions_BT}
    if getattr(getattr(language, "config", None), "_attn_implementation", "") != NAME:
        return told  # transformers keeps runs of positions apart in its own kinds of attention, if no mask is given
    # a mask of four axes is handed on as it is: this one is never read, and keeps one of T x T from being made
    unread = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=positions_BT.device)
    return told | {"attention_mask": unread, NAME: find_documents(positions_BT)}


def find_documents(positions_BT: torch.Tensor) -> Documents:
    """The documents of packed rows; every row begins one."""
    begins = positions_BT == 0
    begins[:, 0] = True
    starts = begins.flatten().nonzero().flatten()
    starts = F.pad(starts, (0, 1), value=begins.numel()).to(torch.int32)
    return Documents(starts, positions_BT.shape[1])


def attend(  # noqa: PLR0913 -- the arguments are those of transformers' interface
    module: torch.nn.Module,
    query_BHTD: torch.Tensor,
    key_BHTD: torch.Tensor,
    value_BHTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **given: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers calls it: (B, T, heads, D). Its interface fixes the open arguments.

    Raises SpecError where the model's attention has what is not computed here.
    """
    documents: Documents | None = given.pop(NAME, None)
    if documents is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        output, _ = sdpa_attention_forward(
            module, query_BHTD, key_BHTD, value_BHTD, attention_mask, dropout=dropout, scaling=scaling, **given
        )
        return output, None
    _refuse_unknown(given, dropout)
    window = given.get("sliding_window") or 0
    rows = [states.transpose(1, 2).flatten(0, 1) for states in (query_BHTD, key_BHTD, value_BHTD)]  # (B x T, H, D)
    way = _by_kernel if _has_kernel(query_BHTD) else _one_by_one
    return way(rows[0], rows[1], rows[2], documents, scaling, window).unflatten(0, (len(query_BHTD), -1)), None


def _refuse_unknown(given: dict[str, Any], dropout: float) -> None:
    odd = [name for name in UNKNOWN if given.get(name) is not None] + ["attention_dropout"] * (dropout > 0)
    if odd:
        raise SpecError(
            f"model.language.attention: found {NAME} with a model whose attention has {odd[0]}, which is not computed "
            f"in it; set model.language.attention=sdpa, or eager where that is refused too"
        )


def _has_kernel(query: torch.Tensor) -> bool:
    """Whether torch has its varlen kernel for this: on CUDA, in half precision, heads of at most 256."""
    if not query.is_cuda or query.dtype not in (torch.bfloat16, torch.float16) or query.shape[-1] > 256:
        return False
    try:
        from torch.nn.attention import varlen
    except ImportError:
        return False
    return hasattr(varlen, "varlen_attn")


def _by_kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, documents: Documents, scale: float | None, window: int
) -> torch.Tensor:
    """All documents in one call: (tokens, heads, D)."""
    from torch.nn.attention.varlen import varlen_attn

    key, value = (_for_all_heads(states, query) for states in (key, value))
    output = varlen_attn(
        query, key, value, documents.starts, documents.starts, documents.longest, documents.longest,
        scale=scale, window_size=(window - 1 if window else -1, 0),
    )  # fmt: skip
    assert isinstance(output, torch.Tensor)  # a pair only where its sums are asked for
    return output


@torch.compiler.disable
def _one_by_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, documents: Documents, scale: float | None, window: int
) -> torch.Tensor:
    """Document by document, (tokens, heads, D); not compiled, or every new set of lengths would compile anew."""
    key, value = (_for_all_heads(states, query) for states in (key, value))
    found = []
    for begin, end in pairwise(documents.starts.tolist()):
        own = [states[begin:end].transpose(0, 1)[None] for states in (query, key, value)]
        near = _band(end - begin, window, query.device) if 0 < window < end - begin else None
        mixed = F.scaled_dot_product_attention(
            own[0], own[1], own[2], attn_mask=near, is_causal=near is None, scale=scale
        )
        found.append(mixed[0].transpose(0, 1))
    return torch.cat(found)


def _band(length: int, window: int, device: torch.device) -> torch.Tensor:
    """(length, length) bool: each token, and the `window` - 1 before it."""
    at = torch.arange(length, device=device)
    back = at[:, None] - at[None, :]
    return (back >= 0) & (back < window)


def _for_all_heads(states: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Keys or values repeated for every head of the queries that shares them."""
    return states.repeat_interleave(query.shape[1] // states.shape[1], dim=1)
