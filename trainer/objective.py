"""The loss of a run with all that it needs: a reference, a teacher.

Here: opening it, refusing what it cannot do, whether a resumed run's reference is the one that it began with.
Elsewhere: the losses (losses), the run that asks for one (run.py).

The reference is the policy as it began. A resumed run makes its model anew from the same weights and seed before it
takes the checkpoint's, so that what it began with is at hand once more; a fingerprint in the run's folder tells whether
it is the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import torch

from shardkit import SpecError, convert_spec
from trainer.checkpoint import TOKENIZER, find_checkpoint, list_checkpoints, load_model
from trainer.data.media import Senses
from trainer.data.tokenise import Speech, load_speech
from trainer.digests import ExportDamaged
from trainer.folder import SPEC
from trainer.losses.distil import DistilLoss
from trainer.losses.reference import Reference, differing
from trainer.losses.table import Loss, make_loss
from trainer.model.omni import Omni
from trainer.model.precision import settle_precision
from trainer.model.table import Model
from trainer.records import write_json
from trainer.spec import PREFERENCES, LanguageSpec, ModelSpec, RunSpec, TokenizerSpec

REFERENCE = "reference.json"


def open_loss(spec: RunSpec, model: Model, speech: Speech, folder: Path, *, notes: bool = True) -> Loss:
    """The loss of a run, ready. `speech` is told what of a sample to encode.

    To be called while the model has the weights that the run begins with, before its optimizer is made: before a
    checkpoint is loaded, behind everything else. `notes`: this process writes into the folder what the
    reference is; one of several ranks does. Raises SpecError where the loss cannot do what the spec asks.
    """
    check_objective(spec)
    loss = make_loss(spec.loss)
    speech.teaches = loss.teaches
    if isinstance(loss, DistilLoss):
        loss.teacher, loss.words = load_teacher(spec, model, speech), speech.vocabulary
    prepare = getattr(loss, "prepare", None)
    if prepare:
        prepare(model)
    reference = getattr(loss, "reference", None)
    if reference is not None:
        _check_reference(reference, folder, notes=notes)
    return loss


def check_objective(spec: RunSpec) -> None:
    """Raises SpecError where the run's data cannot be read as its loss needs it."""
    name = spec.loss.name
    if name == "contrastive":
        _check_contrast(spec)
    if name not in PREFERENCES:
        return
    if spec.data.pack:
        raise SpecError(f"loss.name is {name} and data.pack is given: {name} compares whole rows; take data.pack out")
    if name == "kto" and spec.batch_size // spec.accumulate < 2:
        raise SpecError(
            f"loss.name is kto and a part of a step has {spec.batch_size // spec.accumulate} sample; wanted at least "
            f"2, for the answers of one are tried on the prompts of others: raise batch_size, or lower accumulate"
        )


def _check_contrast(spec: RunSpec) -> None:
    if spec.model.vision is None and spec.model.audio is None:
        raise SpecError("loss.name is contrastive and the model has no encoder; give model.vision or model.audio")
    if not spec.data.pack and spec.batch_size // spec.accumulate < 2:
        raise SpecError(
            "loss.name is contrastive and a part of a step has 1 sample; wanted at least 2, each to be told from the "
            "others: raise batch_size, or lower accumulate"
        )


