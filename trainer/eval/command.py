"""Measuring a finished or stopped run again, on more samples or another dataset.

Here: opening a run's newest checkpoint for evaluation only.
Elsewhere: the losses (heldout.py), the command line (cli.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from shardkit import SpecError, convert_spec
from trainer.checkpoint import TOKENIZER, find_checkpoint, load_model
from trainer.data.sources import choose_sources, open_data
from trainer.data.tokenise import load_speech
from trainer.eval.heldout import held_out_loss, read_held_out
from trainer.model.omni import Omni
from trainer.run import SPEC, choose_device, fix_arithmetic, reading_of
from trainer.spec import RunSpec


def evaluate_run(folder: Path, data: str | Sequence[str], samples: int) -> dict[str, Any]:
    """Held-out losses of a run's newest whole checkpoint: `after`, `shuffled_image`, `shuffled_audio`, and its `step`.

    Raises SpecError where the folder holds no run, or the dataset no held-out sample that can be measured.
    """
    spec = read_run(folder)
    path = find_checkpoint(folder / "checkpoints", lambda text: None)
    if path is None:
        raise SpecError(f"{folder} holds no whole checkpoint; train it first")
    device = choose_device(spec)
    fix_arithmetic(spec, device)
    speech = load_speech(str(path / TOKENIZER))
    model = Omni(spec.model, speech).to(device).eval()
    load_model(path, model)
    dataset = open_data(choose_sources(data, spec.data))
    rows = read_held_out(dataset, reading_of(spec), speech, model.senses, samples)
    found: dict[str, Any] = {"step": int(path.name.removeprefix("step-"))}
    for name, medium in (("after", None), *((f"shuffled_{medium}", medium) for medium in spec.eval.shuffle)):
        found[name] = msgspec.to_builtins(held_out_loss(model, rows, speech.pad_id, medium))
    if found["after"] is None:
        raise SpecError(f"{dataset.url} has no held-out sample with an answer; data.held_out is {spec.data.held_out}")
    return found


def read_run(folder: Path) -> RunSpec:
    """The spec that a run was trained with; raises SpecError where there is none."""
    try:
        raw = msgspec.json.decode((folder / SPEC).read_bytes())
    except (OSError, msgspec.DecodeError):
        raise SpecError(f"{folder} holds no run: {SPEC} is missing or damaged") from None
    return convert_spec(raw, RunSpec, str(folder / SPEC))
