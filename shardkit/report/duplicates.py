"""A page of what a search for duplicates found: clusters side by side, samples that hold a benchmark's row.

Here: choosing clusters, marking differences, small pictures, writing the file.
Elsewhere: the search (curate.dedup), the template (duplicates.html.j2).
"""

from __future__ import annotations

import base64
import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shardkit.curate.benchmarks import read_rows
from shardkit.curate.dedup import Found
from shardkit.curate.features import pictures, plain_text, turns
from shardkit.curate.images import thumbnail
from shardkit.errors import Refused
from shardkit.read.dataset import Dataset
from shardkit.read.item import Item
from shardkit.read.shapes import record_to_show
from shardkit.store.reasons import CONTAMINATED, WORDS

MOST_CLUSTERS, MOST_OF_A_CLUSTER, MOST_CONTAMINATED = 60, 6, 60
LONGEST_WORDS = 400
"""Of a text, so many words are shown: comparing two takes time with the product of their lengths."""

LEAST_SHARED = 5
"""Words in a row that a sample shares with a benchmark's row before they are marked."""

Piece = tuple[str, str]
"""How a piece of text is marked (`same`, `more`, `less`), and the text."""


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """One sample of a cluster, its text beside that of the one that stays; thumbnails as data URIs."""

    key: str
    source: str
    similarity: str
    pieces: tuple[Piece, ...]
    thumbnails: tuple[str, ...]


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster: what stays, some of what goes, and how many more go."""

    kept: Copy
    copies: tuple[Copy, ...]
    more: int


class Contaminated(msgspec.Struct, frozen=True, kw_only=True):
    """A sample and the benchmark's row that it holds; shared words are marked `more` in both."""

    key: str
    source: str
    benchmark: str
    row: int
    pieces: tuple[Piece, ...]
    asked: tuple[Piece, ...]


