"""An open run: dataset, stream, tokeniser, model, optimizer and where it stands, fresh or from a checkpoint.

Here: opening and closing one.
Elsewhere: what is done with it (loop.py), the files (checkpoint.py, metrics.py).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import torch

from shardkit import Mixture, ShardkitError, SpecError, open_loader
from trainer.checkpoint import (
    TOKENIZER,
    Copier,
    Progress,
    Snapshot,
    Writer,
    load_tensors,
    peek_progress,
    step_of,
    take_snapshot,
)
from trainer.checkpoint.generators import seed_generators
from trainer.data.adapter import ahead_on
from trainer.data.reading import Drawn, Reading, is_held_out, loader_fields, record_of, state_for
from trainer.data.sources import Data, choose_sources, open_data, versions_of
from trainer.data.stream import open_stream
from trainer.data.tokenise import Speech, load_speech, texts_of, train_speech
from trainer.distributed import World, choose_parallel
from trainer.failure import SkippedFile
from trainer.flops import count_step, device_peak
from trainer.losses.tokens import check_pieces
from trainer.memory import Room
from trainer.metrics import Metrics
from trainer.model.compiled import compile_regions
from trainer.model.isolation import check_isolation
from trainer.model.table import Model
from trainer.objective import open_loss
from trainer.optim import make_optimizer
from trainer.records import write_json
from trainer.resume import choose_start
from trainer.scaler import Scaler
from trainer.spec import RunSpec, SourceSpec, spec_digest_fields, without_secrets
from trainer.start import begin_model, find_weights

HELD_OUT, SPEC = "held_out.json", "run.json"
Report = Callable[[dict[str, Any]], None]


class RunLocked(ShardkitError):
    """Another process trains into the same folder."""


class Run:
    """Everything that the loop needs; use it through `open_run`."""

    def __init__(
        self,
        spec: RunSpec,
        data: Sequence[SourceSpec],
        out: Path,
        start: Path | None,
        world: World | None = None,
        report: Report = lambda event: None,
    ) -> None:
        self.spec = spec
        self.out = out
        self.world = world or World()
        self._report = report
        self.checkpoints = out / "checkpoints"
        self.device = choose_device(spec, self.world)
        fix_arithmetic(spec, self.device)
        found = peek_progress(start) if start else None
        self.dataset = open_data(data, found.version if found else "")
        self.reading = reading_of(spec)
        self.share = share_of(self.reading, self.world)
        self.speech = _speech_of(spec, start) or make_speech(spec, self.dataset, self.reading)
        seed_generators(spec.seed)
        self.model = begin_model(spec, self.speech, resumed=start is not None).to(self.device).train()
        self.peak_tflops = device_peak(self.device, spec.metrics.peak_tflops)
        check_length(self.model, spec)
        if spec.data.pack and spec.model.kind == "omni":
            check_isolation(self.model.language)
        # while the model has the weights that it begins with
        self.loss = open_loss(spec, self.model, self.speech, out, notes=self.world.is_first)
        self.arithmetic = count_step(self.model, self.loss, pieces=spec.speed.loss_chunk > 0)
        self._hasten()
        self.parallel = choose_parallel(spec.parallel, self.model, self.device, self.world)
        self.parallel.spread(self.model, self.device)
        self.trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = make_optimizer(self.model, spec)
        self.room = Room(spec.micro_batch, getattr(self.loss, "rows_together", 1), self.warn)
        self.progress = found or self._beginning()
        self.scaler = Scaler(self.device, spec.dtype, self.progress.scaler)
        if not (start and load_tensors(start, self.model, self.optimizer, self.world.rank)) and self.world.rank:
            seed_generators(hash((spec.seed, self.world.rank, self.step)) % 2**63)
        before = _read_held_out(out) if start else {}
        going_on = self.step < spec.steps  # what was measured later is not of these weights
        self.held_out = {name: found for name, found in before.items() if name == "before" or not going_on}
        self._measured: tuple[int, float] | None = None
        self._written = SkippedFile(out, self.step) if self.world.is_first else None
        self.metrics = Metrics(out, self.step, spec.metrics) if self.world.is_first else Unwritten()
        self.held_out_loss = self.metrics.held_out_loss
        self.writer = Writer(self.checkpoints, spec.checkpoint)
        self._copier = Copier()
        self.stream = self._open_stream()
        if spec.speed.ahead:
            self.stream = ahead_on(self.stream, self.device)

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.progress.step

    def advance(self, step: int, drawn: list[Drawn]) -> None:
        """Note that a step is done and what all ranks read for it."""
        batches = [each.batch for each in drawn if each.batch is not None]
        samples, tokens = (sum(len(batch.keys) for batch in batches), sum(batch.num_tokens for batch in batches))
        samples, tokens = self.world.sum(torch.tensor([samples, tokens])).tolist()
        self.progress = msgspec.structs.replace(
            self.progress,
            step=step,
            samples=self.progress.samples + samples,
            tokens=self.progress.tokens + tokens,
            reading=drawn[-1].state,
        )

    def snapshot(self) -> Snapshot | None:
        """The run's state as it is now, on rank 0; none on the others, which must ask too."""
        self.parallel.settle(self.model)
        measured = self._measured[1] if self._measured and self._measured[0] == self.step else None
        readings = tuple(self.world.gather(self.progress.reading)) if self.world.size > 1 else ()
        progress = msgspec.structs.replace(
            self.progress,
            held_out=measured,
            world_size=self.world.size,
            readings=readings,
            scaler=self.scaler.state(),
        )
        return take_snapshot(progress, self.model, self.optimizer, self.speech, world=self.world, copier=self._copier)

    def report(self, event: dict[str, Any]) -> None:
        """Tell what happened; rank 0 does so for all."""
        if self.world.is_first:
            self._report(event)

    def warn(self, text: str) -> None:
        """Warn of what happened on this rank, whichever it is."""
        where = f"rank {self.world.rank}: " if self.world.size > 1 else ""
        self._report({"event": "warning", "text": where + text})

    def tell(self, written: Iterable[Path]) -> None:
        """Report checkpoints that came to be whole."""
        for path in written:
            self.report({"event": "checkpoint", "step": step_of(path), "path": str(path)})

    def note_held_out(self, name: str, found: dict[str, Any]) -> None:
        """Keep a held-out loss in held_out.json; `before`, `newest` and `after` are the run's newest one.

        That decides which checkpoint is best.
        """
        self.held_out = {**self.held_out, name: found}
        if name in ("before", "newest", "after"):
            self.held_out_loss = found["loss"]
            self._measured = (self.step, found["loss"])
        if self.world.is_first:
            write_json(self.out / HELD_OUT, self.held_out)

    def note_skipped(self, entry: dict[str, Any]) -> None:
        """Write a skipped step with its samples into skipped.jsonl."""
        if self._written:
            self._written.write(entry)
        self.report({"event": "warning", "text": f"step {entry['step']} is skipped: {entry['reason']}"})

    def close(self) -> None:
        """Finish the checkpoint in flight, stop reading ahead and close the files."""
        self.writer.close()
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

    def _open_stream(self) -> Iterator[Drawn]:
        """This rank's batches from where the run stands."""
        own = (self.progress.reading,) if self.progress.reading else ()
        state = state_for(self.share, self.progress.readings or own)
        return open_stream(self.dataset, self.share, self.speech, self.model.senses, state)

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


