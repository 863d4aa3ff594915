"""Verifying a dataset: pointer, manifest, columns, dead letters, then every shard.

Here: the chain and its report.
Elsewhere: one shard with its index: its bytes (verify_bytes.py), all that is in it (verify_shard.py).
"""

from __future__ import annotations

from collections.abc import Callable

import blake3
import msgspec

from shardkit.errors import ShardDamaged
from shardkit.store.layout import (
    POINTER_PATH,
    Manifest,
    canonical,
    column_path,
    dead_letter_path,
    shard_path,
    version_path,
)
from shardkit.store.manifest import OMITTED, decode_omitted, read_column, read_dead_letters, read_manifest, read_pointer
from shardkit.store.reasons import CONTAMINATED, REASONS, WORDS, Reasons, decode_reasons
from shardkit.store.recovery import plan_gc
from shardkit.store.urls import ByteStore
from shardkit.store.verify_bytes import verify_bytes
from shardkit.store.verify_shard import Damage, Deep, Findings, verify_shard

__all__ = ["Damage", "Deep", "VerifyReport", "verify"]


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `samples` and `bytes` were read and checked; `extras`: files that nothing names, no damage."""

    version: str
    damages: tuple[Damage, ...]
    shards: int = 0
    samples: int = 0
    members: int = 0
    bytes: int = 0
    extras: tuple[str, ...] = ()


def verify(
    store: ByteStore,
    *,
    version: str | None = None,
    records: bool = True,
    deep: Deep | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Read everything that a version names once, and check it; damages are collected, not raised.

    Every byte is compared with the digests. With `records`, every sample's tar headers, record and key are compared
    with the index as well, which is work of a processor rather than of a disk: 10 to 20 times slower on small samples.
    `deep(name, data)` decodes a medium and raises Refused where it is broken; it needs `records`.
    `on_progress(done, total)` counts bytes of shards. Memory: the largest sample, or block with `tar.zst`.
    Raises NotADataset, StorageFailed.
    """
    findings = Findings(deep=deep, on_progress=on_progress)
    check = verify_shard if records or deep is not None else verify_bytes
    digest, manifest = _chain(store, version, findings)
    if manifest is not None:
        findings.total_bytes = sum(entry.shard.bytes for entry in manifest.shards)
        _columns(store, manifest, findings)
        _dead_letters(store, manifest, findings)
        for entry in manifest.shards:
            with findings.watch("shard", shard_path(entry)):
                check(store, entry, findings)
    return VerifyReport(
        version=digest,
        damages=tuple(findings.damages),
        shards=len(manifest.shards) if manifest is not None else 0,
        samples=findings.samples,
        members=findings.members,
        bytes=findings.bytes,
        extras=_extras(store, findings),
    )


def _chain(store: ByteStore, version: str | None, findings: Findings) -> tuple[str, Manifest | None]:
    digest = version or ""
    try:
        digest = version or read_pointer(store).version
        _, manifest = read_manifest(store, version)
        if blake3.blake3(canonical(manifest)).hexdigest() != digest:
            raise ShardDamaged("its content is not canonical JSON; publish the version again")
    except ShardDamaged as damage:
        findings.damage(*(("version", version_path(digest)) if digest else ("pointer", POINTER_PATH)), str(damage))
        return digest, None
    return digest, manifest


def _columns(store: ByteStore, manifest: Manifest, findings: Findings) -> None:
    omitted = 0
    for column in manifest.columns:
        path = column_path(column.file.digest)
        with findings.watch("column", path):
            data = read_column(store, column)
            if column.name == OMITTED:
                left_out = decode_omitted(data, path)
                omitted = sum(len(ordinals) for ordinals in left_out.values())
                _check_ordinals(manifest, left_out)
            elif column.name == REASONS:
                _check_reasons(manifest, decode_reasons(data, path))
    totals = manifest.totals
    stored = sum(entry.samples for entry in manifest.shards)
    if (totals.samples, totals.shards, totals.omitted) != (stored - omitted, len(manifest.shards), omitted):
        findings.damage("version", "manifest", "its totals are not those of its shards and columns; publish it again")


def _check_ordinals(manifest: Manifest, omitted: dict[int, tuple[int, ...]]) -> None:
    for shard, ordinals in omitted.items():
        if not 0 <= shard < len(manifest.shards) or ordinals[-1] >= manifest.shards[shard].samples:
            raise ShardDamaged(f"it names sample {ordinals[-1]} of shard {shard}, which is not there")


def _check_reasons(manifest: Manifest, reasons: Reasons) -> None:
    for shard in reasons.shards:
        rows = reasons.of_shard(shard)
        if shard >= len(manifest.shards) or int(rows["ordinal"][-1]) >= manifest.shards[shard].samples:
            raise ShardDamaged(f"it speaks of sample {rows['ordinal'][-1]} of shard {shard}, which is not there")
        kept = rows[rows["reason"] != WORDS.index(CONTAMINATED)]
        if len(kept) and int(kept["of_shard"].max()) >= len(manifest.shards):
            raise ShardDamaged(f"it names shard {kept['of_shard'].max()}, which is not there")


def _dead_letters(store: ByteStore, manifest: Manifest, findings: Findings) -> None:
    for ref in manifest.dead_letters:
        with findings.watch("dead letters", dead_letter_path(ref.digest)):
            read_dead_letters(store, ref)


def _extras(store: ByteStore, findings: Findings) -> tuple[str, ...]:
    if store.folder is None:
        return ()
    try:
        return tuple(path for path, _ in plan_gc(store.folder).files)
    except ShardDamaged as damage:
        if not any(found.what == "version" for found in findings.damages):
            findings.damage("version", "versions", str(damage))
        return ()
