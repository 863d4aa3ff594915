"""An open run: dataset, stream, tokeniser, model, optimizer and where it stands, fresh or from a checkpoint.

Here: opening and closing one.
Elsewhere: what is done with it (loop.py), the files (checkpoint.py, metrics.py).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch

from shardkit import Mixture, ShardkitError, SpecError, open_loader
from trainer.checkpoint import (
    TOKENIZER,
    Damaged,
    Progress,
    find_checkpoint,
    list_checkpoints,
    load_tensors,
    read_progress,
)
from trainer.data.adapter import ahead_on
from trainer.data.reading import Drawn, Reading, is_held_out, loader_fields, record_of
from trainer.data.sources import Data, choose_sources, open_data, versions_of
from trainer.data.stream import open_stream
from trainer.data.tokenise import Speech, load_speech, texts_of, train_speech
from trainer.flops import count_model, device_peak
from trainer.losses.tokens import check_pieces
from trainer.metrics import Metrics
from trainer.model.compiled import compile_regions
from trainer.model.isolation import check_isolation
from trainer.model.precision import settle_precision
from trainer.model.table import Model, make_model
from trainer.objective import open_loss
from trainer.optim import make_optimizer
from trainer.spec import RunSpec, SourceSpec, spec_digest_fields, without_secrets

HELD_OUT, SPEC = "held_out.json", "run.json"
Report = Callable[[dict[str, Any]], None]


class RunLocked(ShardkitError):
    """Another process trains into the same folder."""


class Run:
    """Everything that the loop needs; use it through `open_run`."""

    def __init__(self, spec: RunSpec, data: Sequence[SourceSpec], out: Path, start: Path | None) -> None:
        self.spec = spec
        self.out = out
        self.checkpoints = out / "checkpoints"
        self.device = choose_device(spec)
        fix_arithmetic(spec, self.device)
        found = read_progress(start) if start else None
        self.dataset = open_data(data, found.version if found else "")
        self.reading = reading_of(spec)
        self.speech = load_speech(str(start / TOKENIZER)) if start else make_speech(spec, self.dataset, self.reading)
        torch.manual_seed(spec.seed)
        self.model = make_model(spec.model, self.speech)
        settle_precision(self.model, getattr(torch, spec.dtype))
        self.model.to(self.device).train()
        self.arithmetic = count_model(self.model, pieces=spec.speed.loss_chunk > 0)
        self.peak_tflops = device_peak(self.device, spec.metrics.peak_tflops)
        check_length(self.model, spec)
        if spec.data.pack and spec.model.kind == "omni":
            check_isolation(self.model.language)
        self._hasten()
        self.loss = open_loss(spec, self.model, self.speech, out)  # while the model has the weights that it begins with
        self.trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = make_optimizer(self.model, spec)
        self.progress = found or self._beginning()
        if start:
            load_tensors(start, self.model, self.optimizer)
        self.held_out = _read_held_out(out) if start else {}
        self.metrics = Metrics(out, self.step, spec.metrics)
        self.held_out_loss = self.metrics.held_out_loss
        state = self.progress.reading or None
        self.stream = open_stream(self.dataset, self.reading, self.speech, self.model.senses, state)
        if spec.speed.ahead:
            self.stream = ahead_on(self.stream, self.device)

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.progress.step

    def advance(self, step: int, drawn: list[Drawn]) -> None:
        """Note that a step is done and what it read."""
        batches = [each.batch for each in drawn if each.batch is not None]
        self.progress = msgspec.structs.replace(
            self.progress,
            step=step,
            samples=self.progress.samples + sum(len(batch.keys) for batch in batches),
            tokens=self.progress.tokens + sum(batch.num_tokens for batch in batches),
            reading=drawn[-1].state,
        )

    def note_held_out(self, name: str, found: dict[str, Any]) -> None:
        """Keep a held-out loss in held_out.json; `before`, `newest` and `after` are the run's newest one."""
        self.held_out = {**self.held_out, name: found}
        _write(self.out / HELD_OUT, self.held_out)
        if name in ("before", "newest", "after"):
            self.held_out_loss = found["loss"]

    def close(self) -> None:
        """Stop reading ahead and close the files."""
        close = getattr(self.stream, "close", None)
        if close:
            close()
        self.metrics.close()

    def _hasten(self) -> None:
        """What the spec's `speed` asks of the model."""
        self.model.loss_chunk = self.spec.speed.loss_chunk
        if self.model.loss_chunk:
            check_pieces(self.model)
        if self.spec.speed.compile == "regional":
            compile_regions(self.model)

    def _beginning(self) -> Progress:
        return Progress(
            step=0,
            samples=0,
            tokens=0,
            reading={},
            version=versions_of(self.dataset),
            spec=spec_digest_fields(self.spec),
            threads=self.spec.threads,
            torch=str(torch.__version__),
        )


def reading_of(spec: RunSpec) -> Reading:
    """How a run reads: its batches are parts of its steps."""
    size = spec.batch_size // spec.accumulate
    return Reading(data=spec.data, seed=spec.seed, batch_size=size, accumulate=spec.accumulate)


