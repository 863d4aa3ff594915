"""metrics.jsonl holds every step once, whatever was interrupted; the plot is a picture."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from trainer.metrics import MetricsFile, plot_loss, read_metrics


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
