"""The command `python -m tools.faults`: every proof at the length that one asks for.

Here: options, progress, the summary line of figures; exit 1 where anything was wrong.
Elsewhere: the proofs themselves.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from shardkit.build.phase import PHASES
from shardkit.spec import Codec
from tools.faults import acts, calls, command, errors, kill, memory, mix, power, strace, tiny
from tools.faults.runner import build_here, record, scratch_folder
from tools.faults.warm import Warm

Figures = dict[str, Any]
T = TypeVar("T")
SHOWN_PROBLEMS = 10
CODECS: dict[str, Codec] = {"tar": "tar", "zstd": "tar.zst"}


class Work(NamedTuple):
    """What every proof gets: options, a stream of chance, an empty folder."""

    options: argparse.Namespace
    rng: random.Random
    scratch: Path
    problems: list[str]

    def watch(self, results: Iterable[T], total: int) -> list[T]:
        """Collect results, showing how far they have come."""
        collected: list[T] = []
        shown = time.monotonic()
        for result in results:
            collected.append(result)
            if time.monotonic() - shown > 2:
                shown = time.monotonic()
                print(f"{len(collected)} of {total}, {len(self.problems)} wrong", file=sys.stderr, flush=True)
            for problem in getattr(result, "problems", ()):
                self.problems.append(f"{result}" if len(str(result)) < 500 else problem)
                print(f"WRONG: {self.problems[-1]}", file=sys.stderr, flush=True)
        return collected


def main() -> int:
    """Run one proof; 0 where everything held."""
    options = _parser().parse_args()
    began = time.monotonic()
    with scratch_folder() as scratch:
        work = Work(options, random.Random(options.seed), scratch, [])
        figures = PROOFS[options.proof](work)
    figures |= {"wrong": len(work.problems), "seed": options.seed, "seconds": round(time.monotonic() - began, 1)}
    if options.json:
        print(json.dumps({"proof": options.proof, **figures}))
    else:
        print(f"{options.proof}: " + ", ".join(f"{name} {_shown(value)}" for name, value in figures.items()))
        for problem in work.problems[:SHOWN_PROBLEMS]:
            print(f"  {problem}")
    return int(bool(work.problems) or "skipped" in figures)


def run_kill(work: Work) -> Figures:
    """Random SIGKILLs of the process tree."""
    count = work.options.count or 200
    spec = tiny.write_build(work.scratch)
    golden = build_here(tiny.spec_of(work.scratch), work.scratch / "golden").version
    killer = kill.Killer(spec, golden, work.rng, work.scratch / "work")
    chains = work.watch(killer.chains(count), count)
    hits = {name: killer.hits[name] for name in (*PHASES, *sorted(set(killer.hits) - set(PHASES)))}
    return {
        "kills": killer.hits.total(),
        "builds": len(chains),
        "longest_chain": max(len(chain.hits) for chain in chains),
        "with_2_workers": sum(len(chain.hits) for chain in chains if chain.workers == 2),
        **hits,
    }


def run_mix(work: Work) -> Figures:
    """Random SIGKILLs of a mix of five sources, with exact quotas."""
    count = work.options.count or 50
    spec = mix.write_mix(work.scratch, work.options.data)
    golden = build_here(mix.mix_of(spec), work.scratch / "golden").version
    work.problems.extend(mix.problems_of_quotas(work.scratch / "golden"))
    killer = kill.Killer(spec, golden, work.rng, work.scratch / "work")
    chains = work.watch(killer.chains(count), count)
    return {
        "kills": killer.hits.total(),
        "builds": len(chains),
        "longest_chain": max(len(chain.hits) for chain in chains),
        "real_files": work.options.data.is_dir(),
        "quotas": mix.QUOTAS,
        **killer.hits,
    }


def run_strace(work: Work) -> Figures:
    """SIGKILL at every mutating system call."""
    if reason := strace.why_not():
        return {"skipped": reason}
    spec = tiny.write_build(work.scratch, "least")
    golden, log = record(tiny.spec_of(work.scratch, "least"), work.scratch / "golden")
    with Warm() as warm:
        found = strace.count_calls(warm, spec, work.scratch)
        chosen = found[:: work.options.every]
        kills = work.watch(strace.kill_at_calls(warm, spec, golden, chosen, work.scratch), len(chosen))
    return {
        "calls": len(found),
        "calls_of_the_writing_module": len(log),
        "killed": len(kills),
        "inside_the_dataset": sum(one.inside for one in kills),
        **Counter(one.call.name for one in kills),
    }


def run_calls(work: Work) -> Figures:
    """A kill at every call of the writing module, and while recovering."""
    spec = _spec(work)
    golden, log = record(spec, work.scratch / "golden")
    chosen = range(1, len(log) + 1, work.options.every)
    kills = work.watch(calls.kill_at_calls(spec, golden, chosen, work.rng, work.scratch / "work"), len(chosen))
    return {"calls": len(log), "builds": len(kills), "kills": sum(len(one.calls) for one in kills)}


def run_power(work: Work) -> Figures:
    """Power cuts at random calls of a build, and of one killed and resumed before."""
    count = work.options.count or 300
    spec = _spec(work)
    plain = power.record_plain(spec, work.scratch / "plain")
    killed = [
        power.record_killed(spec, work.scratch / f"killed-{number}", work.rng.randrange(1, len(plain.log)))
        for number in range(max(1, count // 20))
    ]
    cuts = work.watch(power.try_states(spec, plain, work.rng, count - count // 2, work.scratch / "work"), count)
    for recorded in killed:
        states = count // 2 // len(killed)
        cuts += work.watch(power.try_states(spec, recorded, work.rng, states, work.scratch / "work"), count)
    return {
        "states": len(cuts),
        "logs": 1 + len(killed),
        "calls": len(plain.log),
        "with_acknowledged_files": sum(bool(cut.acknowledged) for cut in cuts),
        **Counter(f"lost_{cut.loss}" for cut in cuts),
    }


def run_io(work: Work) -> Figures:
    """Full, failing, short and lying disks at every call."""
    spec = _spec(work)
    golden, log = record(spec, work.scratch / "golden")
    writes = sum(operation.kind == "write" for operation in log)
    chosen = list(errors.settings(len(log), writes, work.options.every))
    done = work.watch(errors.inject_each(spec, golden, chosen, work.scratch / "work"), len(chosen))
    shown = work.watch(command.fail_each(work.scratch / "command", work.options.commands), work.options.commands)
    names = Counter(f"{one.setting.fault}{'_lasting' if one.setting.lasting else ''}" for one in done)
    return {
        "calls": len(log),
        "writes": writes,
        "injections": len(done),
        "stopped": sum(one.stopped for one in done),
        "by_command": len(shown),
        **names,
    }


def run_acts(work: Work) -> Figures:
    """Splits, builds with one, dedup and imports: killed and failing at every call, power cuts at random ones."""
    figures: Figures = {}
    for name, act in acts.ACTS.items():
        folder = work.scratch / name
        golden = acts.undisturbed(act, folder / "golden" / "dataset")
        writes = sum(operation.kind == "write" for operation in golden.log)
        called = range(1, len(golden.log) + 1, work.options.every)
        kills = work.watch(acts.kill_each(act, golden, called, work.rng, folder), len(called))
        chosen = list(errors.settings(len(golden.log), writes, work.options.every))
        done = work.watch(acts.fail_each(act, golden, chosen, folder), len(chosen))
        count = work.options.count or 50
        cuts = work.watch(acts.cut_each(act, golden, work.rng, count, folder), count)
        figures[name] = f"{len(golden.log)} calls, {len(kills)} killed, {len(done)} failing, {len(cuts)} without power"
    return figures


def run_memory(work: Work) -> Figures:
    """Peak memory of a small and a large build."""
    figures: Figures = {}
    large = work.options.count or 50_000
    for workers in (1, 2):
        peaks = [memory.measure(count, workers, work.scratch / f"{workers}-{count}") for count in (large // 10, large)]
        work.problems.extend(memory.problems_of_peaks(*peaks))
        for peak in peaks:
            figures[f"workers_{workers}_samples_{peak.samples}_mib"] = round(peak.bytes / 2**20, 1)
            print(peak, file=sys.stderr, flush=True)
    return figures


def run_training(work: Work) -> Figures:
    """Random SIGKILLs of training; losses and weights bit for bit."""
    from tools.faults.training import Trainee

    count = work.options.count or 60
    runs = work.watch(Trainee(work.scratch).runs(count, work.rng), count)
    steps = [step for run in runs for step in run.steps]
    return {"kills": len(steps), "runs": len(runs), "different_steps": len(set(steps))}


def run_integrity(work: Work) -> Figures:
    """Every bit of a shard flipped, every byte cut: 0 silent."""
    from tools.faults.integrity import READERS, Victim

    figures: Figures = {"readers": len(READERS)}
    for name, codec in CODECS.items():
        victim = Victim(work.scratch / name, codec)
        total = 9 * len(victim.data) // work.options.every
        found = work.watch(victim.damages(work.options.every), total)
        figures |= {f"{name}_bytes": len(victim.data), f"{name}_damages": len(found)}
        figures[f"{name}_noticed"] = sum(damage.noticed for damage in found)
        figures[f"{name}_harmless"] = sum(damage.harmless for damage in found)
    return figures


PROOFS: dict[str, Callable[[Work], Figures]] = {
    "kill": run_kill,
    "mix": run_mix,
    "strace": run_strace,
    "calls": run_calls,
    "power": run_power,
    "io": run_io,
    "acts": run_acts,
    "memory": run_memory,
    "training": run_training,
    "integrity": run_integrity,
}


def _spec(work: Work) -> Any:
    tiny.write_inputs(work.scratch / "input", work.options.size)
    return tiny.spec_of(work.scratch, work.options.size)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.faults", description=__doc__)
    proofs = parser.add_subparsers(dest="proof", required=True)
    for name, proof in PROOFS.items():
        one = proofs.add_parser(name, help=(proof.__doc__ or "").strip())
        one.add_argument("--count", type=int, default=0, help="kills, states or samples; each proof has its default")
        one.add_argument("--every", type=int, default=1, help="only every k-th call")
        one.add_argument("--seed", type=int, default=0)
        one.add_argument("--size", choices=("tiny", "least", "large"), default="least", help="which small build")
        one.add_argument("--commands", type=int, default=20, help="how many faults also go through the command line")
        if name == "mix":
            one.add_argument("--data", type=Path, default=mix.REAL, help="a folder of real files")
        one.add_argument("--json", action="store_true", help="the figures as one JSON object")
    return parser


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    sys.exit(main())
