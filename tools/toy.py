"""The proof that the trainer's model sees and hears: `python -m tools.toy` builds, trains, asks, and prints a table.

Here: the stages, the table of right answers beside chance, the curve.
Elsewhere: the data (specs/builds/toy.yaml), the run (specs/runs/toy.yaml), what is measured (trainer.eval).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from shardkit import ShardkitError, SpecError, build_dataset, load_spec, open_dataset, open_loader, parse_settings
from trainer.spec import RunSpec, load_run

ROOT = Path(__file__).resolve().parent.parent
BUILD_SPEC = ROOT / "specs" / "builds" / "toy.yaml"
RUN_SPEC = ROOT / "specs" / "runs" / "toy.yaml"
MEDIUM = {"colour": "image", "shape": "image", "count": "image", "digits": "audio"}
"""What a category's questions ask about, and the medium that tells the answer."""
WANTED = 0.9
SIGMAS = 3.0
ALL = 1_000_000


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One category: held-out answers, the share that is right with the own medium, a blank one, another sample's.

    `chance` is the share that the best answer would get that is always the same.
    """

    category: str
    samples: int
    own: float
    blanked: float
    shuffled: float
    chance: float

    @property
    def ceiling(self) -> float:
        """The most that counts as chance: three standard deviations of so many guesses above it."""
        return self.chance + SIGMAS * math.sqrt(self.chance * (1 - self.chance) / self.samples)

    @property
    def shown(self) -> bool:
        """Whether the category proves that its medium is what answers come from."""
        return self.own > WANTED and max(self.blanked, self.shuffled) <= self.ceiling


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """The rows and what they took. `training_cpu_seconds` are of all threads; evaluations while training included."""

    rows: tuple[Row, ...]
    steps: int
    build_seconds: float
    training_seconds: float
    training_cpu_seconds: float
    page: str
    curve: str

    @property
    def shown(self) -> bool:
        """Whether all rows are."""
        return all(row.shown for row in self.rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, train, ask, print; 0 where everything is shown, 1 where it is not, 2 for bad input."""
    options = _options(arguments)
    try:
        spec = load_run(RUN_SPEC, parse_settings(options.settings))
        proof = prove(spec, options.out, options.sample)
    except ShardkitError as error:
        print(f"toy: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(as_json(proof)) if options.json else "\n".join(lines(proof)))
    return 0 if proof.shown else 1


def prove(spec: RunSpec, out: Path, sample: int | None = None) -> Proof:
    """Everything under `out`: `data`, `run` and the curve. A run that was stopped goes on. Raises ShardkitError."""
    from trainer.eval.command import EvalJob, evaluate_run
    from trainer.eval.heldout import open_measure
    from trainer.loop import train

    began = time.perf_counter()
    data = build(out / "data", sample)
    built, used = time.perf_counter(), _cpu_seconds()
    train(spec, str(data), out / "run", report=_tell, measure=open_measure())
    trained, spent = time.perf_counter() - built, _cpu_seconds() - used
    found = evaluate_run(EvalJob(folder=out / "run", data=str(data), samples=ALL, generate=ALL))
    rows = rows_of(found, expected_answers(str(data), spec))
    return Proof(
        rows=rows,
        steps=found["step"],
        build_seconds=built - began,
        training_seconds=trained,
        training_cpu_seconds=spent,
        page=found["page"],
        curve=str(draw_curve(out / "run", rows, out / "curve.png")),
    )


def build(folder: Path, sample: int | None) -> Path:
    """The dataset of the spec, or of `sample` samples a source; one that is there already stays."""
    build_dataset(load_spec(BUILD_SPEC), out=folder, sample=sample, workers=0)
    return folder


def expected_answers(data: str, spec: RunSpec) -> dict[str, Counter[str]]:
    """How often each answer is the true one among the held-out samples, by category."""
    counts: dict[str, Counter[str]] = {}
    for items in open_loader(open_dataset(data), batch_size=64, where=spec.eval.where, tail="split"):
        for item in items:
            counts.setdefault(item.sample.category, Counter())[item.sample.messages[-1].content] += 1
    return counts


def rows_of(found: Mapping[str, Any], expected: Mapping[str, Counter[str]]) -> tuple[Row, ...]:
    """The table out of an evaluation's figures; raises SpecError where a category was not measured."""
    rows = []
    for category, medium in MEDIUM.items():
        counts = expected.get(category, Counter())
        right = [_right(found, name, category) for name in ("after", f"blanked_{medium}", f"shuffled_{medium}")]
        if None in right or not counts:
            raise SpecError(f"no held-out answers about {category} were measured; eval.where, blank and shuffle say so")
        own, blanked, shuffled = (float(share or 0) for share in right)
        total = counts.total()
        chance = max(counts.values()) / total
        rows.append(Row(category=category, samples=total, own=own, blanked=blanked, shuffled=shuffled, chance=chance))
    return tuple(rows)


def lines(proof: Proof) -> list[str]:
    """The table for a person, and where to look."""
    head = f"{'held-out answers right':24}{'samples':>9}{'own medium':>12}{'blanked':>9}{'shuffled':>10}{'chance':>8}"
    body = [
        f"{row.category:24}{row.samples:>9,}{row.own:>12.1%}{row.blanked:>9.1%}{row.shuffled:>10.1%}{row.chance:>8.1%}"
        f"  {'shown' if row.shown else 'NOT SHOWN'}"
        for row in proof.rows
    ]
    return [
        head,
        *body,
        f"{proof.steps} steps in {proof.training_seconds:.0f} s ({proof.training_cpu_seconds:.0f} s of CPU), "
        f"the dataset in {proof.build_seconds:.0f} s",
        f"curve   {proof.curve}",
        f"answers {proof.page}",
    ]


def as_json(proof: Proof) -> dict[str, Any]:
    """The proof as plain values, with its verdicts."""
    rows = [{**msgspec.to_builtins(row), "ceiling": row.ceiling, "shown": row.shown} for row in proof.rows]
    return {**msgspec.to_builtins(proof), "rows": rows, "shown": proof.shown}


def draw_curve(run: Path, rows: Sequence[Row], path: Path) -> Path:
    """A PNG: the share of right held-out answers over the steps, and beside it the table as bars."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    from trainer.metrics import read_evaluations

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), dpi=120, width_ratios=(3, 2))
    told = [line for line in read_evaluations(run) if "answers" in line]
    for row in rows:
        shares = [line["answers"]["exact_match_by_category"].get(row.category) for line in told]
        left.plot(
            [line["step"] for line in told],
            [float("nan") if share is None else share for share in shares],
            label=row.category,
        )
    left.set(xlabel="step", ylabel="held-out answers right", ylim=(-0.02, 1.02), title="unseen combinations")
    left.axhline(WANTED, color="grey", linewidth=0.8, linestyle="--")
    left.legend(loc="center right")
    for at, name in enumerate(("own", "blanked", "shuffled", "chance")):
        places = [place + 0.2 * at for place in range(len(rows))]
        right.bar(places, [getattr(row, name) for row in rows], 0.2, label=name)
    right.set_xticks([place + 0.3 for place in range(len(rows))], [row.category for row in rows])
    right.set(ylim=(0, 1.16), title="with the own medium and without it")
    right.legend(loc="upper center", ncols=4, fontsize=7)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
    return path


def _right(found: Mapping[str, Any], name: str, category: str) -> float | None:
    answers = (found.get(name) or {}).get("answers", {})
    share: float | None = answers.get("exact_match_by_category", {}).get(category)
    return share


def _tell(event: Mapping[str, Any]) -> None:
    """Progress on stderr: what was measured while training."""
    if event["event"] == "evaluation":
        right = event.get("answers", {}).get("exact_match_by_category", {})
        shares = "  ".join(f"{category} {share:.0%}" for category, share in right.items())
        print(f"step {event['step']:>5}  held-out answers right: {shares}", file=sys.stderr, flush=True)
    elif event["event"] == "warning":
        print(f"toy: warning: {event['text']}", file=sys.stderr)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.toy", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/toy"), help="folder for data, run and curve")
    parser.add_argument("--sample", type=int, help="so many samples of every source in place of all")
    parser.add_argument("--set", dest="settings", action="append", metavar="A.B=C", help="a field of the run's spec")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
