"""Verification as a person or a machine watches it: a progress bar and damages, or JSON lines.

Here: showing what store.verify finds.
Elsewhere: finding it (store.verify).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from shardkit.store.urls import ByteStore
from shardkit.store.verify import Damage, VerifyReport, verify

Deep = Callable[[str, bytes], None]


def report_verify(store: ByteStore, *, version: str | None, deep: Deep | None, as_json: bool) -> tuple[Damage, ...]:
    """Verify a dataset, show progress and every damage, and give the damages back."""
    with ExitStack() as stack:
        on_progress = None if as_json else _bar(stack)
        found = verify(store, version=version, deep=deep, on_progress=on_progress)
    if as_json:
        _print_json(found)
    else:
        _print_text(found, store.url)
    return found.damages


def _bar(stack: ExitStack) -> Callable[[int, int], None] | None:
    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    progress = stack.enter_context(Progress(*columns, console=console, transient=True))
    task = progress.add_task("verifying", total=None)
    return lambda done, total: progress.update(task, completed=done, total=total)


def _print_json(found: VerifyReport) -> None:
    for damage in found.damages:
        sys.stdout.buffer.write(msgspec.json.encode({"event": "damage", **msgspec.to_builtins(damage)}) + b"\n")
    whole = {name: value for name, value in msgspec.to_builtins(found).items() if name != "damages"}
    done = {"event": "done", "damages": len(found.damages), **whole}
    sys.stdout.buffer.write(msgspec.json.encode(done) + b"\n")
    sys.stdout.buffer.flush()


def _print_text(found: VerifyReport, url: str) -> None:
    for damage in found.damages:
        print(f"DAMAGED {damage.what} {damage.where}: {damage.message}")  # noqa: T201 - the command's output
    checked = f"{found.shards:,} shards, {found.samples:,} samples, {found.bytes:,} bytes"
    verdict = f"{len(found.damages)} damages found" if found.damages else "all good"
    print(f"{url}: {checked}: {verdict}")  # noqa: T201 - the command's output
