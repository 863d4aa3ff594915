"""Which checkpoint is meant: of a run's folder, or named itself; and its model with the weights in it.

Here: finding, refusing damaged ones, loading for use (not for training on).
Elsewhere: checkpoints' files (trainer.checkpoint).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from shardkit import SpecError
from trainer.checkpoint import (
    MODEL,
    NEWEST,
    TOKENIZER,
    Progress,
    choose_checkpoint,
    load_model,
    read_progress,
)
from trainer.data.tokenise import Speech, load_speech
from trainer.eval.command import read_run
from trainer.folder import CHAIN, SPEC
from trainer.model.table import Model, make_model
from trainer.spec import ModelSpec, RunSpec

Warn = Callable[[str], None]


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """A whole checkpoint at `path` of the run in `folder`, with the spec that it was trained by."""

    folder: Path
    path: Path
    spec: RunSpec
    progress: Progress


def find_trained(folder: Path, checkpoint: str | Path | None, warn: Warn) -> Trained:
    """The checkpoint named (`newest`, the default, `best`, a path); each that is passed over is named to `warn`.

    `folder` is a run's, or a checkpoint itself. Raises SpecError: no run, no whole checkpoint, a damaged one (naming
    the newest good one).
    """
    if checkpoint in (None, NEWEST) and not (folder / SPEC).is_file() and folder.name.startswith("step-"):
        folder, checkpoint = folder.parent.parent, folder
    if not folder.is_dir():
        raise SpecError(f"{folder} is no folder; give the folder of a run, a checkpoint in it, or an export")
    if (folder / CHAIN).is_file() and not (folder / SPEC).is_file():
        raise SpecError(f"{folder} holds a chain of stages; give the folder of one of them")
    spec = read_run(folder)
    path = choose_checkpoint(folder / "checkpoints", checkpoint or NEWEST, warn)
    if path is None:
        raise SpecError(f"{folder} holds no whole checkpoint; train it first")
    return Trained(folder=folder, path=path, spec=spec, progress=read_progress(path))


def load_trained(trained: Trained) -> tuple[Model, Speech]:
    """The model of a checkpoint on CPU in eval mode, and its tokeniser; weights in 4 bits are loaded unquantised."""
    speech = load_speech(str(trained.path / TOKENIZER))
    model = make_model(unquantised(trained.spec.model), speech).eval()
    load_model(trained.path, model)
    return model, speech


def stored_parts(trained: Trained) -> frozenset[str]:
    """The encoders of which a checkpoint holds more than embeddings, which are in every one: they were trained."""
    from safetensors import safe_open

    with safe_open(trained.path / MODEL, framework="pt") as file:
        names = [name for name in file.keys() if "embedding" not in name]  # noqa: SIM118 - it is no mapping
    return frozenset({name.partition(".")[0] for name in names} & {"vision", "audio"})


def unquantised(spec: ModelSpec) -> ModelSpec:
    """The same model over a base in its checkpoint's own precision: adapters cannot be merged into 4 bits."""
    if spec.language.train != "qlora":
        return spec
    return msgspec.structs.replace(spec, language=msgspec.structs.replace(spec.language, train="lora"))
