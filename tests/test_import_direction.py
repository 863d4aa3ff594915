"""Rooms import in one direction, heavy packages are imported late, and nothing goes round in circles."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A room imports rooms further up in its table; rooms of one line may import each other.
SHARDKIT = (
    ("spec", "plain", "errors", "exits"),
    ("records",),
    ("store",),
    ("media",),
    ("synth",),
    ("sources",),
    ("build",),
    ("read",),
    ("curate",),
    ("report",),
    ("cli",),
    ("__main__",),
)
TRAINER = (
    ("spec",),
    ("digests", "pickles"),
    ("data",),
    ("model",),
    ("losses",),
    (
        "budget",
        "checkpoint",
        "checks",
        "closing",
        "distributed",
        "failure",
        "figures",
        "flops",
        "folder",
        "loop",
        "memory",
        "metrics",
        "objective",
        "optim",
        "plan",
        "probe",
        "resume",
        "scaler",
        "records",
        "run",
        "setting",
        "stages",
        "start",
        "step",
    ),
    ("eval",),
    ("export", "generate", "serve"),
    ("cli",),
    ("__main__",),
)
NEVER_IN_SHARDKIT = {"torch", "torchdata", "torchvision", "transformers", "peft", "bitsandbytes", "trainer", "tools"}
NEVER_IN_TRAINER = {"tools"}
LATE = {
    "bitsandbytes", "datasets", "huggingface_hub", "kagglehub", "matplotlib", "obstore", "peft", "playwright",
    "py3langid", "pyloudnorm", "ray", "scenedetect", "simplejpeg", "starlette", "tensorboard", "transformers",
    "uvicorn", "webdataset", "webrtcvad",
}  # fmt: skip
ABSENT_AFTER_IMPORT = ("torch", "transformers", "datasets", "webdataset", "ray", "av", "matplotlib", "trainer", "tools")


class Import(NamedTuple):
    """One imported module, and whether importing the file imports it."""

    target: str
    at_import: bool
    line: int


def python_files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def imports(source: str, package: str = "") -> Iterator[Import]:
    """Give every import of a file; `from a import b` gives a.b where that is a module of ours, otherwise a."""
    yield from visit(ast.parse(source), package, at_import=True)


def visit(node: ast.AST, package: str, at_import: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, at_import, node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = resolve(node, package)
        for alias in node.names:
            name = f"{base}.{alias.name}"
            yield Import(name if is_module(name) else base, at_import, node.lineno)
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for part in node.body:
            yield from visit(part, package, at_import=False)
        for part in node.orelse:
            yield from visit(part, package, at_import)
    else:
        late = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, package, at_import and not late)


def resolve(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parents, *([node.module] if node.module else [])])


def file_imports(path: Path) -> list[Import]:
    package = ".".join(path.relative_to(ROOT).parts[:-1])
    return list(imports(path.read_text(encoding="utf-8"), package))


def rank(rooms: tuple[tuple[str, ...], ...], name: str) -> int | None:
    return next((at for at, names in enumerate(rooms) if name in names), None)


def wrong_directions(package: str, rooms: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    """Name each import within a package that goes to a room further right, or to the package's own root."""
    for path in python_files(package):
        parts = module_name(path).split(".")
        if len(parts) == 1:
            continue  # the root exports what it likes
        here = rank(rooms, parts[1])
        if here is None:
            yield f"{path.relative_to(ROOT)}: the room {parts[1]!r} is in no table"
            continue
        for target, _, line in file_imports(path):
            if target.split(".")[0] != package:
                continue
            there = rank(rooms, target.split(".")[1]) if "." in target else None
            if there is None or there > here:
                yield f"{path.relative_to(ROOT)}:{line} imports {target}, which is not to its left"


def test_shardkit_rooms_import_only_to_their_left() -> None:
    assert list(wrong_directions("shardkit", SHARDKIT)) == []


def test_trainer_rooms_import_only_to_their_left() -> None:
    assert list(wrong_directions("trainer", TRAINER)) == []


@pytest.mark.parametrize(
    ("package", "never"), [("shardkit", NEVER_IN_SHARDKIT), ("trainer", NEVER_IN_TRAINER)], ids=["shardkit", "trainer"]
)
def test_package_never_imports(package: str, never: set[str]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {target}"
        for path in python_files(package)
        for target, _, line in file_imports(path)
        if target.split(".")[0] in never
    ]
    assert found == []


def test_trainer_imports_shardkit_only_from_its_root() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {target}"
        for path in python_files("trainer")
        for target, _, line in file_imports_of_names(path)
        if target.startswith("shardkit.")
    ]
    assert found == []


def file_imports_of_names(path: Path) -> Iterator[Import]:
    """Give imports as written: `from shardkit import build` is of the root, even where shardkit.build is a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, True, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield Import(node.module, True, node.lineno)


@pytest.mark.parametrize("package", ["shardkit", "trainer"])
def test_heavy_packages_are_imported_late(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {target} when it is imported"
        for path in python_files(package)
        for target, at_import, line in file_imports(path)
        if at_import and target.split(".")[0] in LATE
    ]
    assert found == []


@pytest.mark.parametrize("package", ["shardkit", "trainer", "tools"])
def test_modules_have_no_import_cycle(package: str) -> None:
    graph = {
        module_name(path): {
            target
            for target, at_import, _ in file_imports(path)
            if at_import and target.split(".")[0] == package and target != module_name(path)
        }
        for path in python_files(package)
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the modules of the cycle


def loaded_by(*arguments: str) -> set[str]:
    """Run Python with -X importtime and return the top-level packages that it imported."""
    command = [sys.executable, "-X", "importtime", *arguments]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    timed = [line for line in ended.stderr.splitlines() if line.startswith("import time:")]
    others = [line for line in ended.stderr.splitlines() if not line.startswith("import time:")]
    if ended.returncode:
        pytest.fail(f"{' '.join(arguments)} ended with {ended.returncode}:\n" + "\n".join(others), pytrace=False)
    names = (line.rpartition("|")[2].strip() for line in timed)
    return {name.split(".")[0] for name in names}


def test_import_shardkit_is_light() -> None:
    loaded = loaded_by("-c", "import shardkit")
    assert "shardkit" in loaded
    assert loaded.isdisjoint(ABSENT_AFTER_IMPORT)


def test_shardkit_help_is_light() -> None:
    if not (ROOT / "shardkit" / "__main__.py").is_file():
        pytest.skip("shardkit has no command line yet")
    loaded = loaded_by("-m", "shardkit", "--help")
    assert "shardkit" in loaded
    assert loaded.isdisjoint(ABSENT_AFTER_IMPORT)


def test_checker_sees_late_and_early_imports() -> None:
    source = "import a\nif TYPE_CHECKING:\n    import b\ndef f():\n    import c\nclass D:\n    from e import g\n"
    assert [(i.target, i.at_import) for i in imports(source)] == [("a", True), ("b", False), ("c", False), ("e", True)]


def test_checker_resolves_relative_imports() -> None:
    source = "from . import x\nfrom ..store import y\n"
    assert [i.target for i in imports(source, "shardkit.media")] == ["shardkit.media", "shardkit.store"]
