"""What goes wrong in a step: it is skipped and named, or done in halves; a run that cannot go on says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from tests.trainer.datasets import tiny_run
from tests.trainer.runs import quiet
from trainer.checkpoint import list_checkpoints, peek_progress
from trainer.failure import TrainingFailed, read_skipped
from trainer.loop import train
from trainer.losses.sft import SftLoss
from trainer.metrics import read_metrics
from trainer.spec import ModelSpec, PackSpec, RunSpec


@pytest.fixture(scope="module")
def spec(tiny_spec: ModelSpec) -> RunSpec:
    return tiny_run(tiny_spec, steps=12, checkpoint={"every": 2, "keep": 9}, eval={"samples": 0})


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], float]], None]:
    """Multiply the loss of a batch with what a function of the batch says."""

    def apply(factor: Callable[[Any], float]) -> None:
        real = SftLoss.__call__

        def spoilt(self: SftLoss, model: torch.nn.Module, batch: Any) -> Any:
            loss, parts = real(self, model, batch)
            return loss * factor(batch), parts

        monkeypatch.setattr(SftLoss, "__call__", spoilt)

    return apply


def keys_of_step(spec: RunSpec, dataset: Path, out: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The samples of one step of an undisturbed run."""
    import trainer.step

    seen: list[set[str]] = []
    real = trainer.step.accumulate

    def watch(run: Any, batches: Any) -> Any:
        seen.append({key for batch in batches for key in batch.keys})
        return real(run, batches)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.step, "accumulate", watch)
        train(spec, str(dataset), out, report=quiet)
    return seen[step - 1]


