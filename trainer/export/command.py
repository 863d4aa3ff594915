"""Exporting a trained model: `adapter`, `merged` or `deploy`, written whole or not at all.

Here: the order of what is written, publishing the folder.
Elsewhere: each part of it (language.py, parts.py, card.py), which checkpoint (find.py).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

import msgspec

from shardkit import ShardkitError, SpecError
from trainer.checkpoint import NEWEST
from trainer.data.tokenise import Speech
from trainer.digests import DIGESTS, write_digests
from trainer.export.card import make_card, serving
from trainer.export.facts import card_facts
from trainer.export.find import Trained, find_trained, load_trained, stored_parts
from trainer.export.language import merge_adapters, write_adapter, write_language
from trainer.export.parts import HERE, ExportRecord, carried, own_encoders, write_parts
from trainer.model.finite import first_not_finite
from trainer.model.omni import Omni
from trainer.spec import ModelSpec

Form = Literal["adapter", "merged", "deploy"]
CARD, SERVING = "README.md", "serving.json"


class ExportFailed(ShardkitError):
    """An export cannot be written, for example because the disk is full."""


class ExportJob(msgspec.Struct, frozen=True, kw_only=True):
    """What is exported, and how.

    `folder` is a run's, or a checkpoint; `checkpoint` says which of the run's: `newest`, `best`, or a path.
    `data` are the datasets for the model card, if not those that the run's spec names. `shard_size` as `5GB`.
    """

    folder: Path
    form: Form
    out: Path
    checkpoint: str | Path = NEWEST
    data: tuple[str, ...] = ()
    shard_size: str = "5GB"


def export_run(job: ExportJob, warn: Callable[[str], None]) -> Trained:
    """Write an export; the checkpoint that it was made of. The same checkpoint gives the same bytes.

    Raises SpecError (no such run, a damaged checkpoint, an `out` that is taken, adapters where there are none, weights
    that are not finite), ExportFailed.
    """
    if job.form not in get_args(Form):
        raise SpecError(f"--format {job.form}: there are {', '.join(get_args(Form))}")
    _check_free(job.out)
    trained = find_trained(job.folder, job.checkpoint, warn)
    model, speech = load_trained(trained)
    if not isinstance(model, Omni):
        raise SpecError(
            f"{job.folder} trained a model of kind {trained.spec.model.kind}, which is in no format of Hugging Face; "
            f"its checkpoints are plain safetensors: copy {trained.path}"
        )
    _check_finite(model, trained)
    with _published(job.out) as folder:
        _write(folder, job, trained, (model, speech), warn)
    return trained


def _write(
    folder: Path, job: ExportJob, trained: Trained, loaded: tuple[Omni, Speech], warn: Callable[[str], None]
) -> None:
    model, speech = loaded
    speech.save(folder)
    if job.form == "adapter":
        write_adapter(folder, model.language, trained.spec.model.language)
    else:
        merge_adapters(model)
        write_language(folder, model.language, speech, job.shard_size)
    record = _record(job.form, trained, model)
    write_parts(folder, model, record)
    if job.form == "deploy":
        facts = card_facts(trained, job.data, model)
        for missing in (dataset.missing for dataset in facts.datasets if dataset.missing):
            warn(f"the model card lacks sources and licences: {missing}")
        (folder / CARD).write_text(make_card(facts), encoding="utf-8")
        (folder / SERVING).write_text(serving(model, speech, record), encoding="utf-8")


def _record(form: Form, trained: Trained, model: Omni) -> ExportRecord:
    encoders = own_encoders(trained.spec.model, stored_parts(trained))
    spec = carried(trained.spec.model, model, encoders)
    return ExportRecord(
        form="adapter" if form == "adapter" else "merged",
        name=trained.spec.name,
        step=trained.progress.step,
        versions=tuple(trained.progress.version.split("+")),
        dtype=trained.spec.dtype,
        encoders=encoders,
        model=spec if form == "adapter" else _merged(spec),
    )


def _merged(spec: ModelSpec) -> ModelSpec:
    here = msgspec.structs.replace(spec.language, pretrained=HERE, config={}, train="frozen")
    return msgspec.structs.replace(spec, language=here)


def _check_finite(model: Omni, trained: Trained) -> None:
    """Refuse weights with numbers that are not finite: whoever gets them would find out by the answers."""
    name = first_not_finite(model)
    if name:
        raise SpecError(
            f"{trained.path}: {name} holds numbers that are not finite (NaN or infinite), and whatever is made of it "
            f"answers nonsense; export an earlier checkpoint with --checkpoint best or --checkpoint PATH"
        )


def _check_free(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SpecError(f"{out} is there already and not an empty folder; give another --out, or remove it")


@contextmanager
def _published(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when it is whole, and is removed if anything goes wrong.

    The digests of its files are the last of it, taken from what reached the disk.
    """
    temporary = out.absolute().parent / f".writing-{out.absolute().name}"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _sync(sorted(temporary.rglob("*")))
        write_digests(temporary)
        _sync([temporary / DIGESTS, temporary])
        temporary.rename(out)
        _sync([out.absolute().parent])
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":  # its own kind for a full disk
            raise ExportFailed(f"cannot write the export {out}: {error}; mend that and export again") from error
        raise


def _sync(paths: Sequence[Path]) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
