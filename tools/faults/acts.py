"""Splits, builds with one, `dedup` and `import`: what else writes into a dataset, disturbed at every call.

Here: these acts, killed, failing and without power; each must end as if nothing had happened, to the last file.
Elsewhere: plain builds (calls.py, errors.py, power.py), the observer that kills (runner.py), their inputs (tiny.py).
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from shardkit import build_dataset
from shardkit.curate.dedup import dedup
from shardkit.curate.plain import plain_spec
from shardkit.curate.split import split_dataset
from shardkit.errors import ShardkitError
from shardkit.spec import DedupOptions, SplitOptions
from shardkit.store.faults import Faults, Setting
from shardkit.store.fs import Observer, Operation
from shardkit.store.layout import BUILD_FOLDER, POINTER_PATH
from tools.faults import tiny
from tools.faults.calls import Kill
from tools.faults.disk import read_state
from tools.faults.errors import Injection, problems_of_message
from tools.faults.holds import problems_of_acknowledged, problems_of_crash, problems_of_finished
from tools.faults.power import DATASET, Cut, Recorded, cut_power
from tools.faults.runner import Killed, Watch, build_here, observed

SPLIT = SplitOptions(ratios={"train": 0.5, "test": 0.5})
AGAIN_CALLS = 30
"""Among so many calls of an act that is run again a second kill comes."""


class Act(NamedTuple):
    """Something that writes: `prepare` lays out what it needs beside the dataset, `run` does it and says the version.

    Both get the dataset's folder; `run` is what a user would do again after a crash.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Path], str]


class Undisturbed(NamedTuple):
    """How an act ends where nothing happens: version, calls, all files outside of `.build` with their bytes."""

    version: str
    log: list[Operation]
    files: dict[str, bytes]


def undisturbed(act: Act, root: Path) -> Undisturbed:
    """Do it once, recorded."""
    watch = Watch()
    act.prepare(root)
    version = _run(act, root, watch)
    return Undisturbed(version, watch.log, files_of(root))


def kill_each(act: Act, golden: Undisturbed, calls: Iterable[int], rng: random.Random, scratch: Path) -> Iterator[Kill]:
    """Kill the act at each of `calls`; every other one is killed once more when it is run again."""
    for number, call in enumerate(calls):
        root = scratch / f"call-{call}" / "dataset"
        act.prepare(root)
        killed, problems = [], []
        for at in (call, *[rng.randrange(1, AGAIN_CALLS)] * (number % 2)):
            try:
                _run(act, root, Watch(kill_at=at))
            except Killed:
                killed.append(at)
            problems += problems_of_crash(root)
        yield Kill(tuple(killed), problems + _again(act, golden, root))
        shutil.rmtree(root.parent)


def fail_each(act: Act, golden: Undisturbed, chosen: Iterable[Setting], scratch: Path) -> Iterator[Injection]:
    """Do the act under each fault, look at what it says and leaves, and run it again without."""
    for number, setting in enumerate(chosen):
        root = scratch / f"fault-{number}" / "dataset"
        act.prepare(root)
        problems, stopped = [], True
        try:
            version = _run(act, root, Faults(setting))
            stopped = False
            problems += [] if version == golden.version else [f"another version: {version}"]
        except ShardkitError as error:
            problems += problems_of_message(str(error), root)
        problems += problems_of_crash(root)
        yield Injection(setting, stopped, problems + _again(act, golden, root))
        shutil.rmtree(root.parent)


def cut_each(act: Act, golden: Undisturbed, rng: random.Random, count: int, scratch: Path) -> Iterator[Cut]:
    """Cut the power `count` times at random calls of the act, look at what the disk may hold, and run it again."""
    base = scratch / "recorded"
    act.prepare(base / DATASET)
    before, watch = read_state(base), Watch()
    version = _run(act, base / DATASET, watch)
    recorded = Recorded(base, watch.log, version, before)
    for number in range(count):
        folder = scratch / f"state-{number}"
        cut = cut_power(recorded, rng, folder)
        problems = cut.problems or _again(act, golden, folder / DATASET)
        kept = {path: data for path, data in cut.acknowledged.items() if not path.endswith(POINTER_PATH)}  # it moves on
        yield cut._replace(problems=[*problems, *problems_of_acknowledged(folder, kept)])
        shutil.rmtree(folder)
    shutil.rmtree(base)


def files_of(root: Path) -> dict[str, bytes]:
    """Every file of a dataset but what `.build` remembers: path relative to it -> bytes."""
    found = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in found
        if path.relative_to(root).parts[0] != BUILD_FOLDER
    }


def _again(act: Act, golden: Undisturbed, root: Path) -> list[str]:
    """Run it again; what is not as it would have been."""
    _run(act, root, None)
    files = files_of(root)
    different = {name for name, data in files.items() if golden.files.get(name) != data} | golden.files.keys() - files
    return [*problems_of_finished(root, golden.version), *(f"another file: {name}" for name in sorted(different))]


def _run(act: Act, root: Path, observer: Observer | None) -> str:
    with observed(observer):
        return act.run(root)


def _inputs(root: Path) -> None:
    """The rows of the small build and two that say nearly the same, in a folder beside the dataset."""
    folder = root.parent / "input"
    tiny.write_inputs(folder, "least")
    words = [f"word{at * at}" for at in range(60)]
    said = [" ".join(words), " ".join([*words[:-1], "other"])]
    near = [json.dumps({"question": text, "answer": "Yes."}).encode() + b"\n" for text in said]
    with (folder / "questions.jsonl").open("ab") as file:
        file.writelines(near)


def _built(root: Path) -> None:
    """A finished dataset."""
    _inputs(root)
    build_here(tiny.spec_of(root.parent, "least"), root)


def _messages(root: Path) -> None:
    """Two plain lines with a picture each, of which one is not there."""
    folder = root.parent / "input"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(tiny.picture(1))
    rows = [
        {
            "messages": [{"role": "user", "content": f"What is {at}?"}, {"role": "assistant", "content": "A picture."}],
            "images": [f"{'ab'[at]}.png"],
        }
        for at in range(2)
    ]
    (folder / "lines.jsonl").write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def _build_with_split(root: Path) -> str:
    spec = msgspec.structs.replace(tiny.spec_of(root.parent, "least"), split=SPLIT)
    return build_dataset(spec, out=root, workers=0).version


def _import(root: Path) -> str:
    return build_dataset(plain_spec(root.parent / "input", name="lines"), out=root, workers=0).version


ACTS: dict[str, Act] = {
    "build with a split": Act(_inputs, _build_with_split),
    "split": Act(_built, lambda root: split_dataset(root, SPLIT).version),
    "dedup": Act(_built, lambda root: dedup(str(root), DedupOptions()).version),
    "import": Act(_messages, _import),
}
