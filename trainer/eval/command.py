"""Measuring a finished or stopped run again, on more samples or another dataset.

Here: opening a run's newest checkpoint for evaluation only.
Elsewhere: what is measured (heldout.py), the command line (cli.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from shardkit import SpecError, convert_spec
from trainer.checkpoint import NEWEST, TOKENIZER, choose_checkpoint, load_model, step_of
from trainer.data.sources import choose_sources, open_data
from trainer.data.tokenise import load_speech
from trainer.eval.heldout import evaluate, keep_held_out, page_of, without_media
from trainer.eval.loss import HeldOut, Ready, not_finite
from trainer.eval.page import write_eval_page
from trainer.folder import CHAIN, SPEC
from trainer.model.finite import first_not_finite
from trainer.model.table import Model
from trainer.objective import open_loss
from trainer.setting import choose_device, fix_arithmetic, reading_of
from trainer.spec import RunSpec
from trainer.start import begin_model


class EvalJob(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured: the run in `folder`, on held-out `samples` of `data` (none: those that its spec names).

    `checkpoint` says which of the run's: `newest`, `best`, or a path. `generate` of the samples are answered, in at
    most `new_tokens` tokens (None: as the run's spec says).
    """

    folder: Path
    data: str | Sequence[str] = ()
    samples: int
    generate: int = 0
    new_tokens: int | None = None
    checkpoint: str | Path = NEWEST


def evaluate_run(job: EvalJob, warn: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Held-out figures of a run's checkpoint: `after`, `shuffled_image`, …, and its `step`.

    Samples that are answered are shown in a `page`, which is another than those written while the run trained.
    `broken` says what is wrong where losses are not finite. Checkpoints that are passed over are told to `warn`.

    Raises SpecError where the folder holds no run, or the dataset no held-out sample that can be measured.
    """
    folder = job.folder
    spec = read_run(folder)
    path = choose_checkpoint(folder / "checkpoints", job.checkpoint, warn)
    if path is None:
        raise SpecError(f"{folder} holds no whole checkpoint; train it first")
    device = choose_device(spec)
    fix_arithmetic(spec, device)
    speech = load_speech(str(path / TOKENIZER))
    torch.manual_seed(spec.seed)  # a loss may compare with what the run began with
    model = begin_model(spec, speech, resumed=True).to(device).eval()
    loss = open_loss(spec, model, speech, folder)
    load_model(path, model)
    dataset = open_data(choose_sources(job.data, spec.data))
    limit = job.new_tokens or spec.eval.new_tokens
    wanted = msgspec.structs.replace(spec.eval, samples=job.samples, generate=job.generate, new_tokens=limit)
    kept = keep_held_out(dataset, reading_of(spec), speech, model.senses, wanted)
    ready = Ready(model=model, loss=loss, pad_id=speech.pad_id, dtype=spec.dtype)
    own = evaluate(ready, kept, speech, wanted.new_tokens)
    if own is None:
        wanted_by = f"eval.where is {spec.eval.where}" if spec.eval.where else f"data.held_out is {spec.data.held_out}"
        raise SpecError(f"{dataset.url} has no held-out sample with an answer; {wanted_by}")
    step = step_of(path)
    found: dict[str, Any] = {"step": step, "after": msgspec.to_builtins(own.held_out)}
    for name, changed in without_media(kept, wanted):
        other = evaluate(ready, changed, speech, wanted.new_tokens)
        found[name] = msgspec.to_builtins(other.held_out) if other else None
    if own.answers:
        page = page_of(spec.name, step, own, kept)
        found["page"] = str(write_eval_page(folder / "eval" / f"measured-step-{step:08d}.html", page))
    if not_finite(own.held_out):
        found["broken"] = _what_is_broken(step, own.held_out, model, spec)
    return found


def _what_is_broken(step: int, held_out: HeldOut, model: Model, spec: RunSpec) -> str:
    name = first_not_finite(model)
    sums = f"the weights are finite, sums of {spec.dtype} overflow"
    why = f"{name} holds numbers that are not finite" if name else sums
    return (
        f"the weights of step {step} give held-out losses that are not finite ({', '.join(not_finite(held_out))}): "
        f"{why}; measure an earlier checkpoint with --checkpoint best or PATH, or train anew with a smaller "
        f"optimizer.rate"
    )


def read_run(folder: Path) -> RunSpec:
    """The spec that a run was trained with; raises SpecError where there is none."""
    try:
        raw = msgspec.json.decode((folder / SPEC).read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        if (folder / CHAIN).is_file():
            raise SpecError(f"{folder} holds a chain of stages; give the folder of one of them") from None
        raise SpecError(f"{folder} holds no run: {SPEC} is missing or damaged") from None
    return convert_spec(raw, RunSpec, str(folder / SPEC))