@pytest.mark.parametrize(("factor", "reason"), [(float("nan"), "not finite"), (1e4, "times its median")])
def test_a_bad_step_is_skipped_counted_and_its_samples_named(
    factor: float,
    reason: str,
    spec: RunSpec,
    dataset: Path,
    tmp_path: Path,
    spoil: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad = keys_of_step(spec, dataset, tmp_path / "good", 10, monkeypatch)
    failure = msgspec.structs.replace(spec.failure, spike=50.0)
    spoil(lambda batch: factor if set(batch.keys) == bad else 1.0)
    events: list[dict[str, Any]] = []
    train(msgspec.structs.replace(spec, failure=failure), str(dataset), tmp_path / "bad", report=events.append)
    lines = read_metrics(tmp_path / "bad")
    assert [line["skipped"] for line in lines] == [0] * 9 + [1] * 3
    assert reason in lines[9]["skip"]
    assert [line["loss"] for line in lines[:9]] == [line["loss"] for line in read_metrics(tmp_path / "good")[:9]]
    (entry,) = read_skipped(tmp_path / "bad")
    assert entry["step"] == 10 and set(entry["keys"]) == bad and reason in entry["reason"]
    assert any(event["event"] == "warning" and "step 10 is skipped" in event["text"] for event in events)
    steps = [int(path.name[5:]) for path in list_checkpoints(tmp_path / "bad" / "checkpoints")]
    assert steps == [2, 4, 6, 8, 12]  # not while it skips


def test_a_skipped_step_leaves_weights_and_moments_and_a_resume_repeats_it(
    spec: RunSpec, dataset: Path, tmp_path: Path, spoil: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = keys_of_step(spec, dataset, tmp_path / "good", 10, monkeypatch)
    watched = msgspec.structs.replace(spec, failure=msgspec.structs.replace(spec.failure, spike=50.0))
    spoil(lambda batch: 1e4 if set(batch.keys) == bad else 1.0)
    train(watched, str(dataset), tmp_path / "whole", report=quiet)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(watched, str(dataset), tmp_path / "cut", report=stop)
    train(watched, str(dataset), tmp_path / "cut", report=quiet)  # the median comes from the checkpoint
    assert read_skipped(tmp_path / "cut") == read_skipped(tmp_path / "whole")
    last = Path("checkpoints") / "step-00000012"
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (tmp_path / "cut" / last / name).read_bytes() == (tmp_path / "whole" / last / name).read_bytes()
    assert len(peek_progress(tmp_path / "whole" / last).recent) == 11


def test_too_many_bad_steps_in_a_row_end_the_run_naming_samples(
    spec: RunSpec, dataset: Path, tmp_path: Path, spoil: Callable[..., None]
) -> None:
    spoil(lambda batch: float("inf"))
    with pytest.raises(TrainingFailed, match=r"step 4: 4 steps in a row .*look at samples [0-9a-f]+"):
        train(spec, str(dataset), tmp_path, report=quiet)
    assert not list_checkpoints(tmp_path / "checkpoints")
    assert [entry["step"] for entry in read_skipped(tmp_path)] == [1, 2, 3, 4]


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A device on which so many samples do not fit: their backward pass breaks off half-way."""

    def apply(most: int, error: BaseException) -> None:
        real = SftLoss.__call__

        def tried(self: SftLoss, model: torch.nn.Module, batch: Any) -> Any:
            loss, parts = real(self, model, batch)
            if len(batch.keys) > most:
                loss.backward()  # type: ignore[no-untyped-call]  # gradients that must not stay
                raise error
            return loss, parts

        monkeypatch.setattr(SftLoss, "__call__", tried)

    return apply


ERRORS = [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(), RuntimeError("not enough memory: you tried")]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("packed", [False, True])
def test_a_batch_too_large_for_the_memory_is_done_in_halves_with_the_same_gradients(
    error: BaseException,
    packed: bool,
    spec: RunSpec,
    dataset: Path,
    tmp_path: Path,
    small_memory: Callable[..., None],
) -> None:
    data = msgspec.structs.replace(spec.data, pack=PackSpec(tokens=200, lanes=2)) if packed else spec.data
    short = msgspec.structs.replace(spec, steps=2, data=data, batch_size=1 if packed else 4)
    train(short, str(dataset), tmp_path / "whole", report=quiet)
    small_memory(1, error)
    events: list[dict[str, Any]] = []
    train(short, str(dataset), tmp_path / "halves", report=events.append)
    for name in ("loss", "gradient_norm"):
        found, wanted = ([line[name] for line in read_metrics(tmp_path / run)] for run in ("halves", "whole"))
        assert found[0] == pytest.approx(wanted[0], rel=1e-6), name
    warnings = [event["text"] for event in events if event["event"] == "warning"]
    assert warnings and all("done in two halves" in text for text in warnings)


def test_a_sample_that_does_not_fit_alone_is_named(
    spec: RunSpec, dataset: Path, tmp_path: Path, small_memory: Callable[..., None]
) -> None:
    small_memory(0, MemoryError())
    with pytest.raises(TrainingFailed, match=r"out of memory: sample [0-9a-f]+ alone .* lower data.max_tokens"):
        train(spec, str(dataset), tmp_path, report=quiet)


def test_other_errors_of_a_step_come_through(
    spec: RunSpec, dataset: Path, tmp_path: Path, small_memory: Callable[..., None]
) -> None:
    small_memory(0, RuntimeError("shapes do not agree"))
    with pytest.raises(RuntimeError, match="shapes do not agree"):
        train(spec, str(dataset), tmp_path, report=quiet)


def test_accumulation_and_small_passes_give_the_same_gradients(spec: RunSpec, dataset: Path, tmp_path: Path) -> None:
    found = []
    for accumulate, micro in ((1, "auto"), (2, "auto"), (4, "auto"), (1, 3), (2, 1)):
        out = tmp_path / f"{accumulate}-{micro}"
        part = msgspec.structs.replace(spec, batch_size=8, steps=1, accumulate=accumulate, micro_batch=micro)
        train(part, str(dataset), out, report=quiet)
        (line,) = read_metrics(out)
        found.append((line["loss"], line["gradient_norm"]))
    assert all(each == pytest.approx(found[0], rel=1e-6) for each in found)
