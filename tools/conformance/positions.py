"""Epochs divided among ranks, and resumed from every position, under the same topology and under others.

Here: the trials, with the ranks of a world in processes of their own.
Elsewhere: what a tool's batches are (sides), verdicts (verdict.py), thousands of resumes of ours alone (resume.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from tools.conformance.damage import Bench, Trial, Written, write
from tools.conformance.process import Answer, Tool
from tools.conformance.verdict import Verdict, judge_sequence

EVEN = (list(range(8)), list(range(8, 16)), list(range(16, 24)))
SECONDS = 60.0
Trials = Callable[[Tool, Bench], Iterator[Trial]]


class Topology(NamedTuple):
    """Ranks, samples a batch of a rank, and worker processes or threads of a rank."""

    ranks: int = 1
    batch: int = 2
    workers: int = 0


ALONE = Topology()


class Run(NamedTuple):
    """What all ranks gave: batches by rank, the states after each of them, and the first error or death."""

    batches: list[list[list[str]]]
    states: list[list[str]]
    error: str
    died: str

    @property
    def steps(self) -> list[list[str]]:
        """Samples of every step over all ranks, ranks in order."""
        return [[one for part in step for one in part or []] for step in zip_longest(*self.batches)]

    @property
    def sequence(self) -> list[str]:
        """All samples, step by step."""
        return [one for step in self.steps for one in step]


def resume_everywhere(shuffle: bool, topology: Topology = ALONE, places: int = 1) -> Trials:
    """One epoch, then from the state after every batch the rest of it, in a reader made anew."""

    def trials(tool: Tool, bench: Bench) -> Iterator[Trial]:
        written = write_mixture(tool, bench, places)
        steps = len(written.wanted) // (topology.ranks * topology.batch)
        whole = run(written, topology, shuffle, take=steps, mixed=places > 1)
        if _fault(whole) or len(whole.states[0]) < 2:
            yield _fault(whole) or Verdict("refused"), whole.error
            return
        for at in bench.spread(range(len(whole.states[0]) - 1)):
            states = [states[at] for states in whole.states]
            rest = run(written, topology, shuffle, states, take=len(whole.states[0]) - 1 - at, mixed=places > 1)
            begun, wanted = (
                [one for step in part for one in step] for part in (whole.steps[: at + 1], whole.steps[at + 1 :])
            )
            yield _fault(rest) or judge_sequence(rest.sequence, wanted, before=begun), rest.error

    return trials


def reshape(tool: Tool, bench: Bench) -> Iterator[Trial]:
    """Saved in the middle of an epoch under one topology, gone on with under another: each sample once in all."""
    written = write(tool, bench.folder, EVEN)
    for before, after in bench.spread([(a, b) for a in TOPOLOGIES for b in TOPOLOGIES if a != b]):
        whole = run(written, before, True)
        if _fault(whole) or len(whole.states[0]) < 3:
            yield _fault(whole) or Verdict("refused"), whole.error
            continue
        at = len(whole.states[0]) // 2 - 1
        rest = run(written, after, True, [states[at] for states in whole.states])
        begun = [one for step in whole.steps[: at + 1] for one in step]
        yield _fault(rest) or judge_sequence(sorted(begun + rest.sequence), sorted(written.wanted)), rest.error


def divide(shards: Iterable[Sequence[int]], worlds: Sequence[int]) -> Trials:
    """One shuffled epoch over so many ranks: each sample once, equal steps."""

    def trials(tool: Tool, bench: Bench) -> Iterator[Trial]:
        answer = tool.ask("write", folder=str(bench.folder / "probe"), shards=[list(shard) for shard in shards])
        if answer.error:
            yield Verdict("refused"), answer.error
            return
        written = write(tool, bench.folder, shards)
        for ranks in worlds:
            found = run(written, Topology(ranks, 1), True)
            lengths = {len(batches) for batches in found.batches}
            verdict = _fault(found) or judge_sequence(sorted(found.sequence), sorted(written.wanted))
            if verdict.word == "exact" and len(lengths) > 1:
                verdict = Verdict("uneven steps")
            yield verdict, found.error or f"batches of each rank: {[len(batches) for batches in found.batches]}"

    return trials


TOPOLOGIES = (Topology(1, 2), Topology(2, 2), Topology(3, 2), Topology(2, 1, 2), Topology(4, 1), Topology(1, 4, 2))


def run(
    written: Written,
    topology: Topology,
    shuffle: bool,
    states: Sequence[str] = (),
    take: int | None = None,
    mixed: bool = False,
) -> Run:
    """All ranks of a topology over an epoch, or over what is left of it after `states` (one a rank that was)."""
    tool = written.tool
    if topology.workers or topology.ranks > 1:
        tool.stop()  # worker processes are forked, which no process survives that has read in threads before
    _count[tool.name] += 1
    requests = []
    for rank in range(topology.ranks):
        how = {
            **topology._asdict(), "rank": rank, "shuffle": shuffle, "seed": 5, "run": _count[tool.name],
            "resuming": take is not None or bool(states), "mixed": mixed,
        }  # fmt: skip
        state = states[min(rank, len(states) - 1)] if states else None
        requests.append({"place": str(written.folder), "how": how, "state": state, "take": take})
    answers: list[Answer] = tool.ask_ranks("batches", requests, SECONDS)
    error = next((answer.error for answer in answers if answer.error), "")
    died = next((answer.died for answer in answers if answer.died), "")
    return Run([answer.seen for answer in answers], [answer.states for answer in answers], error, died)


def write_mixture(tool: Tool, bench: Bench, places: int) -> Written:
    """One dataset, or several of different sizes in folders of one."""
    if places == 1:
        return write(tool, bench.folder, EVEN)
    wanted: list[str] = []
    for number in range(places):
        start = 100 * number
        shards = [list(range(start, start + 6)), list(range(start + 6, start + 12 - 4 * number))]
        written = write(tool, bench.folder / str(number), shards)
        wanted += written.wanted
    return written._replace(folder=bench.folder, wanted=wanted)


_count: Counter[str] = Counter()


def _fault(found: Run) -> Verdict | None:
    if found.died:
        return Verdict(found.died)
    return Verdict("noticed") if found.error else None
