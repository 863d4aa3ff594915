"""The README's tree: one line for each tracked file, described by that file's own first line.

Here: listing, describing, printing, rewriting (`--write`) and checking (`--check`) the block between the markers.
Elsewhere: the descriptions themselves; they are docstrings, comments and headings of the files.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START, END = "<!-- tree -->", "<!-- /tree -->"
TOP = ("shardkit", "trainer", "tools", "specs", "tests", ".ci")
COLUMN = 40
NOT_OURS = {".git", ".venv", "__pycache__", "data", "runs", "build", "dist"}
# Files that cannot say what they are.
NAMED = {"LICENSE": "Apache License 2.0", "py.typed": "Marks the package as typed"}
BY_SUFFIX = {
    ".flac": "sound", ".wav": "sound", ".ogg": "sound", ".png": "picture", ".jpg": "picture", ".webp": "picture",
    ".mp4": "video", ".tar": "shard", ".parquet": "table", ".json": "record", ".jsonl": "records", ".idx": "index",
    ".zst": "compressed record", ".safetensors": "tensors", ".bin": "bytes", ".ttf": "font", ".csv": "table",
}  # fmt: skip


def main() -> int:
    """Print the block, or rewrite it (--write), or fail where it is out of date (--check)."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    wanted = with_block(text, block(ROOT))
    if "--write" in sys.argv[1:]:
        readme.write_text(wanted, encoding="utf-8")
    elif "--check" in sys.argv[1:]:
        return report_differences(text, wanted)
    else:
        print(block(ROOT))
    return 0


def report_differences(found: str, wanted: str) -> int:
    """Tell what `--write` would change; 1 where it would change anything."""
    if found == wanted:
        return 0
    before, after = set(found.splitlines()), set(wanted.splitlines())
    print("README.md's tree is out of date; run `python3 tools/readme_tree.py --write`", file=sys.stderr)
    for line in sorted(before ^ after):
        print("-" if line in before else "+", line, file=sys.stderr)
    return 1


def with_block(text: str, new_block: str) -> str:
    """Return the README's text with the part between the markers replaced."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise SystemExit(f"README.md has no `{START}` followed by `{END}`; add both lines where the tree belongs")
    return f"{before}{START}\n{new_block}\n{END}{after}"


def block(root: Path) -> str:
    """Return the fenced tree."""
    return "\n".join(["```", *lines(root, tracked_files(root)), "```"])


def tracked_files(root: Path) -> list[Path]:
    """List the files that git tracks, or in a tree without git all files that are ours; relative to the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True)
    if listed.returncode == 0 and listed.stdout:
        names = [Path(os.fsdecode(name)) for name in listed.stdout.split(b"\0") if name]
        return [name for name in names if (root / name).is_file()]
    return [path.relative_to(root) for path in walk(root)]


def walk(folder: Path) -> Iterator[Path]:
    """Go through a tree, leaving out environments, caches and outputs."""
    for path in folder.iterdir():
        if path.name in NOT_OURS or path.name.endswith((".egg-info", "_cache")):
            continue
        if path.is_dir():
            yield from walk(path)
        else:
            yield path


def lines(root: Path, files: list[Path]) -> Iterator[str]:
    """Give the tree's lines: folders first, each file with its description beside it."""
    shown: tuple[str, ...] = ()
    for path in sorted(files, key=order):
        folders = path.parts[:-1]
        for depth, folder in enumerate(folders):
            if folders[: depth + 1] != shown[: depth + 1]:
                yield f"{'  ' * depth}{folder}/"
        shown = folders
        yield f"{'  ' * len(folders)}{path.name}".ljust(COLUMN - 1) + f" {describe(root / path)}"


def order(path: Path) -> list[tuple[int, int, str]]:
    """Sort folders before files, the top folders as the design lists them, and the rest by name."""
    first = TOP.index(path.parts[0]) if path.parts[0] in TOP else len(TOP)
    folders = [(0, first if depth == 0 else 0, name) for depth, name in enumerate(path.parts[:-1])]
    return [*folders, (1, 0, path.name)]


def describe(path: Path) -> str:
    """Return what a file says of itself in its first line; SystemExit where it says nothing."""
    if path.name in NAMED:
        return NAMED[path.name]
    if path.suffix in BY_SUFFIX:
        return BY_SUFFIX[path.suffix]
    text = path.read_text(encoding="utf-8", errors="replace")
    found = docstring(text, path) if path.suffix == ".py" else first_words(text)
    if not found:
        raise SystemExit(f"{path} does not say what it is; begin it with a docstring, comment or heading of one line")
    return found.rstrip(".")


def docstring(text: str, path: Path) -> str:
    """Return the first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(text, str(path))) or "").partition("\n")[0].strip()


def first_words(text: str) -> str:
    """Return the first comment, heading or title of any other text; TOML without one gives its description."""
    for line in text.splitlines()[:12]:
        match = re.match(r"\s*(?:#+|//+|/\*+|<!--|--|\{#|<title>)\s*([^!\s].*?)\s*(?:\*/|-->|#\}|</title>)?$", line)
        if match:
            return match[1]
    return ""


if __name__ == "__main__":
    sys.exit(main())
