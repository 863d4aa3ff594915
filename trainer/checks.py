"""What is wrong with a run and can be known before anything of it is loaded.

Here: settings that do not go together, what so many processes or this machine cannot do, data without what the loss
compares, or with held-out samples that would be trained on.
Elsewhere: ranges of single fields (spec), what only the model itself can tell (setting.py, objective.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from shardkit import Mixture, SpecError, open_loader
from trainer.data.apart import check_apart, unasked_splits
from trainer.data.media import Unfit
from trainer.data.preferences import answers_of
from trainer.data.reading import record_of
from trainer.data.sources import Data, choose_sources, open_data
from trainer.distributed import World
from trainer.objective import check_objective
from trainer.setting import choose_device, reading_of, share_of
from trainer.spec import PREFERENCES, RunSpec

LOOKED_AT = 64
"""Samples of a source that are read for a preference: a source's samples all went through one normaliser."""


def check_runs(runs: Sequence[RunSpec], data: str | Sequence[str], ranks: int = 1) -> None:
    """Refuse stages that could not be trained by so many processes on this machine. Raises SpecError.

    Datasets, where any are given or named, are opened and a few of their samples read if the loss compares answers.
    """
    for run in runs:
        choose_device(run)
        check_settings(run, ranks)
    for run in runs:
        if data or run.data.datasets:
            check_data(run, data)


def check_settings(spec: RunSpec, ranks: int = 1) -> None:
    """Refuse what does not go together in a spec, whatever the machine. Raises SpecError."""
    for check in CHECKS:
        check(spec, ranks)


def device_warnings(spec: RunSpec) -> tuple[str, ...]:
    """What this machine lacks for a run: of no matter to a plan for another one."""
    try:
        choose_device(spec)
    except SpecError as error:
        return (f"this machine could not train it: {error}",)
    return ()


def short_warnings(spec: RunSpec) -> tuple[str, ...]:
    """That a run ends while it warms up: right for a first try of a few steps, and for nothing else."""
    if spec.optimizer.warmup <= spec.steps:
        return ()
    return (
        f"optimizer.warmup is {spec.optimizer.warmup} and steps {spec.steps}: the learning rate is never reached; set "
        f"optimizer.warmup to at most steps, such as {spec.steps // 10}, or train longer",
    )


def data_warnings(spec: RunSpec, data: str | Sequence[str]) -> tuple[str, ...]:
    """What of the data a run would tell as it begins. Raises SpecError."""
    return tuple(unasked_splits(open_data(choose_sources(data, spec.data)), spec.data))


def check_data(spec: RunSpec, data: str | Sequence[str]) -> None:
    """Refuse held-out samples that would be trained on, and data without a preference for a loss that compares answers.

    Raises SpecError.
    """
    if spec.eval.where or spec.loss.name in PREFERENCES:
        opened = open_data(choose_sources(data, spec.data))
        check_apart(opened, spec.data, spec.eval.where)
        if spec.loss.name in PREFERENCES:
            _check_answers(spec, opened)


def _check_answers(spec: RunSpec, opened: Data) -> None:
    seen = 0
    for dataset in opened.datasets if isinstance(opened, Mixture) else (opened,):
        for sample in _of_every_source(dataset, spec):
            if _has_answers(sample, unpaired=spec.loss.name == "kto"):
                return
            seen += 1
    where = f" where {spec.data.where}" if spec.data.where else ""
    raise SpecError(
        f"loss.name is {spec.loss.name}, which compares answers, and none of the {seen} samples{where} that were "
        f"looked at has a preference with its prompt; give data of the normaliser `preference` (columns prompt, "
        f"chosen, rejected), or another loss"
    )


def _of_every_source(dataset: Any, spec: RunSpec) -> Iterator[Any]:
    """The first samples of every source of a dataset that the run's filter takes; of foreign tars the first ones."""
    fields: dict[str, Any] = {"batch_size": 1, "tail": "split", "on_damage": spec.data.on_damage}
    open_loader(dataset, where=spec.data.where, **fields)  # raises where the filter is wrong, or takes nothing
    for name in dataset.manifest.totals.by_source or (None,):
        with suppress(SpecError):  # the filter takes nothing of this source
            loader = open_loader(dataset, where=_of_source(spec.data.where, name), **fields)
            for items in islice(loader, LOOKED_AT):
                yield from (record_of(item) for item in items)


def _of_source(where: str | None, name: str | None) -> str | None:
    """A filter that takes of one source what another one takes."""
    quoted = None if name is None else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    clauses = [where, quoted and f"source={quoted}"]
    return ",".join(clause for clause in clauses if clause) or None


def _has_answers(sample: Any, *, unpaired: bool) -> bool:
    try:
        return sample is not None and bool(answers_of(sample, unpaired))
    except Unfit:
        return False


def _check_image(spec: RunSpec, ranks: int) -> None:
    config = spec.model.vision.config if spec.model.vision else {}
    size, patch = config.get("image_size"), config.get("patch_size")
    if not (isinstance(size, int) and isinstance(patch, int) and patch > 0) or not size % patch:
        return
    below, above = size // patch * patch, (size // patch + 1) * patch
    near = f"{below} or {above}" if below else str(above)
    raise SpecError(
        f"model.vision.config: image_size is {size} and patch_size {patch}: {size % patch} pixels at the edges would "
        f"not be seen; set image_size to {near}"
    )


def _check_shares(spec: RunSpec, ranks: int) -> None:
    mine = share_of(reading_of(spec), World(0, ranks))
    if spec.loss.name == "kto" and ranks > 1 and mine.batch_size < 2:
        raise SpecError(
            f"loss.name is kto and each of {ranks} processes has {mine.batch_size} sample of a part of a step; wanted "
            f"at least 2, for answers are tried on each other's prompts: raise batch_size, or lower accumulate"
        )


def _check_parallel(spec: RunSpec, ranks: int) -> None:
    if ranks == 1:
        return
    if spec.parallel == "none":
        raise SpecError(f"parallel is none and there are {ranks} processes; use ddp, fsdp or auto")
    if spec.parallel != "fsdp":
        return
    if spec.model.language.train == "qlora":
        raise SpecError("parallel is fsdp and the model is quantised, which cannot be cut up; use ddp or auto")
    if spec.optimizer.kind == "adamw8bit":
        raise SpecError("optimizer.kind is adamw8bit, which cannot be cut up; use parallel=ddp, or kind=adamw")


CHECKS: tuple[Callable[[RunSpec, int], None], ...] = (
    _check_image,
    _check_shares,
    _check_parallel,
    lambda spec, ranks: check_objective(spec),
)
"""Checks of a spec for so many processes. A new one is a function and a row here."""
