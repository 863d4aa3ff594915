"""A pickle is told by its bytes, whatever its name, and refused by that; safetensors and text are none."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from shardkit import SpecError
from trainer.export.parts import read_tensors
from trainer.model.loading import load_weights
from trainer.pickles import find_pickle, pickle_in

TENSORS = {"a": torch.arange(4.0)}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol_are_told(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps({"a": [1.0, 2.0], "b": "x"}, protocol))
    assert "a pickle" in pickle_in(path)


@pytest.mark.parametrize(("zipped", "kind"), [(True, "a pickle in a zip archive"), (False, "a pickle")])
def test_files_of_torch_are_told(zipped: bool, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=zipped)
    assert pickle_in(path).startswith(kind)


def test_what_is_none_is_not_taken_for_one(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "short").write_bytes(b".")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder.bin").mkdir()
    assert find_pickle(tmp_path) == "" and find_pickle(tmp_path / "absent") == ""
    assert pickle_in(tmp_path / "absent") == ""


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pickle_in_the_place_of_pretrained_weights_is_called_what_it_is(name: str, tmp_path: Path) -> None:
    from tests.trainer.exports import make_base

    base = make_base(tmp_path / "base")
    (base / "model.safetensors").unlink()
    torch.save(TENSORS, base / name)
    with pytest.raises(SpecError, match=rf"model.language.pretrained: in .*base', {name} is a pickle in a zip archive"):
        load_weights(LlamaForCausalLM, str(base), "model.language")


def test_a_pickle_in_an_export_is_called_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "connectors.safetensors"
    torch.save(TENSORS, path)
    with pytest.raises(SpecError, match=r"connectors.safetensors is a pickle in a zip archive"):
        read_tensors(path)
