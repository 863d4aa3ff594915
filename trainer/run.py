"""An open run: dataset, stream, tokeniser, model, optimizer and where it stands, fresh or from a checkpoint.

Here: opening and closing one.
Elsewhere: what its spec asks of device, reading and tokeniser (setting.py), its folder (folder.py), what is done with
it (loop.py), its files (checkpoint, metrics).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import torch

from trainer.checkpoint import (
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
from trainer.data.apart import check_apart, unasked_splits
from trainer.data.reading import Drawn, state_for
from trainer.data.sources import choose_sources, open_data, versions_of
from trainer.data.stream import open_stream
from trainer.distributed import World, choose_parallel
from trainer.failure import SkippedFile
from trainer.flops import count_step, device_peak
from trainer.folder import HELD_OUT, SPEC, check_kind, locked, read_held_out
from trainer.losses.tokens import check_pieces
from trainer.memory import Room
from trainer.metrics import Metrics, Unwritten
from trainer.model.compiled import compile_regions
from trainer.model.isolation import check_isolation
from trainer.objective import open_loss
from trainer.optim import make_optimizer
from trainer.records import is_number, write_json
from trainer.resume import choose_start
from trainer.scaler import Scaler
from trainer.setting import (
    check_length,
    choose_device,
    fix_arithmetic,
    make_speech,
    reading_of,
    share_of,
    speech_of,
)
from trainer.spec import RunSpec, SourceSpec, spec_digest_fields, without_secrets
from trainer.start import begin_model

Report = Callable[[dict[str, Any]], None]


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
        check_apart(self.dataset, spec.data, spec.eval.where)
        self.reading = reading_of(spec)
        self.share = share_of(self.reading, self.world)
        self.speech = speech_of(spec, start) or make_speech(spec, self.dataset, self.reading)
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
        before = read_held_out(out) if start else {}
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
            self._measured = (self.step, found["loss"]) if is_number(found["loss"]) else None
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


@contextmanager
def open_run(
    spec: RunSpec, data: str | Sequence[str], out: Path, resume: str, report: Report, world: World | None = None
) -> Iterator[Run]:
    """A run in `out`, which rank 0 locks and every rank reads. Raises SpecError (bad input), RunLocked."""
    world = world or World()
    sources = choose_sources(data, spec.data)
    check_kind(out, chain=False)
    with locked(out) if world.is_first else nullcontext():
        start = world.first(lambda: choose_start(spec, out, resume, report))
        run = Run(spec, sources, out, start, world, report)
        try:
            if world.is_first:
                write_json(out / SPEC, msgspec.to_builtins(without_secrets(spec)))
            run.report(_started(run, start))
            for text in unasked_splits(run.dataset, spec.data) if world.is_first else ():
                run.report({"event": "warning", "text": text})
            yield run
        finally:
            run.close()


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
