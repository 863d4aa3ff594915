"""Verifying a tar that others made against its index: it is indexed once more, and both must be the same.

Here: that, and which samples differ.
Elsewhere: indexing (tar_index.py), shards of ours (verify_shard.py), the bytes alone (verify_bytes.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from shardkit.errors import Refused
from shardkit.store.foreign import ForeignLimits
from shardkit.store.index import Facts, IndexHead, IndexPage, IndexReader, MemberEntry, Rows, decode_head, decode_page
from shardkit.store.layout import ShardEntry, shard_path
from shardkit.store.tar_index import IndexedTar, index_tar
from shardkit.store.urls import ByteStore

Deep = Callable[[str, bytes], None]
Note = Callable[[str, str, str], None]
"""Takes a message, the sample's name and the member's, empty where it is of the whole."""


def verify_foreign(store: ByteStore, entry: ShardEntry, note: Note, deep: Deep | None = None) -> tuple[int, int]:
    """Read a tar once, in bounded memory, and compare it with its index; (samples, members) that were read.

    What the index says of a sample besides its bytes is taken as it is. `deep(name, data)` decodes a medium.
    Raises ShardDamaged where the tar cannot be read to its end, StorageFailed.
    """
    reader = IndexReader(store, entry)
    pages = list(reader.pages())
    told = _told(pages, reader.head)

    def describe(name: str, members: dict[str, bytes | None]) -> Facts:
        _decode(name, members, note, deep)
        return next(told, _UNKNOWN)

    made = index_tar(store, shard_path(entry), entry.shard.bytes, describe, ForeignLimits(unended=True))
    if made.entry.index != entry.index:
        _compare(made, reader.head, pages, note)
    elif made.entry.shard != entry.shard:
        note(f"its bytes do not have the digest {entry.shard.digest}", "", "")
    return made.entry.samples, sum(len(page.member_digests) // 16 for page in pages)


_UNKNOWN = Facts(0, 0, 0, 0, 0, "", "", "", "")


def _told(pages: list[IndexPage], head: IndexHead) -> Iterator[Facts]:
    words = (head.sources, head.categories, head.modality_sets, head.licences)
    for page in pages:
        columns = [page.column(name).tolist() for name in Facts._fields[:5]]
        for table, name in zip(words, ("sources", "categories", "modality_sets", "licences"), strict=True):
            columns.append([table[at] for at in page.column(name).tolist()])
        yield from (Facts(*row) for row in zip(*columns, strict=True))


def _decode(name: str, members: dict[str, bytes | None], note: Note, deep: Deep | None) -> None:
    for member, data in members.items():
        if deep is None or data is None or member.endswith("json"):
            continue
        try:
            deep(member, data)
        except Refused as refused:
            if refused.reason != "unknown-media":  # others may store what no decoder of ours knows
                note(f"cannot be decoded: {refused}", name, member)


def _compare(made: IndexedTar, head: IndexHead, pages: list[IndexPage], note: Note) -> None:
    """Name the first sample that is not the one in the index, and every one whose bytes differ."""
    found = list(_rows(*_decoded(made)))
    wanted = list(_rows(head, pages))
    if [row[0] for row in found] != [row[0] for row in wanted]:
        at = next((at for at, pair in enumerate(zip(found, wanted, strict=False)) if pair[0][0] != pair[1][0]), None)
        name = wanted[at][0] if at is not None else ""
        note(f"it holds {len(found)} samples, the index names {len(wanted)}, or others from here on", name, "")
        return
    before = len(wanted)
    for (name, span, members), (_, indexed_span, indexed_members) in zip(found, wanted, strict=True):
        changed = [old.name for new, old in zip(members, indexed_members, strict=False) if new != old]
        for member in changed:
            note("its bytes do not have the digest in the index", name, member)
        if not changed and (span != indexed_span or len(members) != len(indexed_members)):
            note("its span does not have the hash in the index", name, "")
        before -= span == indexed_span and members == indexed_members
    if not before:
        note("its bytes between the samples, or its end, are not those that were indexed", "", "")


def _decoded(made: IndexedTar) -> tuple[IndexHead, list[IndexPage]]:
    entry = made.entry
    head = decode_head(made.index[: entry.head_bytes], entry.head_digest, "its index")
    at = entry.head_bytes
    pages = []
    for ref in head.pages:
        pages.append(decode_page(made.index[at : at + ref.page_bytes], ref, "its index"))
        at += ref.page_bytes
    return head, pages


def _rows(head: IndexHead, pages: list[IndexPage]) -> Iterator[tuple[str, tuple[int, int, int], list[MemberEntry]]]:
    for page in pages:
        rows = Rows(page, head.member_names)
        for at in range(rows.samples):
            span = (rows.offsets[at], rows.sizes[at], rows.hashes[at])
            yield rows.key(at), span, rows.members(at)
