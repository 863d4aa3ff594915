"""Whether a language model keeps packed samples apart: tried on a few tokens before a run packs.

Here: the trial.
Elsewhere: the marks of a packed batch (data/collate.py), the forward pass (omni.py).
"""

from __future__ import annotations

from typing import Any

import torch

from shardkit import SpecError
from trainer.model.attention import packed_inputs

LENGTHS = (5, 4)
TOLERANCE = 1e-3


def check_isolation(language: Any) -> None:
    """Refuse a model whose second packed sample sees the first, or is placed behind it.

    Attention keeps runs of positions apart; recurrent layers, convolutions over time and learned biases need not.
    Raises SpecError.
    """
    was_training = language.training
    language.eval()
    try:
        with torch.no_grad():
            own = _logits(language, (2,))
            told_apart = [_logits(language, (first, 2))[-LENGTHS[1] :] for first in (1, 3)]
    except TypeError as error:
        raise SpecError(
            f"data.pack: this language model takes no positions ({error}); train it without data.pack"
        ) from None
    finally:
        language.train(was_training)
    scale = float(own.abs().max()) or 1.0
    worst = max(float((found - own).abs().max()) for found in told_apart) / scale
    if not worst <= TOLERANCE:
        raise SpecError(
            f"data.pack: in this language model a packed sample depends on the one before it (its logits move by "
            f"{worst:.1%}); train it without data.pack"
        )


def _logits(language: Any, firsts: tuple[int, ...]) -> torch.Tensor:
    """Logits (T, vocabulary) of one row of runs, each of the tokens that follow its first one."""
    device = language.get_input_embeddings().weight.device
    lengths = LENGTHS[-len(firsts) :]
    ids = [first + at for first, length in zip(firsts, lengths, strict=True) for at in range(length)]
    positions = [at for length in lengths for at in range(length)]
    embeds = language.get_input_embeddings()(torch.tensor([ids], device=device))
    output = language(
        inputs_embeds=embeds,
        use_cache=False,
        **packed_inputs(language, torch.tensor([positions], device=device)),
    )
    logits: torch.Tensor = output.logits[0].float()
    return logits
