"""One rule says which checkpoint is best, wherever it is asked for."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shardkit import SpecError
from tests.trainer.test_checkpoint import PROGRESS, Small, stepped
from trainer.checkpoint import (
    best_checkpoint,
    by_loss,
    choose_checkpoint,
    held_out_loss,
    list_checkpoints,
    prune_checkpoints,
    save_checkpoint,
    step_of,
)
from trainer.data.tokenise import Speech
from trainer.start import find_weights


def measured(folder: Path, speech: Speech, losses: dict[int, float | None]) -> Path:
    """Checkpoints of a run with these held-out losses in themselves; gives their folder."""
    model = Small()
    optimizer = stepped(model)
    for step, held_out in losses.items():
        progress = msgspec.structs.replace(PROGRESS, step=step, held_out=held_out)
        save_checkpoint(folder / "checkpoints", progress, model, optimizer, speech)
    return folder / "checkpoints"


def best_step(folder: Path) -> int:
    best = best_checkpoint(folder)
    assert best
    return step_of(best)


def test_of_equal_losses_the_one_of_fewer_steps_is_best_and_one_that_is_not_finite_is_none(
    tmp_path: Path, speech: Speech
) -> None:
    folder = measured(tmp_path, speech, {1: float("nan"), 2: 0.5, 3: 0.5, 4: 0.7, 5: None})
    assert best_step(folder) == 2
    assert [step_of(path) for path in by_loss(list_checkpoints(folder))] == [2, 3, 4]
    assert find_weights(str(tmp_path)) == folder / "step-00000002"
    assert choose_checkpoint(folder, "best", pytest.fail) == folder / "step-00000002"
    assert choose_checkpoint(folder, "newest", pytest.fail) == folder / "step-00000005"
    with pytest.raises(SpecError, match=r"is no whole checkpoint .*the newest whole one is .*step-00000005"):
        choose_checkpoint(folder, folder / "step-00000009", pytest.fail)
    prune_checkpoints(folder, 1, folder / "step-00000005", best=1)
    assert [step_of(path) for path in list_checkpoints(folder)] == [2, 5]


def test_what_was_measured_of_a_step_later_counts_before_what_its_checkpoint_holds(
    tmp_path: Path, speech: Speech
) -> None:
    folder = measured(tmp_path, speech, {1: 0.4, 2: 0.6, 3: None})
    lines = ('{"step": 0, "loss": 0.1}', '{"step": 3, "loss": 0.2}', '{"step": 2, "loss": null}')
    (tmp_path / "eval.jsonl").write_text("".join(f"{line}\n" for line in lines))
    assert best_step(folder) == 3
    assert held_out_loss(folder / "step-00000003") == 0.2 and held_out_loss(folder / "step-00000001") == 0.4
    (tmp_path / "eval.jsonl").write_text('{"step": 3, "loss": NaN}\n')
    assert best_step(folder) == 1


def test_where_nothing_was_measured_the_newest_whole_one_is_best(tmp_path: Path, speech: Speech) -> None:
    folder = measured(tmp_path, speech, {1: None, 2: None})
    assert best_step(folder) == 2
    (folder / "step-00000002" / "model.safetensors").write_bytes(b"torn")
    assert best_step(folder) == 1
    assert best_checkpoint(tmp_path / "none") is None
