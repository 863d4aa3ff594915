"""The files of a checkpoint: written whole or not at all, every byte checked before anything is used.

Here: the format, writing, reading where a run stood.
Elsewhere: which tensors (tensors.py), copying them out of a running model (snapshot.py), which checkpoints are kept
(kept.py), writing while training goes on (writer.py).

checkpoints/step-NNNNNNNN/ holds model.safetensors (what cannot be loaded from elsewhere), optimizer.safetensors
(the optimizer's state by parameter name), random.safetensors (the generators of every rank), tokenizer/, and state.json
with the digest of every other file and of itself. Tensors are whole, however many processes wrote or will read them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import torch

from shardkit import ShardkitError
from trainer.data.tokenise import Speech
from trainer.pickles import ADVICE, find_pickle, pickle_in
from trainer.records import strict_json

MODEL, OPTIMIZER, RANDOM = "model.safetensors", "optimizer.safetensors", "random.safetensors"
STATE, TOKENIZER = "state.json", "tokenizer"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run stands after `step`: JSON-safe, everything besides tensors.

    `reading` is the loader's state behind the last batch that was used, `version` the dataset's; `spec` the settings
    that a resume must repeat; `threads` and `torch` what bit-exact repetition depends on. `readings` are the states of
    all ranks where each has its own. `recent` are losses and gradient norms of the last good steps, `streak` the steps
    skipped in a row, `skipped` all of them; `overflows` are steps in which float16 did not do, `scaler` is the state of
    what scales for it. `held_out` is the held-out loss, where it was measured after this step.
    """

    step: int
    samples: int
    tokens: int
    reading: dict[str, Any]
    version: str
    spec: dict[str, Any]
    threads: int
    torch: str
    world_size: int = 1
    readings: tuple[dict[str, Any], ...] = ()
    recent: tuple[tuple[float, float], ...] = ()
    streak: int = 0
    skipped: int = 0
    overflows: int = 0
    scaler: dict[str, int | float] = {}
    held_out: float | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What a checkpoint holds, out of the running model's reach: tensors in host memory by name."""

    progress: Progress
    model: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    random: dict[str, torch.Tensor]
    speech: Speech


class Damaged(Exception):
    """A checkpoint that is not whole: missing, truncated or altered files."""


class CheckpointFailed(ShardkitError):
    """A checkpoint cannot be written, for example because the disk is full."""


def write_checkpoint(folder: Path, snapshot: Snapshot) -> Path:
    """Write checkpoints/step-N under a temporary name, fsync it, rename it: whole or not there, at any moment.

    Raises CheckpointFailed, and leaves nothing of it.
    """
    final = folder / f"step-{snapshot.progress.step:08d}"
    temporary = folder / f".writing-{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _write(temporary, snapshot)
        _publish(temporary, final)
    except Exception as error:  # safetensors and tokenizers have kinds of their own for a full disk
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointFailed(
            f"cannot write the checkpoint {final}: {error}; mend that and run again: it goes on from the one before"
        ) from error
    return final


def _write(temporary: Path, snapshot: Snapshot) -> None:
    from safetensors.torch import save_file

    temporary.mkdir(parents=True)
    for name, tensors in ((MODEL, snapshot.model), (OPTIMIZER, snapshot.optimizer), (RANDOM, snapshot.random)):
        save_file(tensors, temporary / name)
    snapshot.speech.save(temporary / TOKENIZER)
    files = {str(path.relative_to(temporary)): _digest(path) for path in sorted(temporary.rglob("*")) if path.is_file()}
    state = {"files": files, "progress": msgspec.to_builtins(snapshot.progress)}
    (temporary / STATE).write_bytes(_sealed(state))
    _sync_tree(temporary)


def _publish(temporary: Path, final: Path) -> None:
    if final.exists():  # a damaged one that a resume passed over
        aside = final.with_name(f".old-{final.name}")
        shutil.rmtree(aside, ignore_errors=True)
        final.rename(aside)
        temporary.rename(final)
        shutil.rmtree(aside)
    else:
        temporary.rename(final)
    _sync(final.parent)


def read_progress(path: Path) -> Progress:
    """Check every byte of a checkpoint and read its progress; raises Damaged saying what is wrong."""
    state = _read_state(path)
    try:
        for name, digest in state["files"].items():
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise Damaged(f"{STATE} names {name}, which is outside of it")
            if _digest(path / name) != digest:
                raise Damaged(_not_as_written(path / name, name))
        return msgspec.convert(state["progress"], Progress)
    except OSError as error:
        raise Damaged(f"{Path(str(error.filename)).name} cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Damaged(f"{STATE} is not a checkpoint's ({error})") from None


def peek_progress(path: Path) -> Progress:
    """A checkpoint's progress without a look at its other files; raises Damaged where state.json is not whole."""
    try:
        return msgspec.convert(_read_state(path)["progress"], Progress)
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"{STATE} is not a checkpoint's ({error})") from None


def _read_state(path: Path) -> dict[str, Any]:
    pickle = find_pickle(path)
    if pickle:
        raise Damaged(f"{pickle}, {ADVICE}; a checkpoint is a folder of safetensors and JSON")
    try:
        return _unseal((path / STATE).read_bytes())
    except OSError as error:
        raise Damaged(f"{STATE} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Damaged(f"{STATE} is not a checkpoint's ({error})") from None


def _not_as_written(path: Path, name: str) -> str:
    pickle = pickle_in(path)
    return f"{name} is {pickle}, {ADVICE}" if pickle else f"{name} is not what {STATE} says"


def _sealed(state: dict[str, Any]) -> bytes:
    """JSON whose first field is the digest of the rest."""
    body = strict_json(state, sort_keys=True, indent=1).encode()
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
