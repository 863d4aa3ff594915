"""One mutant's trial: a copy of the tree, one mutation in it, one named test.

Here: copying, applying, running the test, the verdict.
Elsewhere: which mutants there are (table.py).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
COPIED = ("shardkit", "trainer", "tools", "tests", "specs", "pyproject.toml")
TEST_SECONDS = 180.0
Verdict = Literal["killed", "survived", "does not apply", "test is broken", "hung"]
GOOD: tuple[Verdict, ...] = ("killed", "hung")
"""A test that never ends on a mutant has noticed it too."""

_PYTEST_PASSED, _PYTEST_FAILED = 0, 1


class Mutant(NamedTuple):
    """A safeguard taken out: in `file`, each exact text of `edits` (which must be there once) becomes its second.

    `tests` are pytest's names of tests; at least one must fail.
    """

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


class Trial(NamedTuple):
    """What became of a mutant."""

    mutant: Mutant
    verdict: Verdict
    seconds: float
    output: str = ""

    @property
    def noticed_by(self) -> str:
        """The test that failed, without its folder."""
        found = re.search(r"^FAILED tests/(\S+)", self.output, re.MULTILINE)
        return found[1] if found else ""


def copy_tree(target: Path) -> Path:
    """A copy of everything that the tests need, without caches."""
    target.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.is_file():
            shutil.copy2(source, target / name)
    data = ROOT.parent / "shared"
    if data.is_dir() and not (target.parent / "shared").exists():
        (target.parent / "shared").symlink_to(data)  # where the tests look for real data
    return target


def try_mutant(mutant: Mutant, tree: Path) -> Trial:
    """Apply a mutant in a copy, run its tests, take it back."""
    began = time.monotonic()
    path = tree / mutant.file
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    mutated = text
    for old, new in mutant.edits:
        if mutated.count(old) != 1:
            found = f"{mutant.file} holds this text {mutated.count(old)} times, wanted once:\n{old}"
            return Trial(mutant, "does not apply", 0.0, found)
        mutated = mutated.replace(old, new)
    path.write_text(mutated, encoding="utf-8")
    try:
        verdict, output = run_tests(mutant.tests, tree)
    finally:
        path.write_text(text, encoding="utf-8")
    return Trial(mutant, verdict, time.monotonic() - began, output)


def run_tests(tests: Sequence[str], tree: Path) -> tuple[Verdict, str]:
    """Run tests in a copy: `survived` where all pass, `killed` where one fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", "-rf", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    try:
        ended = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TEST_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return "hung", f"more than {TEST_SECONDS} s"
    output = (ended.stdout + ended.stderr)[-3000:]
    if ended.returncode == _PYTEST_FAILED:
        return "killed", output
    if ended.returncode == _PYTEST_PASSED and " passed" in ended.stdout:
        return "survived", output
    return "test is broken", output


def runs_in_copy(tree: Path) -> bool:
    """Whether a Python started in a copy imports the copy and not an installed package."""
    show = "import shardkit, pathlib; print(pathlib.Path(shardkit.__file__).resolve().parent.parent)"
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    ended = subprocess.run(
        [sys.executable, "-c", show], cwd=tree, env=environment, capture_output=True, text=True, check=True
    )
    return Path(ended.stdout.strip()) == tree.resolve()
