"""A model that is cut up over two processes answers and is measured as the whole one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from trainer.data.collate import collate
from trainer.data.media import Medium
from trainer.data.tokenise import Speech, train_speech
from trainer.eval.loss import Ready, Rows, measure_rows
from trainer.losses.table import make_loss
from trainer.model.generate import greedy
from trainer.model.omni import DOORS, Omni
from trainer.spec import LossSpec, ModelSpec

NAMES = ("red", "green", "blue")


def rows_of(model: Omni, speech: Speech) -> Rows:
    from shardkit import Message, Sample

    rows: Rows = []
    for at, name in enumerate(NAMES):
        turns = (Message(role="user", content="Which colour" + " is it" * at), Message(role="assistant", content=name))
        sample = Sample(id=name, messages=turns, domain="d", category="c", source="s")
        image = np.full((3, 32, 32), 40 * at, dtype=np.uint8)
        medium = Medium(modality="image", images=(image,))
        rows.append((name, speech.encode(sample, (medium,), model.senses, 64)))
    return rows


def found_by(model: Omni, speech: Speech) -> tuple[list[list[int]], float]:
    rows = rows_of(model, speech)
    answers = greedy(model, collate(rows, model.senses, speech.pad_id), 6, ())
    measured = measure_rows(Ready(model=model, loss=make_loss(LossSpec()), pad_id=speech.pad_id), rows)
    assert measured
    return answers, measured.held_out.loss


def work(rank: int, folder: str, spec: bytes) -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    speech = train_speech(["Which colour is it? red green blue"], 320)
    torch.manual_seed(3)
    model = Omni(msgspec.json.decode(spec, type=ModelSpec), speech)
    whole = found_by(model, speech)
    mesh = init_device_mesh("cpu", (2,))
    for layer in model.language.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    for door in DOORS:
        register_fsdp_forward_method(model, door)
    same = found_by(model, speech) == whole and found_by(model, speech) == whole
    Path(folder, str(rank)).write_text(str(same))
    dist.destroy_process_group()


@pytest.mark.skipif(sys.platform != "linux", reason="processes meet in a file, as tried on Linux")
def test_answers_and_losses_of_a_model_cut_up_over_two_processes_are_the_same(
    tmp_path: Path, tiny_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.multiprocessing.spawn import spawn

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    spawn(work, (str(tmp_path), msgspec.json.encode(tiny_spec)), nprocs=2)  # type: ignore[no-untyped-call]
    assert [(tmp_path / str(rank)).read_text() for rank in (0, 1)] == ["True", "True"]
