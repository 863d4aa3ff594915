"""The README's tree names every tracked file, each with its own description."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import readme_tree

ROOT = Path(__file__).resolve().parent.parent


def test_readme_tree_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = readme_tree.report_differences(text, readme_tree.with_block(text, readme_tree.block(ROOT)))
    assert code == 0, capsys.readouterr().err


def test_tree_has_a_line_for_each_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "shardkit" / "store").mkdir(parents=True)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").write_bytes(b"")
    (tmp_path / "shardkit" / "store" / "tar.py").write_text('"""Writes tars.\n\nMore.\n"""\n')
    (tmp_path / "shardkit" / "cli.py").write_text('"""Commands."""\n')
    (tmp_path / "a.yaml").write_text("# A mix of two\nx: 1\n")
    (tmp_path / "run").write_text("#!/usr/bin/env bash\n# Runs all\n")
    (tmp_path / "FORMAT.md").write_text("# The format\n")
    (tmp_path / "LICENSE").write_text("words")
    found = [line.split(maxsplit=1) for line in readme_tree.lines(tmp_path, list(readme_tree.tracked_files(tmp_path)))]
    assert found == [
        ["shardkit/"],
        ["store/"],
        ["tar.py", "Writes tars"],
        ["cli.py", "Commands"],
        ["FORMAT.md", "The format"],
        ["LICENSE", "Apache License 2.0"],
        ["a.yaml", "A mix of two"],
        ["run", "Runs all"],
    ]


def test_file_without_description_is_refused(tmp_path: Path) -> None:
    (tmp_path / "silent.py").write_text("x = 1\n")
    with pytest.raises(SystemExit, match="does not say what it is"):
        list(readme_tree.lines(tmp_path, [Path("silent.py")]))


def test_readme_without_markers_is_refused() -> None:
    with pytest.raises(SystemExit, match="no `<!-- tree -->`"):
        readme_tree.with_block("# shardkit\n", "```\n```")
