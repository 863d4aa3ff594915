"""What a run tells a person: about twenty lines, their figures, and a bar that is taken away."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.cli.evaluate import summary
from trainer.cli.progress import Lines, beginning, evaluation, show_time, step_line

START = {
    "event": "start", "resumed_from": "", "step": 0, "steps": 100, "samples": 7, "parameters": 1000, "trainable": 500,
    "device": "cpu", "arithmetic": "operations of a step = 1", "peak_tflops": 989.0,
}  # fmt: skip


def step(number: int, **more: Any) -> dict[str, Any]:
    return {
        "event": "step", "step": number, "loss": 1.5, "loss_by_modality": {"image": 1.25}, "seconds": 2.0,
        "tokens_per_second": 1000.0, "data_wait": 0.01, **more,
    }  # fmt: skip


def test_a_line_holds_loss_speed_waiting_and_the_time_left() -> None:
    line = step_line(step(40, mfu=0.456), [step(39, tokens_per_second=3000.0, mfu=0.456), step(40, mfu=0.456)], 100)
    assert line == "step    40/100  loss 1.500  (image 1.25)  2,000 tokens/s  MFU 46%  waiting 1.0%  2 min 00 s left"
    assert "MFU" not in step_line(step(40), [step(40)], 100)
    assert step_line(step(40, joined=4), [step(40, joined=4)], 100).endswith("30 s left")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 01 s"), (3600, "1 h 00 min"), (90061, "25 h 01 min")]
)
def test_times_are_told_in_two_units(seconds: float, text: str) -> None:
    assert show_time(seconds) == text


def test_about_twenty_lines_a_run_and_warnings_apart(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines(1000) as lines:
        lines.show({**START, "steps": 1000})
        for number in range(1, 1001):
            lines.show(step(number))
        lines.show({"event": "warning", "text": "slow [disk]"})
    out, err = capsys.readouterr()
    shown = [line for line in out.splitlines() if line.startswith("step ")]
    assert len(shown) == 21 and shown[0].startswith("step     1/1000") and shown[-1].startswith("step  1000/1000")
    assert err == "trainer: warning: slow [disk]\n"


def test_lines_every_few_steps_are_shown_too(capsys: pytest.CaptureFixture[str]) -> None:
    with Lines(1000) as lines:
        for number in range(7, 1000, 7):
            lines.show(step(number, joined=7))
    assert 18 <= len(capsys.readouterr().out.splitlines()) <= 21


def test_a_terminal_has_a_bar_which_an_error_takes_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with pytest.raises(RuntimeError), Lines(100) as lines:
        lines.show(START)
        bar = lines._bar
        assert bar.live.is_started
        lines.show(step(30))
        assert bar.tasks[0].completed == 30
        raise RuntimeError
    assert not bar.live.is_started
    assert "step    30/100" in capsys.readouterr().out


def test_the_beginning_prints_how_operations_are_counted() -> None:
    first, second = beginning(START)
    assert first.startswith("from the beginning: steps 1 to 100 on 7 samples, 500 of 1,000 parameters train")
    assert second == "operations of a step = 1; MFU = operations / seconds / 989e12"
    assert "metrics.peak_tflops" in beginning({**START, "peak_tflops": None})[1]
    assert len(beginning({**START, "step": 100})) == 1


AFTER = {
    "loss": 1.0, "by_modality": {"image": 0.5}, "samples": {"image": 6, "text": 1_300},
    "answers": {
        "exact_match": 0.75, "compared": 8, "exact_match_by_modality": {"image": 0.75}, "word_error_rate": 0.25,
        "character_error_rate": 0.125, "compared_by_modality": {"image": 8},
    },
}  # fmt: skip


def test_an_evaluation_is_a_line_and_the_summary_says_what_media_were_worth() -> None:
    assert evaluation({"step": 4, **AFTER}) == (
        "step     4  held-out loss 1.000 over 1,306 samples  (image 0.50)  answers right 75%"
    )
    other = {
        "loss": 3.0, "by_modality": {"image": 2.5}, "samples": {"image": 1},
        "answers": {"exact_match_by_modality": {"image": 0.0}},
    }  # fmt: skip
    lines = summary(
        "run", "", {"before": {"loss": 5.0}, "after": AFTER, "shuffled_image": other, "blanked_image": other}
    )
    assert lines == [
        "held-out loss 5.000 -> 1.000 over 1,306 samples",
        "answers right 75% of 8 (image 75%); errors in what was heard: 12.5% of characters, 25.0% of words",
        "held-out image loss 0.500 over 6 samples, 75% of 8 right; "
        "with the image of another sample 2.500 over 1 sample, 0% right",
        "held-out image loss 0.500 over 6 samples, 75% of 8 right; with blank image 2.500 over 1 sample, 0% right",
        "metrics, checkpoints and held-out losses in run",
    ]
