"""Checkpoints: a folder a step, whole or not there, safetensors and JSON only.

Here: writing, finding the newest whole one, checking every byte before anything is used, keeping the last few.
Elsewhere: what is in a run's state (loop.py).

checkpoints/step-NNNNNNNN/ holds model.safetensors (what cannot be loaded from elsewhere), optimizer.safetensors
(AdamW's moments by parameter name), tokenizer/, and state.json with the digest of every other file and of itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch

from shardkit import ShardkitError, SpecError
from trainer.data.tokenise import Speech

MODEL, OPTIMIZER, STATE, TOKENIZER = "model.safetensors", "optimizer.safetensors", "state.json", "tokenizer"
TRAINING_ONLY = ("distil_projection.",)
"""Parameters that a model has while it is trained only; without them a checkpoint loads as well."""
_NAME = re.compile(r"step-(\d{8,})")


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands after `step`: JSON-safe, everything besides tensors.

    `reading` is the loader's state behind the last batch that was used, `version` the dataset's; `spec` the settings
    that a resume must repeat; `threads` and `torch` what bit-exact repetition depends on.
    """

    step: int
    samples: int
    tokens: int
    reading: dict[str, Any]
    version: str
    spec: dict[str, Any]
    threads: int
    torch: str


class Damaged(Exception):
    """A checkpoint that is not whole: missing, truncated or altered files."""


class CheckpointFailed(ShardkitError):
    """A checkpoint cannot be written, for example because the disk is full."""


def save_checkpoint(
    folder: Path, progress: Progress, model: torch.nn.Module, optimizer: torch.optim.Optimizer, speech: Speech
) -> Path:
    """Write checkpoints/step-N under a temporary name, fsync it, rename it: whole or not there, at any moment.

    Raises CheckpointFailed, and leaves nothing of it.
    """
    final = folder / f"step-{progress.step:08d}"
    temporary = folder / f".writing-{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _write(temporary, progress, model, optimizer, speech)
    except Exception as error:  # safetensors and tokenizers have kinds of their own for a full disk
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointFailed(
            f"cannot write the checkpoint {final}: {error}; mend that and run again: it goes on from the one before"
        ) from error
    if final.exists():  # a damaged one that a resume passed over
        aside = folder / f".old-{final.name}"
        shutil.rmtree(aside, ignore_errors=True)
        final.rename(aside)
        temporary.rename(final)
        shutil.rmtree(aside)
    else:
        temporary.rename(final)
    _sync(folder)
    return final


def _write(
    temporary: Path, progress: Progress, model: torch.nn.Module, optimizer: torch.optim.Optimizer, speech: Speech
) -> None:
    from safetensors.torch import save_file

    temporary.mkdir(parents=True)
    save_file(model_tensors(model), temporary / MODEL)
    save_file(_optimizer_tensors(model, optimizer), temporary / OPTIMIZER)
    speech.save(temporary / TOKENIZER)
    files = {str(path.relative_to(temporary)): _digest(path) for path in sorted(temporary.rglob("*")) if path.is_file()}
    state = {"files": files, "progress": msgspec.to_builtins(progress)}
    (temporary / STATE).write_bytes(_sealed(state))
    _sync_tree(temporary)


