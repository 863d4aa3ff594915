"""Every step stands once in each kind of metrics, whatever was interrupted; the plot is a picture, the page whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from shardkit import SpecError
from tests.trainer.pages import Parsed
from trainer.metrics import Metrics, MetricsFile, plot_loss, read_evaluations, read_metrics, write_page
from trainer.metrics.chart import Series, make_chart, round_ticks, thin
from trainer.spec import MetricsSpec


def entry(step: int) -> dict[str, object]:
    return {"step": step, "loss": 5.0 / step, "loss_by_modality": {"image": 1.0, "text": 2.0}}


def test_a_resume_cuts_lines_behind_its_checkpoint_and_torn_ones(tmp_path: Path) -> None:
    first = MetricsFile(tmp_path, 0)
    for step in range(1, 6):
        first.write(entry(step))
    first.close()
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-7])  # torn in the middle of step 5
    again = MetricsFile(tmp_path, 3)
    again.write(entry(4))
    again.close()
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4]


def test_a_line_is_in_the_file_as_soon_as_it_is_written(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path, 0)
    metrics.write(entry(1))
    assert [line["step"] for line in read_metrics(tmp_path)] == [1]
    metrics.close()


def test_plot_is_a_whole_png(tmp_path: Path) -> None:
    assert plot_loss(tmp_path) is None
    metrics = MetricsFile(tmp_path, 0)
    for step in range(1, 4):
        metrics.write(entry(step))
    metrics.close()
    path = plot_loss(tmp_path)
    assert path == tmp_path / "loss.png"
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tb"))
    events.Reload()
    return {tag: [(e.step, round(e.value, 5)) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_holds_every_step_once_after_a_resume(tmp_path: Path) -> None:
    spec = MetricsSpec(tensorboard=True)
    first = Metrics(tmp_path, 0, spec)
    for step in range(1, 6):
        first.write({"step": step, "loss": 99.0, "name": "x", "loss_by_modality": {"image": 1.0}})
    first.write_evaluation({"step": 4, "loss": 9.0, "by_modality": {"image": 0.5}})
    first.close()
    again = Metrics(tmp_path, 3, spec)
    for step in (4, 5):
        again.write({"step": step, "loss": 1.0, "loss_by_modality": {"image": 2.0}})
    again.write_evaluation({"step": 4, "loss": 7.0, "by_modality": {"image": 0.25}})
    again.close()
    found = scalars(tmp_path)
    assert found["loss"] == [(1, 99.0), (2, 99.0), (3, 99.0), (4, 1.0), (5, 1.0)]
    assert found["loss_by_modality/image"][-2:] == [(4, 2.0), (5, 2.0)]
    assert found["eval/held_out_loss"] == [(4, 7.0)]
    assert found["eval/held_out_by_modality/image"] == [(4, 0.25)]


def test_tensorboard_forgets_everything_where_a_run_begins_again(tmp_path: Path) -> None:
    for loss in (9.0, 8.0):
        metrics = Metrics(tmp_path, 0, MetricsSpec(tensorboard=True))
        metrics.write_evaluation({"step": 0, "loss": loss})
        metrics.write({"step": 1, "loss": loss})
        metrics.close()
    assert scalars(tmp_path) == {"eval/held_out_loss": [(0, 8.0)], "loss": [(1, 8.0)]}


def test_without_tensorboard_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(SpecError, match=r"shardkit\[train\]"):
        Metrics(tmp_path, 0, MetricsSpec(tensorboard=True))
    Metrics(tmp_path, 0, MetricsSpec()).close()
    assert not (tmp_path / "tb").exists()


def test_lines_every_n_steps_hold_all_of_them_and_a_checkpoint_cuts_the_window(tmp_path: Path) -> None:
    def go(folder: Path, steps: range, keep_at: int) -> None:
        metrics = Metrics(folder, steps.start - 1, MetricsSpec(log_every=4))
        for step in steps:
            metrics.write({"step": step, "loss": float(step), "read": 1})
            if step == keep_at:
                metrics.sync()
        metrics.close()

    folders = [tmp_path / name for name in ("whole", "resumed")]
    for folder in folders:
        folder.mkdir()
    go(folders[0], range(1, 13), 6)
    go(folders[1], range(1, 9), 6)
    go(folders[1], range(7, 13), 6)
    whole, resumed = (read_metrics(folder) for folder in folders)
    assert [(line["step"], line["loss"], line["read"]) for line in whole] == [
        (4, 2.5, 4), (6, 5.5, 2), (8, 7.5, 2), (12, 10.5, 4)
    ]  # fmt: skip
    assert resumed == whole


def test_a_note_goes_with_the_next_step(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0, MetricsSpec())
    metrics.note(checkpoint_stall=1.5)
    assert metrics.write({"step": 1}) == {"step": 1, "checkpoint_stall": 1.5}
    assert metrics.write({"step": 2}) == {"step": 2}
    metrics.close()


def test_evaluations_are_replaced_at_their_step_and_cut_at_a_resume(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0, MetricsSpec())
    assert metrics.held_out_loss is None
    for step, loss in ((0, 9.0), (2, 5.0), (4, 4.0), (4, 3.0)):
        metrics.write_evaluation({"step": step, "loss": loss})
    assert [(line["step"], line["loss"]) for line in read_evaluations(tmp_path)] == [(0, 9.0), (2, 5.0), (4, 3.0)]
    metrics.close()
    again = Metrics(tmp_path, 3, MetricsSpec())
    assert again.held_out_loss == 5.0
    assert [line["step"] for line in read_evaluations(tmp_path)] == [0, 2]
    again.close()


def test_the_page_of_curves_is_whole_and_holds_the_numbers(tmp_path: Path) -> None:
    assert write_page(tmp_path) is None
    metrics = Metrics(tmp_path, 0, MetricsSpec())
    for step in range(1, 1201):
        loss = float("nan") if step == 3 else 1000.0 / step
        metrics.write(
            {**entry(step), "loss": loss, "mfu": 0.37, "reward_margin": 0.25, "left_out": {"<deaf>": 2}, "tokens": step}
        )
    metrics.write_evaluation(
        {
            "step": 1200,
            "loss": 0.625,
            "by_modality": {"image": 0.5},
            "told": {"reward_margin": 0.375},
            "answers": {"exact_match": 0.75},
        }
    )
    metrics.close()
    path = write_page(tmp_path)
    assert path == tmp_path / "metrics.html"
    page = Parsed(path.read_text(encoding="utf-8"))
    text = " ".join(page.words)
    assert page.open == [] and page.fetched == []
    for words in ("Held-out loss", "0.625", "Reward margin", "0.375", "37.0%", "75%", "2,400 <deaf>", "1,000"):
        assert words in text, words
    assert all(len(readings) <= 500 for readings in page.readings)
    assert page.readings[0][-1][1] == 1200
    assert page.readings[0][-1][2][0].startswith("0.83")
    assert "<script src" not in path.read_text(encoding="utf-8")


def test_a_chart_places_values_on_round_numbers() -> None:
    chart = make_chart("x", "", [Series(name="a", points=((1, 0.0), (5, 10.0), (9, float("inf"))))])
    assert chart is not None
    assert [label for _, label in chart.rows] == ["0", "2", "4", "6", "8", "10"]
    assert [y for y, _ in chart.rows] == sorted((y for y, _ in chart.rows), reverse=True)
    assert chart.lines[0].dots == ((58.0, 224.0), (548.0, 10.0))
    assert make_chart("x", "", [Series(name="a", points=((1, float("nan")),))]) is None
    assert round_ticks(3, 3, whole=True) == (3, 4)
    assert thin([(step, float(step)) for step in range(10)], 5) == ((1, 0.5), (3, 2.5), (5, 4.5), (7, 6.5), (9, 8.5))
