"""Verification and repair as a person or a machine watches them: a progress bar and damages, or JSON lines.

Here: showing what store.verify finds and store.repair does.
Elsewhere: finding and doing it (store.verify, store.repair).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from shardkit.errors import ShardDamaged
from shardkit.read.dataset import open_dataset
from shardkit.read.tar_set import is_tars
from shardkit.store.repair import RepairReport, repair
from shardkit.store.urls import ByteStore, open_store
from shardkit.store.verify import Damage, VerifyReport, verify

Deep = Callable[[str, bytes], None]


def store_of(url: str) -> ByteStore:
    """Where the bytes of a dataset lie, tars that others made included; a damaged dataset's own folder or server.

    Raises NotADataset, SpecError, StorageFailed.
    """
    try:
        return open_dataset(url).store
    except ShardDamaged:
        if is_tars(url):
            raise
        return open_store(url)


def report_verify(store: ByteStore, *, version: str | None, deep: Deep | None, as_json: bool) -> tuple[Damage, ...]:
    """Verify a dataset, show progress and every damage, and give the damages back.

    Without `deep` every byte is compared with its digest; with it records and media are looked into as well.
    """
    with ExitStack() as stack:
        on_progress = None if as_json else _bar(stack)
        found = verify(store, version=version, records=deep is not None, deep=deep, on_progress=on_progress)
    if as_json:
        _print_json(found)
    else:
        _print_text(found, store.url)
    return found.damages


def report_repair(
    root: Path, mirrors: Sequence[ByteStore], *, version: str | None, dry_run: bool, as_json: bool
) -> RepairReport:
    """Repair a dataset's folder, show progress, what was mended and what is left, and give the report back."""
    with ExitStack() as stack:
        on_progress = None if as_json else _bar(stack, "checking")
        found = repair(root, mirrors, version=version, dry_run=dry_run, on_progress=on_progress)
    if as_json:
        for kind, files in (("repaired", found.repaired), ("left", found.left)):
            for file in files:
                _json_line({"event": kind, **msgspec.to_builtins(file)})
        counts = {"repaired": len(found.repaired), "left": len(found.left)}
        _json_line({"event": "done", **msgspec.to_builtins(found), **counts})
        return found
    for mended in found.repaired:
        _line(f"{mended.how.upper()} {mended.path}" + (f" from {mended.source}" if mended.source else ""))
    for file in found.left:
        _line(f"DAMAGED {file.path}: {file.reason}")
    verdict = f"{len(found.repaired)} repaired, {len(found.left)} still damaged" if found.left or found.repaired else ""
    _line(f"{root}: {found.checked:,} files, {found.bytes:,} bytes: {verdict or 'all good'}")
    return found


def _bar(stack: ExitStack, doing: str = "verifying") -> Callable[[int, int], None] | None:
    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    progress = stack.enter_context(Progress(*columns, console=console, transient=True))
    task = progress.add_task(doing, total=None)
    return lambda done, total: progress.update(task, completed=done, total=total)


def _print_json(found: VerifyReport) -> None:
    for damage in found.damages:
        _json_line({"event": "damage", **msgspec.to_builtins(damage)})
    whole = {name: value for name, value in msgspec.to_builtins(found).items() if name != "damages"}
    _json_line({"event": "done", "damages": len(found.damages), **whole})


_VERIFY_HINT = re.compile(r"; run `shardkit verify[^`]*`$")
"""What errors advise while reading; here it was just done."""


def _print_text(found: VerifyReport, url: str) -> None:
    for damage in found.damages:
        _line(f"DAMAGED {damage.what} {damage.where}: {_VERIFY_HINT.sub('', damage.message)}")
    checked = f"{found.shards:,} shards, {found.samples:,} samples, {found.bytes:,} bytes"
    remedy = "`shardkit repair FOLDER --mirror URL` fetches again what is damaged"
    verdict = f"{len(found.damages)} damages found; {remedy}" if found.damages else "all good"
    _line(f"{url}: {checked}: {verdict}")


def _json_line(event: dict[str, Any]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\n")
    sys.stdout.buffer.flush()


def _line(text: str) -> None:
    print(text)  # noqa: T201 - the command's output
