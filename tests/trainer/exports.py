"""Tiny trained runs with eyes and ears over a pretrained base, made once a test session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import save_file

from tests.trainer.datasets import mixed, tiny_run
from trainer.checkpoint import MODEL, STATE, files
from trainer.eval.heldout import open_measure
from trainer.loop import train
from trainer.spec import LanguageSpec, LoraSpec, ModelSpec

STEPS = 4


def make_base(folder: Path, dtype: torch.dtype = torch.float32, vocabulary: int = 290, width: int = 32) -> Path:
    """A pretrained llama whose embeddings are smaller than our tokeniser."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).to(dtype).save_pretrained(str(folder))
    return folder


def replace_weights(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Put other tensors into a checkpoint, which stays whole: as if a run had written them."""
    save_file(tensors, path / MODEL)
    state = json.loads((path / STATE).read_bytes().partition(b"\n")[2])
    state["files"][MODEL] = files._digest(path / MODEL)
    (path / STATE).write_bytes(files._sealed(state))


def train_tiny(folder: Path, model: ModelSpec, base: Path, how: str, **more: Any) -> Path:
    """A run of a few steps in `folder`/run on the dataset in `folder`/data."""
    data = folder / "data"
    if not data.exists():
        mixed(data, each=8)
    language = LanguageSpec(
        pretrained=str(base),
        train=how,
        lora=LoraSpec(rank=4, targets=("q_proj", "v_proj")),  # type: ignore[arg-type]
    )
    spec = tiny_run(msgspec.structs.replace(model, language=language), steps=STEPS, **more)
    out = folder / f"run-{how}"
    train(spec, str(data), out, report=lambda event: None, measure=open_measure())
    return out