def write_duplicates(dataset: Dataset, found: Found, path: Path) -> Path:
    """Write one self-contained HTML file about what was found in `dataset`; give its path back.

    Shows the largest clusters and the first contaminated samples. Raises ShardDamaged, StorageFailed, OSError.
    """
    page = _template().render(
        manifest=dataset.manifest,
        version=dataset.version,
        facts=_facts(dataset, found),
        benchmarks=found.benchmarks,
        clusters=list(_clusters(dataset, found)),
        contaminated=list(_contaminated(dataset, found)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path


def mark_changes(kept: str, other: str) -> tuple[Piece, ...]:
    """`other` in pieces: the same words as in `kept`, more than there, and (less) those that only `kept` has."""
    one, two = kept.split()[:LONGEST_WORDS], other.split()[:LONGEST_WORDS]
    matcher = difflib.SequenceMatcher(None, [_plain(word) for word in one], [_plain(word) for word in two], False)
    pieces: list[Piece] = []
    steps = matcher.get_opcodes()
    if steps and steps[-1][0] != "equal" and max(len(one), len(two)) == LONGEST_WORDS:
        steps.pop()  # what was cut off of one of them stands in the other
    for what, i, j, k, m in steps:
        if what == "equal":
            pieces.append(("same", " ".join(two[k:m])))
            continue
        pieces += [("less", " ".join(one[i:j]))] if j > i else []
        pieces += [("more", " ".join(two[k:m]))] if m > k else []
    return (*pieces, *_cut(other))


def mark_shared(text: str, other: str) -> tuple[Piece, ...]:
    """`text` in pieces; runs of at least LEAST_SHARED words that `other` has too are marked `more`."""
    one, two = text.split()[:LONGEST_WORDS], other.split()[:LONGEST_WORDS]
    matcher = difflib.SequenceMatcher(None, [_plain(word) for word in one], [_plain(word) for word in two], False)
    pieces: list[Piece] = []
    done = 0
    for block in matcher.get_matching_blocks():
        if block.size < LEAST_SHARED:
            continue
        pieces += [("same", " ".join(one[done : block.a]))] if block.a > done else []
        pieces.append(("more", " ".join(one[block.a : block.a + block.size])))
        done = block.a + block.size
    pieces += [("same", " ".join(one[done:]))] if done < len(one) else []
    return (*pieces, *_cut(text))


def _clusters(dataset: Dataset, found: Found) -> Iterator[Cluster]:
    """The largest clusters, then the first ones."""
    rows = found.omissions[found.omissions["reason"] != WORDS.index(CONTAMINATED)]
    places = rows["of_shard"].astype(np.uint64) << np.uint64(32) | rows["of_ordinal"]
    firsts, members, sizes = np.unique(places, return_inverse=True, return_counts=True)
    for cluster in np.argsort(-sizes, kind="stable")[:MOST_CLUSTERS].tolist():
        kept = _item(dataset, int(firsts[cluster]) >> 32, int(firsts[cluster]) & 0xFFFFFFFF)
        text = _text(kept)
        some = rows[np.flatnonzero(members == cluster)[:MOST_OF_A_CLUSTER]]
        copies = []
        for row in some:
            item = _item(dataset, int(row["shard"]), int(row["ordinal"]))
            reason = f"{WORDS[int(row['reason'])]}, {int(row['similarity']) / 10:.1f}%"
            copies.append(_copy(item, reason, mark_changes(text, _text(item))))
        first = _copy(kept, "stays", (("same", " ".join(text.split()[:LONGEST_WORDS])), *_cut(text)))
        yield Cluster(kept=first, copies=tuple(copies), more=int(sizes[cluster]) - len(copies))


def _contaminated(dataset: Dataset, found: Found) -> Iterator[Contaminated]:
    rows = found.omissions[found.omissions["reason"] == WORDS.index(CONTAMINATED)][:MOST_CONTAMINATED]
    wanted = {(int(row["of_shard"]), int(row["of_ordinal"])) for row in rows}
    asked = _rows_of(found, wanted)
    for row in rows:
        benchmark, number = int(row["of_shard"]), int(row["of_ordinal"])
        item = _item(dataset, int(row["shard"]), int(row["ordinal"]))
        text, question = _text(item), asked[benchmark, number]
        yield Contaminated(
            key=item.key,
            source=record_to_show(item).source,
            benchmark=found.benchmarks[benchmark].name,
            row=number,
            pieces=mark_shared(text, question),
            asked=mark_shared(question, text),
        )


def _rows_of(found: Found, wanted: set[tuple[int, int]]) -> dict[tuple[int, int], str]:
    """The texts of some rows of the benchmarks."""
    texts = {}
    for number, benchmark in enumerate(found.opened.found) if wanted else ():
        last = max((row for own, row in wanted if own == number), default=-1)
        for row, parts in enumerate(read_rows(benchmark)):
            if row > last:
                break
            if (number, row) in wanted:
                texts[number, row] = "\n".join(parts)
    return texts


def _item(dataset: Dataset, shard: int, ordinal: int) -> Item:
    return dataset.fetcher.read(dataset.fetcher.find_one(shard, ordinal))


def _text(item: Item) -> str:
    sample = record_to_show(item)
    return "\n".join(plain_text(content) for role, content in turns(sample) if role != "system")


def _copy(item: Item, similarity: str, pieces: Sequence[Piece]) -> Copy:
    sample = record_to_show(item)
    shown = []
    for member, _ in pictures(sample)[:4]:
        try:
            small = thumbnail(item.members[member])
        except Refused:
            continue
        shown.append(f"data:image/jpeg;base64,{base64.b64encode(small).decode()}")
    return Copy(
        key=item.key, source=sample.source, similarity=similarity, pieces=tuple(pieces), thumbnails=tuple(shown)
    )


def _facts(dataset: Dataset, found: Found) -> dict[str, str]:
    reasons = {word: found.count(word) for word in WORDS}
    facts = {"samples": f"{len(dataset):,}", "clusters": f"{found.clusters:,}"}
    facts |= {word: f"{count:,}" for word, count in reasons.items()}
    facts["left"] = f"{len(dataset) - len(found.omissions):,}"
    facts |= {"not comparable": f"{found.passed + found.unreadable:,}"} if found.passed + found.unreadable else {}
    return facts


def _plain(word: str) -> str:
    """A word as it is compared here: case and punctuation around it make no difference."""
    return word.casefold().strip(".,;:!?\"'()[]") or word


def _cut(text: str) -> tuple[Piece, ...]:
    more = len(text.split()) - LONGEST_WORDS
    return (("cut", f"… {more:,} words more"),) if more > 0 else ()


def _template() -> Any:
    import jinja2

    loader = jinja2.PackageLoader("shardkit", "report")
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined).get_template(
        "duplicates.html.j2"
    )
