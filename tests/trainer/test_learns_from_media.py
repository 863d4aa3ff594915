"""The demo's model learns from what it sees and hears, not only from the text around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.trainer.datasets import build_small, screens, tones
from trainer.eval.heldout import open_measure
from trainer.loop import train
from trainer.metrics import read_metrics
from trainer.spec import load_run

RUN = Path(__file__).resolve().parents[2] / "specs" / "runs" / "demo.yaml"
MARGIN = 1.0
"""Nats an answer's token by which the held-out loss must rise when the medium is another sample's.

Seen with this data: screens 0.01 and 3.2, tones 0.5 and 3.5.
"""


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("learning")
    dataset = build_small(root / "data", screens(200), tones(200, digits=2))
    outcome = train(load_run(RUN), str(dataset), root / "run", report=lambda event: None, measure=open_measure())
    lines = read_metrics(root / "run")
    return {**outcome.held_out, "first": lines[0]["loss"], "last": sum(line["loss"] for line in lines[-5:]) / 5}


@pytest.mark.slow
def test_the_loss_falls(held_out: dict[str, Any]) -> None:
    assert held_out["last"] < held_out["first"] / 3
    assert held_out["after"]["loss"] < held_out["before"]["loss"] / 3


@pytest.mark.slow
@pytest.mark.parametrize("medium", ["image", "audio"])
def test_held_out_loss_is_worse_with_the_media_of_other_samples(held_out: dict[str, Any], medium: str) -> None:
    own = held_out["after"]["by_modality"][medium]
    others = held_out[f"shuffled_{medium}"]["by_modality"][medium]
    print(f"{medium}: {own:.3f} with its own, {others:.3f} with another sample's")
    assert held_out["after"]["samples"][medium] >= 16
    assert others > own + MARGIN


@pytest.mark.slow
@pytest.mark.parametrize(("medium", "other"), [("image", "audio"), ("audio", "image")])
def test_exchanging_one_medium_leaves_the_other_alone(held_out: dict[str, Any], medium: str, other: str) -> None:
    own = held_out["after"]["by_modality"][other]
    assert held_out[f"shuffled_{medium}"]["by_modality"][other] == pytest.approx(own, rel=1e-5)