class Unwritten:
    """The metrics of ranks that write none: rank 0 does so for all."""

    held_out_loss: float | None = None

    def write(self, entry: dict[str, Any]) -> dict[str, Any] | None:
        """Write nothing."""

    def note(self, **figures: float) -> None:
        """Note nothing."""

    def write_evaluation(self, entry: dict[str, Any]) -> None:
        """Write nothing."""

    def write_page(self) -> Path | None:
        """Write nothing."""

    def sync(self) -> None:
        """Nothing to sync."""

    def close(self) -> None:
        """Nothing to close."""


def reading_of(spec: RunSpec) -> Reading:
    """How a run reads, all ranks together: its batches are parts of its steps."""
    size = spec.batch_size // spec.accumulate
    return Reading(data=spec.data, seed=spec.seed, batch_size=size, accumulate=spec.accumulate)


def share_of(reading: Reading, world: World) -> Reading:
    """How this rank reads its part of every batch. Raises SpecError where ranks cannot share them evenly."""
    size, ranks = reading.batch_size, world.size
    if size % ranks:
        times = reading.accumulate
        raise SpecError(
            f"batch_size {size * times} in {times} parts is {size} a part, which {ranks} processes cannot share "
            f"evenly; give batch_size a multiple of {ranks * times}"
        )
    return msgspec.structs.replace(reading, batch_size=size // ranks, rank=world.rank, world_size=ranks)


@contextmanager
def open_run(
    spec: RunSpec, data: str | Sequence[str], out: Path, resume: str, report: Report, world: World | None = None
) -> Iterator[Run]:
    """A run in `out`, which rank 0 locks and every rank reads. Raises SpecError (bad input), RunLocked."""
    world = world or World()
    sources = choose_sources(data, spec.data)
    with _locked(out) if world.is_first else nullcontext():
        start = world.first(lambda: choose_start(spec, out, resume, report))
        run = Run(spec, sources, out, start, world, report)
        try:
            if world.is_first:
                write_json(out / SPEC, msgspec.to_builtins(without_secrets(spec)))
            run.report(_started(run, start))
            yield run
        finally:
            run.close()


def choose_device(spec: RunSpec, world: World | None = None) -> torch.device:
    """The device of a spec, each rank's own; raises SpecError where it is not there."""
    if spec.device == "cuda" and not torch.cuda.is_available():
        raise SpecError("device is cuda and torch finds no GPU; use device=cpu or device=auto")
    wanted = spec.device if spec.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cpu" or not world or world.size == 1:
        return torch.device(wanted)
    if world.local_rank >= torch.cuda.device_count():
        raise SpecError(f"{torch.cuda.device_count()} GPUs are here and more processes; start one a GPU by torchrun")
    return torch.device("cuda", world.local_rank)


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


def _speech_of(spec: RunSpec, start: Path | None) -> Speech | None:
    """The tokeniser beside the weights that a run goes on from, or begins with; none where they are not a run's."""
    weights = start or (find_weights(spec.start) if spec.start else None)
    return load_speech(str(weights / TOKENIZER)) if weights else None


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
        "processes": run.world.size,
        "parallel": run.parallel.kind,
        "arithmetic": run.arithmetic.formula(),
        "peak_tflops": run.peak_tflops,
    }


def _read_held_out(out: Path) -> dict[str, Any]:
    try:
        found = json.loads((out / HELD_OUT).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