@contextmanager
def open_run(spec: RunSpec, data: str | Sequence[str], out: Path, resume: str, report: Report) -> Iterator[Run]:
    """A run in `out`, locked while open. Raises SpecError (bad input), RunLocked."""
    sources = choose_sources(data, spec.data)
    with _locked(out):
        start = find_start(out, resume, report)
        if start:
            check_same(spec, start, report)
        run = Run(spec, sources, out, start)
        try:
            _write(out / SPEC, msgspec.to_builtins(without_secrets(spec)))
            report(_started(run, start))
            yield run
        finally:
            run.close()


def find_start(out: Path, resume: str, report: Report) -> Path | None:
    """The checkpoint to go on from, none for a fresh run; raises SpecError where `resume` cannot be done."""
    checkpoints = out / "checkpoints"
    warn = lambda text: report({"event": "warning", "text": text})  # noqa: E731 - one line, used here only
    if resume == "auto":
        return find_checkpoint(checkpoints, warn)
    if resume == "none":
        if any(checkpoints.glob("step-*")):
            raise SpecError(f"{out} holds checkpoints and --resume is none; give another --out, or --resume auto")
        return None
    path = Path(resume)
    try:
        step = read_progress(path).step
    except Damaged as error:
        raise SpecError(f"--resume {resume}: no whole checkpoint ({error}); wanted a folder step-NNNNNNNN") from None
    later = [found for found in list_checkpoints(checkpoints) if int(found.name.removeprefix("step-")) > step]
    if later:
        raise SpecError(
            f"--resume {resume}: {out} holds later checkpoints, up to {later[-1].name}, of what would be trained anew; "
            f"give another --out, or remove them"
        )
    return path


def check_same(spec: RunSpec, start: Path, report: Report) -> None:
    """Refuse to resume with other settings; warn where the result would not repeat bit for bit."""
    progress = read_progress(start)
    wanted = json.loads(json.dumps(spec_digest_fields(spec)))
    differing = sorted(_differences(progress.spec, wanted))
    if differing:
        name, before, now = differing[0]
        more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        raise SpecError(
            f"{start} was written with {name} = {before}, the spec now says {now}{more}; "
            f"set it back, or start afresh with another --out"
        )
    for what, then, here in (
        ("threads", progress.threads, spec.threads),
        ("torch", progress.torch, str(torch.__version__)),
    ):
        if then != here:
            text = f"{start} was written with {what} {then}, now {here}: results can differ in the last bits"
            report({"event": "warning", "text": text})


def choose_device(spec: RunSpec) -> torch.device:
    """The device of a spec; raises SpecError where it is not there."""
    if spec.device == "cuda" and not torch.cuda.is_available():
        raise SpecError("device is cuda and torch finds no GPU; use device=cpu or device=auto")
    wanted = spec.device if spec.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(wanted)


def fix_arithmetic(spec: RunSpec, device: torch.device) -> None:
    """Make sums repeat: a fixed number of threads; on a GPU, where the spec asks for it, kernels that repeat theirs."""
    torch.set_num_threads(spec.threads)
    on_gpu = device.type == "cuda"
    if on_gpu and spec.speed.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(not on_gpu or spec.speed.deterministic, warn_only=on_gpu)


def check_length(model: Model, spec: RunSpec) -> None:
    """Refuse samples longer than the language model's positions, which would fail in the middle of a run."""
    most = getattr(model.language.config, "max_position_embeddings", None)
    if most and spec.data.max_tokens > most:
        raise SpecError(f"data.max_tokens is {spec.data.max_tokens}; the language model takes {most} at most")


def make_speech(spec: RunSpec, dataset: Data, reading: Reading) -> Speech:
    """The tokeniser of a fresh run: a pretrained one, or a BPE of the dataset's own training text."""
    if spec.tokenizer.pretrained:
        return load_speech(spec.tokenizer.pretrained)
    samples: list[Any] = []
    for items in open_loader(dataset, **loader_fields(reading, isinstance(dataset, Mixture))):
        mine = [record_of(item) for item in items if not is_held_out(item.key, spec.data.held_out)]
        samples += [sample for sample in mine if sample is not None]
        if len(samples) >= spec.tokenizer.samples:
            break
    return train_speech(texts_of(samples[: spec.tokenizer.samples]), spec.tokenizer.vocabulary)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SpecError(f"cannot write to the run's folder {out}: {error.strerror}; give another --out") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise RunLocked(f"{out} is being trained into by another process; wait for it or give another --out") from None
    finally:
        os.close(descriptor)


def _started(run: Run, start: Path | None) -> dict[str, Any]:
    return {
        "event": "start",
        "resumed_from": str(start) if start else "",
        "step": run.step,
        "steps": run.spec.steps,
        "version": run.dataset.version,
        "samples": len(run.dataset),
        "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        "trainable": sum(parameter.numel() for parameter in run.trainable),
        "device": str(run.device),
        "arithmetic": run.arithmetic.formula(),
        "peak_tflops": run.peak_tflops,
    }


def _differences(before: Any, now: Any, name: str = "") -> Iterator[tuple[str, str, str]]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {*before, *now}:
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    elif before != now:
        yield name, str(before), str(now)


def _read_held_out(out: Path) -> dict[str, Any]:
    try:
        found = json.loads((out / HELD_OUT).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
