"""The number of rows for a GPU, reckoned from two passes; the passes are done on the CPU here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.trainer.test_split import rows as rows  # the fixture: a model and five samples
from trainer.data.collate import TrainBatch, collate, collate_packs
from trainer.losses.sft import SftLoss
from trainer.model.omni import Omni
from trainer.probe import fitting_rows, widen
from trainer.spec import LossSpec


def measured(seen: list[TrainBatch]) -> Callable[[TrainBatch], int]:
    """A device that holds 1,000 bytes and 200 a row."""

    def measure(batch: TrainBatch) -> int:
        seen.append(batch)
        return 1000 + 200 * len(batch.ids)

    return measure


@pytest.mark.parametrize(
    ("free", "unit", "wanted"), [(2000, 1, 5), (2001, 1, 5), (1100, 1, 1), (0, 1, 1), (3000, 2, 10)]
)
def test_rows_fill_the_memory_and_not_more(free: int, unit: int, wanted: int, rows: tuple[Omni, list[Any]]) -> None:
    model, given = rows
    seen: list[TrainBatch] = []
    batch = collate(given, model.senses, 0)
    assert fitting_rows(batch, unit, 90, measured(seen), free) == wanted
    assert [len(part.ids) for part in seen] == [unit, 2 * unit]
    assert len(seen[-1].images) + len(seen[-1].mels) >= 3  # the rows with the most media


def test_what_did_not_fit_at_all_leaves_one_unit(rows: tuple[Omni, list[Any]]) -> None:
    model, given = rows
    assert fitting_rows(collate(given, model.senses, 0), 1, 90, lambda part: 0, 10**9) == 1


@pytest.mark.parametrize("packed", [False, True])
def test_widened_rows_can_be_trained_on(packed: bool, rows: tuple[Omni, list[Any]]) -> None:
    model, given = rows
    batch = collate_packs([given[:3], given[3:]], model.senses, 0) if packed else collate(given, model.senses, 0)
    wide = widen(batch, 120)
    assert wide.ids.shape == wide.labels.shape == (len(batch.ids), 120)
    assert bool(wide.attention[:, batch.ids.shape[1] :].all())
    loss, _ = SftLoss(LossSpec())(model, wide)
    assert torch.isfinite(loss)
    assert widen(wide, 100) is wide
