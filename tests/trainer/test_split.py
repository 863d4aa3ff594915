"""A batch in two: every token, image and sound is in one of the parts, beside its sample."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from trainer.data.collate import TrainBatch, collate, collate_packs
from trainer.data.media import Senses
from trainer.data.reading import encode_item
from trainer.data.split import cut_batch, split_batch
from trainer.data.tokenise import Speech
from trainer.losses.sft import SftLoss
from trainer.model.omni import Omni
from trainer.spec import LossSpec, ModelSpec


@pytest.fixture
def rows(speech: Speech, tiny_spec: ModelSpec, item: Callable[..., Any]) -> tuple[Omni, list[Any]]:
    torch.manual_seed(0)
    model = Omni(tiny_spec, speech)
    given = []
    for at, (images, sounds) in enumerate([(1, 0), (0, 0), (0, 1), (2, 1), (0, 0)]):
        turns = (("user", "<|image|>" * images + "<|audio|>" * sounds + "what " * at), ("assistant", "red " * (at + 1)))
        made = item(*turns, images=images, sounds=sounds, key=f"{at:02x}")
        given.append((made.key, encode_item(made, speech, model.senses, 200)))
    return model, given


@pytest.mark.parametrize("packed", [False, True])
def test_the_losses_of_the_parts_add_up(packed: bool, rows: tuple[Omni, list[Any]]) -> None:
    model, given = rows
    batch = whole_batch(given, model.senses, packed)
    loss = SftLoss(LossSpec())
    wanted, _ = loss(model, batch)
    parts = [batch]
    while len(parts) < len(given):
        at = max(range(len(parts)), key=lambda number: len(parts[number].keys))
        halves = split_batch(parts[at])
        assert halves
        parts[at : at + 1] = halves
        assert [key for part in parts for key in part.keys] == [key for key, _ in given]
        assert sum(loss.weight(part) for part in parts) == loss.weight(batch)
        assert sum(loss(model, part)[0].item() for part in parts) == pytest.approx(wanted.item(), rel=1e-6)
    assert all(split_batch(part) is None for part in parts)
    assert [len(part.images) for part in parts] == [1, 0, 0, 2, 0]
    assert [len(part.mels) for part in parts] == [0, 0, 1, 1, 0]
    assert [part.kinds for part in parts] == [(kind,) for kind in batch.kinds]


def whole_batch(given: list[Any], senses: Senses, packed: bool) -> TrainBatch:
    return collate_packs([given[:3], given[3:]], senses, 0) if packed else collate(given, senses, 0)


def test_parts_have_at_most_so_many_rows_and_no_needless_padding(rows: tuple[Omni, list[Any]]) -> None:
    model, given = rows
    batch = collate(given, model.senses, 0)
    parts = list(cut_batch(batch, 2))
    assert [len(part.ids) for part in parts] == [2, 2, 1]
    assert all(bool(part.attention.any(dim=0).all()) for part in parts)
    assert list(cut_batch(batch, 9)) == [batch]


def test_rows_that_belong_together_stay_together(rows: tuple[Omni, list[Any]]) -> None:
    model, given = rows
    batch = collate(given[:4], model.senses, 0)
    halves = split_batch(batch, unit=2)
    assert halves and [len(half.ids) for half in halves] == [2, 2]
    assert split_batch(halves[0], unit=2) is None