def find_checkpoint(folder: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest whole checkpoint; each damaged one that is passed over is named to `warn`."""
    for path in reversed(list_checkpoints(folder)):
        try:
            read_progress(path)
            return path
        except Damaged as error:
            warn(f"passing over the checkpoint {path}: {error}")
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints by step, oldest first, whole or not."""
    found = [(int(match[1]), path) for path in folder.glob("step-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def prune_checkpoints(folder: Path, keep: int, newest: Path) -> None:
    """Remove all but `newest` and the `keep` - 1 before it, and what interrupted writers left.

    Those of later steps were passed over as damaged: counted, they would push out what was just written.
    """
    found = list_checkpoints(folder)
    last = found.index(newest) + 1
    gone = [*found[: max(0, last - keep)], *found[last:]]
    for path in [*gone, *folder.glob(".writing-step-*"), *folder.glob(".old-step-*")]:
        shutil.rmtree(path, ignore_errors=True)


def read_progress(path: Path) -> Progress:
    """Check every byte of a checkpoint and read its progress; raises Damaged saying what is wrong."""
    try:
        state = _unseal((path / STATE).read_bytes())
        for name, digest in state["files"].items():
            if _digest(path / name) != digest:
                raise Damaged(f"{name} is not what {STATE} says")
        return msgspec.convert(state["progress"], Progress)
    except OSError as error:
        raise Damaged(f"{Path(str(error.filename)).name} cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Damaged(f"{STATE} is not a checkpoint's ({error})") from None


def load_tensors(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checked checkpoint's tensors and random state into a model and its optimizer, exactly.

    Raises SpecError where the model has other parameters than the checkpoint.
    """
    from safetensors.torch import load_file

    load_model(path, model)
    stored = load_file(path / OPTIMIZER)
    torch.set_rng_state(stored.pop("rng.cpu"))
    for name, parameter in model.named_parameters():
        if f"{name}/exp_avg" in stored:
            optimizer.state[parameter] = {
                field: _like(field, stored[f"{name}/{field}"], parameter) for field in ("step", "exp_avg", "exp_avg_sq")
            }


def load_model(path: Path, model: torch.nn.Module) -> None:
    """Put a checked checkpoint's weights into a model; raises SpecError where it has other parameters."""
    from safetensors.torch import load_file

    _fill(model, load_file(path / MODEL), path)


def model_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that a checkpoint holds: all but those frozen ones that come whole from pretrained weights.

    Frozen embeddings stay in: they may have grown by the rows of our special tokens. So does what an earlier stage
    trained, which was loaded from its checkpoint. Each tied tensor comes once.
    """
    kept = {*_always_stored(model), *getattr(model, "restored", ())}
    return {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or name in kept
    }


def _always_stored(model: torch.nn.Module) -> set[str]:
    """Names of the parameters that no pretrained weights give, whether they train or not."""
    elsewhere = tuple(getattr(model, "pretrained_parts", ()))
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    return {
        name
        for name, parameter in model.named_parameters()
        if id(parameter) in embeddings or not name.startswith(elsewhere)
    }


def _optimizer_tensors(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    tensors = {"rng.cpu": torch.get_rng_state()}
    for name, parameter in model.named_parameters():
        for field, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{name}/{field}"] = value.detach().cpu().contiguous()
    return tensors


def _fill(model: torch.nn.Module, stored: Mapping[str, torch.Tensor], path: Path) -> None:
    """Copy a checkpoint's tensors into a model. What it lacks must come from pretrained weights.

    Another stage may have trained other parts of them: what it stored is noted as `restored`, so that it is kept.
    """
    parameters = dict(model.named_parameters())
    stored = {name: value for name, value in stored.items() if name in parameters or not name.startswith(TRAINING_ONLY)}
    odd = sorted(
        {name for name in stored if name not in parameters or parameters[name].shape != stored[name].shape}
        | (_always_stored(model) - stored.keys())
    )
    if odd:
        raise SpecError(f"{path} is of another model ({odd[0]} differs); resume with the spec that it was written with")
    with torch.no_grad():
        for name, value in stored.items():
            parameters[name].copy_(value)
    model.restored = frozenset(stored)  # type: ignore[assignment]  # a plain attribute, no part of the model


def _like(field: str, value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    return value.clone() if field == "step" else value.to(parameter.device)


def _sealed(state: dict[str, Any]) -> bytes:
    """JSON whose first field is the digest of the rest."""
    body = json.dumps(state, sort_keys=True, indent=1).encode()
    return json.dumps({"digest": hashlib.blake2b(body, digest_size=32).hexdigest()}).encode() + b"\n" + body + b"\n"


def _unseal(data: bytes) -> dict[str, Any]:
    head, _, body = data.partition(b"\n")
    digest = hashlib.blake2b(body[:-1], digest_size=32).hexdigest()
    if head != json.dumps({"digest": digest}).encode() or not body.endswith(b"\n"):
        raise Damaged(f"{STATE} is truncated or altered")
    state: dict[str, Any] = json.loads(body)
    return state


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