def load_teacher(spec: RunSpec, model: Model, speech: Speech) -> Omni:
    """The frozen teacher of a distilling run, on the model's device; raises SpecError where it does not fit."""
    assert spec.loss.distil is not None, "a DistilLoss has its fields"
    name, device = spec.loss.distil.teacher, next(model.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # nothing of the run depends on it
        teacher, own = _load_run(Path(name)) if (Path(name) / SPEC).is_file() else _load_pretrained(name)
    _check_tokens(own, speech, name)
    _check_senses(teacher.senses, model.senses, name)
    teacher.requires_grad_(False)
    settle_precision(teacher, getattr(torch, spec.dtype))
    return teacher.to(device).eval()


def teacher_spec(spec: RunSpec) -> RunSpec:
    """What the teacher of a distilling run is made from, for its sizes. Raises SpecError."""
    assert spec.loss.distil is not None, "a distilling run has its fields"
    name = spec.loss.distil.teacher
    if not (Path(name) / SPEC).is_file():
        language = LanguageSpec(pretrained=name, train="frozen")
        return RunSpec(name="teacher", tokenizer=TokenizerSpec(pretrained=name), model=ModelSpec(language=language))
    own = _read_run(Path(name))
    found = list_checkpoints(Path(name) / "checkpoints")
    return (
        msgspec.structs.replace(own, tokenizer=TokenizerSpec(pretrained=str(found[-1] / TOKENIZER))) if found else own
    )


def _read_run(folder: Path) -> RunSpec:
    try:
        spec = convert_spec(msgspec.json.decode((folder / SPEC).read_bytes()), RunSpec, str(folder / SPEC))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        raise SpecError(f"loss.distil.teacher: {folder / SPEC} is damaged; give a whole run's folder") from None
    if spec.model.kind != "omni":
        raise SpecError(
            f"loss.distil.teacher: {folder} trained a model of kind {spec.model.kind}, which has no language model "
            f"whose next token could be taught; give a run of kind omni, or a Hugging Face model"
        )
    return spec


def _load_run(folder: Path) -> tuple[Omni, Speech]:
    """The model of a run's newest whole checkpoint, and its tokeniser."""
    spec = _read_run(folder)
    path = find_checkpoint(folder / "checkpoints", lambda text: None)
    if path is None:
        raise SpecError(f"loss.distil.teacher: {folder} holds no whole checkpoint; train it first")
    own = load_speech(str(path / TOKENIZER))
    teacher = Omni(spec.model, own)
    load_model(path, teacher)
    return teacher, own


def _load_pretrained(name: str) -> tuple[Omni, Speech]:
    try:
        own = load_speech(name)
        return Omni(ModelSpec(language=LanguageSpec(pretrained=name, train="frozen")), own), own
    except ExportDamaged:
        raise
    except SpecError as error:
        raise SpecError(f"loss.distil.teacher {name}: {error}") from None


def _check_tokens(teacher: Speech, own: Speech, name: str) -> None:
    """Raises SpecError where the same text is not the same tokens."""
    theirs, ours = teacher.tokenizer.get_vocab(), own.tokenizer.get_vocab()
    odd = sorted(token for token in {*theirs, *ours} if theirs.get(token) != ours.get(token))
    if odd:
        raise SpecError(
            f"loss.distil.teacher: {name} has another tokeniser: {len(odd)} tokens differ, among them {odd[0]!r} "
            f"({theirs.get(odd[0], 'absent')} there, {ours.get(odd[0], 'absent')} here). Wanted the same one: set "
            f"tokenizer.pretrained to the teacher's"
        )


def _check_senses(teacher: Senses, own: Senses, name: str) -> None:
    """Raises SpecError where the teacher cannot take the media that the model is shown."""
    seen = ("image_size", "image_latents") if own.image_size else ()
    heard = ("mels", "window_frames", "waves", "audio_latents") if own.mels else ()
    for field in (*seen, *heard):
        if getattr(teacher, field) != getattr(own, field):
            raise SpecError(
                f"loss.distil.teacher: {name} takes media otherwise than the model: {field} is "
                f"{getattr(teacher, field)} there, {getattr(own, field)} here. Give a run's folder of the same vision "
                f"and audio, or distil a model of text"
            )


def _check_reference(reference: Reference, folder: Path, *, notes: bool) -> None:
    """Note the reference of a run that begins; of one that goes on, raise SpecError where it is another."""
    path, found = folder / REFERENCE, reference.fingerprint()
    try:
        wanted: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        if notes:
            write_json(path, found)
        return
    except ValueError:
        wanted = None
    if not isinstance(wanted, dict):
        raise SpecError(f"{path} is damaged, which tells what the run began with; start afresh with another --out")
    odd = differing(found, wanted)
    if odd:
        raise SpecError(
            f"the run began with other weights than can be made now ({odd} differs), and its loss compares with those. "
            f"Give the same pretrained weights and version of torch as then, or start afresh with another --out"
        )
