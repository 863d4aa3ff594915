"""Checkpoints are whole or not there: every damage is noticed, the one before is used."""

from __future__ import annotations

import resource
import shutil
import signal
from pathlib import Path

import msgspec
import pytest
import torch

from shardkit import SpecError
from trainer.checkpoint import (
    CheckpointFailed,
    Damaged,
    Progress,
    find_checkpoint,
    list_checkpoints,
    load_tensors,
    model_tensors,
    prune_checkpoints,
    read_progress,
    save_checkpoint,
)
from trainer.data.tokenise import Speech
from trainer.model.omni import Omni
from trainer.spec import ModelSpec

PROGRESS = Progress(
    step=3,
    samples=10,
    tokens=99,
    reading={"p": 4},
    version="v",
    spec={"seed": 1},
    threads=1,
    torch=str(torch.__version__),
)


class Small(torch.nn.Module):
    """Just enough parameters for an optimizer state."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(width, 2)


def stepped(model: torch.nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(2):
        sum(p.square().sum() for p in model.parameters()).backward()
        optimizer.step()
    return optimizer


def saved(folder: Path, speech: Speech, *steps: int) -> list[Path]:
    model = Small()
    optimizer = stepped(model)
    return [
        save_checkpoint(folder, msgspec.structs.replace(PROGRESS, step=step), model, optimizer, speech)
        for step in steps
    ]


def test_everything_comes_back_bit_for_bit(tmp_path: Path, speech: Speech) -> None:
    model = Small()
    optimizer = stepped(model)
    path = save_checkpoint(tmp_path, PROGRESS, model, optimizer, speech)
    after_saving = torch.rand(5)

    other = Small()
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.1)
    load_tensors(path, other, other_optimizer)
    assert torch.equal(torch.rand(5), after_saving)
    assert read_progress(path) == PROGRESS
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        for field, value in optimizer.state[ours].items():
            assert torch.equal(value, other_optimizer.state[theirs][field]), field


def test_no_file_of_a_checkpoint_is_a_pickle(tmp_path: Path, speech: Speech) -> None:
    (path,) = saved(tmp_path, speech, 1)
    suffixes = {file.suffix for file in path.rglob("*") if file.is_file()}
    assert suffixes <= {".safetensors", ".json", ".jinja"}


def test_every_file_cut_anywhere_or_missing_or_altered_is_noticed(tmp_path: Path, speech: Speech) -> None:
    older, newest = saved(tmp_path, speech, 1, 2)
    names = sorted(str(file.relative_to(newest)) for file in newest.rglob("*") if file.is_file())
    assert {"model.safetensors", "optimizer.safetensors", "state.json"} <= set(names)
    for name in names:
        whole = (newest / name).read_bytes()
        size = len(whole)
        cuts = sorted({0, 1, 7, 8, 9, size // 3, size // 2, size - 2, size - 1} & set(range(size)))
        flips = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in (0, size // 2, size - 1)]
        for damaged in [*(whole[:cut] for cut in cuts), *flips]:
            (newest / name).write_bytes(damaged)
            warnings: list[str] = []
            assert find_checkpoint(tmp_path, warnings.append) == older, name
            assert len(warnings) == 1 and "step-00000002" in warnings[0]
        (newest / name).unlink()
        with pytest.raises(Damaged):
            read_progress(newest)
        (newest / name).write_bytes(whole)
    assert find_checkpoint(tmp_path, pytest.fail) == newest


def test_every_cut_of_the_state_is_noticed(tmp_path: Path, speech: Speech) -> None:
    (path,) = saved(tmp_path, speech, 1)
    whole = (path / "state.json").read_bytes()
    for cut in range(len(whole)):
        (path / "state.json").write_bytes(whole[:cut])
        with pytest.raises(Damaged):
            read_progress(path)


def test_what_an_interrupted_writer_left_is_ignored_and_removed(tmp_path: Path, speech: Speech) -> None:
    (path,) = saved(tmp_path, speech, 5)
    shutil.copytree(path, tmp_path / ".writing-step-00000009")
    assert find_checkpoint(tmp_path, pytest.fail) == path
    prune_checkpoints(tmp_path, keep=1, newest=path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000005"]


def test_the_last_few_are_kept_in_order_of_steps(tmp_path: Path, speech: Speech) -> None:
    *_, last = saved(tmp_path, speech, 9, 10, 100)
    prune_checkpoints(tmp_path, keep=2, newest=last)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000010", "step-00000100"]


def test_damaged_ones_of_later_steps_do_not_push_out_what_was_just_written(tmp_path: Path, speech: Speech) -> None:
    first, _, damaged = saved(tmp_path, speech, 9, 10, 100)
    (damaged / "state.json").unlink()
    prune_checkpoints(tmp_path, keep=1, newest=first)
    assert list_checkpoints(tmp_path) == [first]


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path: Path, speech: Speech) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, limit[1]))
    try:
        with pytest.raises(CheckpointFailed, match=r"cannot write the checkpoint .*step-00000003"):
            saved(tmp_path, speech, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path: Path, speech: Speech) -> None:
    (path,) = saved(tmp_path, speech, 4)
    (path / "model.safetensors").write_bytes(b"torn")
    saved(tmp_path, speech, 4)
    assert find_checkpoint(tmp_path, pytest.fail) == path


def test_a_folder_becomes_a_checkpoint_only_when_all_its_files_are_on_disk(
    tmp_path: Path, speech: Speech, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    synced: list[Path] = []
    real_rename = Path.rename
    monkeypatch.setattr("trainer.checkpoint.files._sync", lambda path: (calls.append("sync"), synced.append(path)))

    def rename(self: Path, target: Path) -> Path:
        calls.append("rename")
        on_disk = {path.name for path in synced}
        assert {file.name for file in self.rglob("*")} <= on_disk
        assert self.name in on_disk
        return real_rename(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    saved(tmp_path, speech, 1)
    assert calls[-2:] == ["rename", "sync"]
    assert synced[-1] == tmp_path


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path, speech: Speech) -> None:
    (path,) = saved(tmp_path, speech, 1)
    other = Small(width=4)
    with pytest.raises(SpecError, match=r"another model \(layer\.weight differs\)"):
        load_tensors(path, other, torch.optim.AdamW(other.parameters()))


def test_frozen_pretrained_weights_are_not_stored_again(tiny_spec: ModelSpec, speech: Speech) -> None:
    model = Omni(tiny_spec, speech)
    model.pretrained_parts = ("vision.",)
    everything = model_tensors(model)
    assert model.vision
    model.vision.requires_grad_(False)
    kept = model_tensors(model)
    assert any(name.startswith("vision.") for name in everything)
    layers = [name for name in kept if name.startswith("vision.") and "embedding" not in name]
    assert layers == []
    assert any(name.startswith("vision_connector.") for name in kept)
