"""The mutants' table fits the code as it is, and a trial tells survivors from those that a test notices."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.mutants.table import MUTANTS
from tools.mutants.trial import ROOT, Mutant, copy_tree, runs_in_copy, try_mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutant_applies_and_names_tests_that_exist(mutant: Mutant) -> None:
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    for old, new in mutant.edits:
        assert text.count(old) == 1, "the line has changed: change the table in tools/mutants too"
        text = text.replace(old, new)
    compile(text, mutant.file, "exec")
    for test in mutant.tests:
        path, _, name = test.partition("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert not name or re.search(rf"^def {name}\(", source, re.MULTILINE)


def test_names_of_mutants_differ() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_trial_tells_killed_from_survived_and_from_what_does_not_apply(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    assert runs_in_copy(tree)
    file, tests = "tools/faults/disk.py", ("tests/faults/test_disk.py",)
    before = (tree / file).read_text(encoding="utf-8")
    deaf = Mutant("deaf", file, (("        self.durable = bytes(self.now)\n", ""),), tests)
    harmless = Mutant("harmless", file, (('"""All of it is durable."""', '"""Forced."""'),), tests)
    gone = Mutant("gone", file, (("no such text", ""),), tests)
    broken = Mutant("broken", file, harmless.edits, ("tests/faults/test_disk.py::test_that_is_not_there",))
    verdicts = [try_mutant(mutant, tree).verdict for mutant in (deaf, harmless, gone, broken)]
    assert verdicts == ["killed", "survived", "does not apply", "test is broken"]
    assert (tree / file).read_text(encoding="utf-8") == before
