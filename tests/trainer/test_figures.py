"""Figures of a step against sums by hand, several steps as one line, and waiting over a window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from tests.trainer.batches import batch_of
from tests.trainer.datasets import tiny_run
from trainer.data.collate import collate, collate_packs
from trainer.data.media import Senses
from trainer.data.tokenise import Speech
from trainer.figures import by_part, peak_memory, row_figures, use_figures
from trainer.flops import Arithmetic
from trainer.loop import train
from trainer.losses.parts import add_parts, parts_of
from trainer.metrics import read_metrics
from trainer.metrics.window import Waiting, join
from trainer.spec import ModelSpec


def test_padding_and_pack_fill_are_shares_of_the_rows() -> None:
    found = row_figures([batch_of([5, 3, 2]), batch_of([4])], 8)
    assert (found["step_tokens"], found["step_samples"]) == (14, 4)
    assert found["padding"] == pytest.approx(1 - 14 / (3 * 5 + 4))
    assert found["pack_fill"] == pytest.approx(14 / (4 * 8))
    assert "pack_fill" not in row_figures([batch_of([5])], None)


def test_packed_samples_count_by_their_keys_not_by_rows() -> None:
    packed = msgspec.structs.replace(batch_of([8]), keys=("a", "b", "c"))
    assert row_figures([packed], 8)["step_samples"] == 3


def test_utilisation_is_operations_by_time_and_peak() -> None:
    assert use_figures(3e12, 2.0, 10.0) == {"tflops": 1.5, "mfu": pytest.approx(0.15)}
    assert use_figures(3e12, 2.0, None) == {"tflops": 1.5}


def test_memory_of_the_process_is_in_bytes() -> None:
    assert 50_000_000 < peak_memory(torch.device("cpu")) < 500_000_000_000


def test_losses_stand_by_modality_and_by_source() -> None:
    one = parts_of(("image", "text"), ("screens", "notes"), [2, 4], [3.0, 2.0])
    two = parts_of(("image", "text"), ("photos", "notes"), [2, 0], [1.0, 0.0])
    found = by_part(add_parts([one, two]))
    assert found["loss_by_modality"] == {"image": 1.0, "text": 0.5}
    assert found["loss_by_source"] == {"notes": 0.5, "photos": 0.5, "screens": 1.5}
    assert found["source_tokens"] == {"screens": 2, "notes": 4, "photos": 2}


def line(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "seconds": 1.0, "data_wait": 0.0, **more}


def test_steps_join_as_sums_means_and_last_values() -> None:
    joined = join([
        line(1, loss=2.0, tokens=10, tokens_per_second=10.0, left_out={"deaf": 1}, damaged=["a/1"],
             loss_by_modality={"text": 1.0}, answer_tokens={"text": 1}),
        line(2, loss=4.0, tokens=50, tokens_per_second=40.0, left_out={"deaf": 2, "blind": 1},
             seconds=3.0, data_wait=0.4, loss_by_modality={"text": 5.0, "image": 2.0},
             answer_tokens={"text": 3, "image": 7}),
    ])  # fmt: skip
    assert joined == {
        "step": 2, "loss": 3.0, "tokens": 50, "seconds": 4.0, "tokens_per_second": 32.5,
        "data_wait": pytest.approx(0.3), "left_out": {"deaf": 3, "blind": 1}, "damaged": ["a/1"],
        "loss_by_modality": {"text": 4.0, "image": 2.0},
        "answer_tokens": {"text": 4, "image": 7}, "joined": 2,
    }  # fmt: skip


def test_one_step_stays_as_it_is_and_numbers_on_a_device_are_fetched() -> None:
    assert join([line(1, loss=torch.tensor(2.0), parts={"a": torch.tensor(1)})]) == line(1, loss=2.0, parts={"a": 1})


def test_waiting_is_a_mean_over_time_and_a_nearest_rank() -> None:
    waiting = Waiting(100)
    for at in range(300):
        found = waiting.add(line(at, data_wait=(at % 100) / 100, seconds=2.0))
    assert found["data_wait_mean"] == pytest.approx(0.495)
    assert found["data_wait_p99"] == pytest.approx(0.98)
    first = Waiting(5)
    assert first.add(line(1, data_wait=0.25)) == {"data_wait_mean": 0.25, "data_wait_p99": 0.25}


def test_lines_of_a_packed_run_say_how_full_it_is_and_tensorboard_says_the_same(
    dataset: Path, tmp_path: Path, tiny_spec: ModelSpec
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data = {"max_tokens": 128, "held_out": 0.2, "pack": {"tokens": 160, "lanes": 2}}
    spec = tiny_run(tiny_spec, data=data, batch_size=2, metrics={"tensorboard": True, "peak_tflops": 0.001})
    for steps in (4, 6):  # the second goes on from the fourth step
        train(msgspec.structs.replace(spec, steps=steps), str(dataset), tmp_path, report=lambda event: None)
    lines = read_metrics(tmp_path)
    assert [each["step"] for each in lines] == [1, 2, 3, 4, 5, 6]
    for each in lines:
        assert each["pack_fill"] == pytest.approx(each["step_tokens"] / 320)
        assert 0 <= each["padding"] < 1 and each["peak_memory_bytes"] > 0 and each["samples_per_second"] > 0
        assert each["mfu"] == pytest.approx(each["tflops"] / 0.001)
        assert set(each["loss_by_source"]) <= {"notes", "screens", "tones"}
        weighted = sum(each["loss_by_source"][name] * count for name, count in each["source_tokens"].items())
        assert weighted / sum(each["source_tokens"].values()) == pytest.approx(each["loss"], rel=1e-4)
    assert [each["step"] for each in lines if "checkpoint_stall" in each] == [3]  # the step behind a checkpoint
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    for name in ("loss", "pack_fill", "learning_rate"):
        shown = [(event.step, event.value) for event in events.Scalars(name)]
        assert shown == [(each["step"], pytest.approx(each[name], rel=1e-5)) for each in lines]
    assert (tmp_path / "metrics.html").is_file()


def test_a_batch_knows_its_lengths_as_its_attention_says_them(
    item: Callable[..., Any], speech: Speech, tiny_spec: ModelSpec
) -> None:
    senses = Senses()
    rows = [
        (text, speech.encode(item(("user", text), ("assistant", "red")).sample, (), senses, 64))
        for text in ("colour?", "What is the colour?")
    ]
    for batch in (collate(rows, senses, speech.pad_id), collate_packs([rows], senses, speech.pad_id)):
        lengths = tuple(batch.per_sample(batch.attention.to(torch.int64)).tolist())
        assert batch.lengths == lengths and batch.num_tokens == int(batch.attention.sum())
        unknown = msgspec.structs.replace(batch, lengths=())
        arithmetic = Arithmetic(per_token=3.0, per_pair=2.0)
        assert arithmetic.of([batch]) == arithmetic.of([unknown]) > 0
        assert batch.sources == ("s", "s")
