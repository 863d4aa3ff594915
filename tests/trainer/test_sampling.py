"""Choosing tokens: settings that no draw can follow and answers that are no numbers are refused."""

from __future__ import annotations

import pytest
import torch

from shardkit import SpecError
from trainer.generate.sampling import Decoding, chooser


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_said_and_not_drawn_from(temperature: float) -> None:
    choose = chooser(Decoding(temperature=temperature))
    assert choose(torch.tensor([[0.0, 50.0, 0.0]])).tolist() == [1]
    with pytest.raises(SpecError, match="diverged"):
        choose(torch.tensor([[0.0, float("nan"), 0.0]]))


@pytest.mark.parametrize("seed", [-1, 1 << 63, 10**23])
def test_a_seed_that_no_generator_takes_is_refused(seed: int) -> None:
    with pytest.raises(SpecError, match="seed is"):
        Decoding(seed=seed)
