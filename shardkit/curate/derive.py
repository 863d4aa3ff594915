"""A new version over the shards of an old one.

Here: publishing it under the lock, with what made it and its parent; the versions that it comes from.
Elsewhere: which columns it has (split.py), the order on disk (store.publish).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from shardkit.errors import NotADataset, SpecError
from shardkit.store.layout import ColumnRef, Manifest, StepRecord
from shardkit.store.manifest import read_manifest
from shardkit.store.publish import lock, publish_version
from shardkit.store.recovery import clear_up
from shardkit.store.urls import ByteStore, open_store


def derive(root: Path, parent: str, column: Callable[[Path], ColumnRef], step: StepRecord) -> str:
    """Publish the version that `parent` becomes with one more (or another) column; its digest.

    `column` publishes the file of the column. A version that comes out the same as the parent is not published again.
    Raises SpecError where the dataset's current version is no longer `parent`, Locked, StorageFailed.
    """
    with lock(root):
        clear_up(root)
        current, manifest = read_manifest(open_store(root))
        if current != parent:
            raise SpecError(f"{root} went on to version {current[:12]} meanwhile; run the same command again")
        added = column(root)
        kept = tuple(ref for ref in manifest.columns if ref.name != added.name)
        columns = tuple(sorted((*kept, added), key=lambda ref: ref.name))
        if columns == manifest.columns and step == manifest.step:
            return current
        return publish_version(root, msgspec.structs.replace(manifest, parent=current, columns=columns, step=step))


def ancestry(store: ByteStore, version: str, manifest: Manifest) -> Iterator[tuple[str, Manifest]]:
    """A version and those that it comes from, the newest first, as far as they are still there."""
    while True:
        yield version, manifest
        if manifest.parent is None:
            return
        try:
            version, manifest = read_manifest(store, manifest.parent)
        except NotADataset:  # removed since
            return
