"""The structs of a dataset's files and where each file lies.

Here: manifest, shard entries, index heads and pages, commits; their canonical encoding; paths in a dataset.
Elsewhere: reading and writing them (tar, index, manifest, publish). specs/FORMAT.md describes every byte.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from shardkit.records.row import Cursor
from shardkit.spec import Codec

FORMAT = 1
"""Version of everything on disk. A reader refuses a higher one."""

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding a struct raises where the bytes are none: text that is not UTF-8 comes by an error of its own."""


class Stored(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of the structs on disk: typed, strict, defaults left out."""


Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 62) - 1)]
"""What counts something: no file of anybody has more, and sums of two fit 64 bits with a sign."""

Hex256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Hex128 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]


# gc=False: none of these can be part of a cycle, and looking through those of 100,000 shards took a quarter of opening.
class FileRef(Stored, frozen=True, kw_only=True, gc=False):
    """A content-addressed file: BLAKE3-256 of its bytes in hex, and how many bytes."""

    digest: Hex256
    bytes: Count


class Sums(Stored, frozen=True, kw_only=True, gc=False):
    """What a shard or a dataset holds. `audio_ms` in milliseconds (sound tracks of videos included)."""

    text_characters: int = 0
    images: int = 0
    pixels: int = 0
    audio_ms: int = 0
    frames: int = 0


class ShardEntry(Stored, frozen=True, kw_only=True, gc=False):
    """One shard as the manifest and a commit name it.

    `tar_bytes` is the length of the (uncompressed) tar. `head_bytes`/`head_digest` are the index's first bytes and
    their BLAKE3-128 in hex, so that a reader can fetch and check the head alone, then pages one by one.
    `modalities` counts samples by their set of modalities (`text`, `image+text`, …).
    `url` is where a tar that others made lies, relative to the dataset or absolute; empty for a shard of ours.
    """

    shard: FileRef
    codec: Codec
    tar_bytes: Count
    index: FileRef
    head_bytes: Count
    head_digest: Hex128
    samples: Count
    block_samples: Annotated[int, msgspec.Meta(ge=1)]
    source: str
    lane: str
    ordinal: int
    licences: tuple[str, ...] = ()
    modalities: dict[str, int] = {}
    sums: Sums = Sums()
    url: str = ""


class SourceRecord(Stored, frozen=True, kw_only=True):
    """One source as planned: its configuration without locations, its pinned revision, the tools that make its bytes.

    `decision` says why a fallback was taken, where one was. `held_out`: no model is trained on it.
    """

    name: str
    kind: str
    config: dict[str, Any]
    revision: str
    toolchain: dict[str, str]
    decision: str = ""
    held_out: bool = False


class LaneRecord(Stored, frozen=True, kw_only=True):
    """One build lane: a partition of a source and at most how many samples it gives (none: all).

    `chosen` is how many rows the source's sampling chooses, over all its lanes (none: rows come as they are).
    `budget` is how many bytes of tar the lane gives: it ends with the sample that reaches it (none: any number).
    `lends` is how many samples more it may give to make up for what others lack (none: any number); `after` names the
    lane behind which this one goes on, with such samples.
    """

    name: str
    source: str
    partition: int
    partitions: int
    quota: int | None = None
    chosen: int | None = None
    budget: int | None = None
    lends: int | None = 0
    after: str = ""


class PlanRecord(Stored, frozen=True, kw_only=True):
    """A plan without locations: what the bytes of a build depend on, and nothing else.

    `left_out` says of which sources of the spec there are no samples, and why.
    """

    name: str
    seed: int
    duplicates: Literal["omit", "keep"]
    limits: dict[str, Any]
    sources: tuple[SourceRecord, ...]
    lanes: tuple[LaneRecord, ...]
    left_out: tuple[str, ...] = ()

    @property
    def held_out(self) -> frozenset[str]:
        """Names of the sources on which no model is trained."""
        return frozenset(source.name for source in self.sources if source.held_out)


class ColumnRef(Stored, frozen=True, kw_only=True):
    """A file of per-version columns: `omitted` (ordinals left out), `split`, later quality scores."""

    name: str
    file: FileRef


class LaneTotals(Stored, frozen=True, kw_only=True):
    """What became of a lane's rows. rows = samples + duplicates + refused + filtered; `refused` counts reason codes.

    `filtered` rows were passed over because the source's spec does not want them.
    """

    rows: int = 0
    samples: int = 0
    duplicates: int = 0
    refused: dict[str, int] = {}
    filtered: int = 0


class Totals(Stored, frozen=True, kw_only=True):
    """What a version holds. `samples` counts live samples: those stored less the omitted ones."""

    samples: int
    shards: int
    bytes: int
    omitted: int = 0
    sums: Sums = Sums()
    by_source: dict[str, int] = {}
    by_modality: dict[str, int] = {}
    licences: tuple[str, ...] = ()


class StepRecord(Stored, frozen=True, kw_only=True):
    """What was done to a version's parent to make it without a build: a name (`split`, …) and its options."""

    name: str
    options: dict[str, Any] = {}


class Manifest(Stored, frozen=True, kw_only=True):
    """One immutable version of a dataset. Shards in the order of lanes, then of ordinals within a lane.

    `step` is absent where a build made the version, else what made it out of its parent's shards.
    """

    format: int = FORMAT
    name: str
    parent: str | None = None
    block_samples: int
    plan: PlanRecord
    plan_digest: str
    totals: Totals
    lanes: dict[str, LaneTotals] = {}
    shards: tuple[ShardEntry, ...]
    columns: tuple[ColumnRef, ...] = ()
    dead_letters: tuple[FileRef, ...] = ()
    step: StepRecord | None = None


class Pointer(Stored, frozen=True, kw_only=True):
    """manifest.json: which version is current (the digest names versions/<digest>.json.zst)."""

    format: int = FORMAT
    version: str
    bytes: int


class Commit(Stored, frozen=True, kw_only=True):
    """.build/lanes/<lane>/<n>.ckpt: the lane produced this shard and stands at `cursor`. Numbered from 0.

    `totals` are the lane's since its beginning. `done` marks the lane's last commit, which may have no shard.
    """

    format: int = FORMAT
    lane: str
    number: int
    shard: ShardEntry | None = None
    dead_letters: FileRef | None = None
    cursor: Cursor | None = None
    totals: LaneTotals
    done: bool = False


class DeadLetter(Stored, frozen=True, kw_only=True):
    """A row refused: where it lay in its source, the reason code, a detail, and how to try it again."""

    source: str
    position: str
    reason: str
    detail: str = ""
    retry: Cursor | None = None


def canonical(record: msgspec.Struct) -> bytes:
    """Canonical JSON: fields in declared order, keys of dicts sorted, no white space, defaults left out."""
    return msgspec.json.encode(record, order="deterministic")


def shard_path(entry: ShardEntry) -> str:
    """Where a shard lies, relative to the dataset, with `/`; a tar that others made may have an absolute URL."""
    return entry.url or f"shards/{entry.shard.digest[:2]}/{entry.shard.digest}.{entry.codec}"


def index_path(digest: str) -> str:
    """Where an index lies, relative to the dataset."""
    return f"indexes/{digest[:2]}/{digest}.idx"


def column_path(digest: str) -> str:
    """Where a file of columns lies, relative to the dataset."""
    return f"columns/{digest[:2]}/{digest}.col"


def dead_letter_path(digest: str) -> str:
    """Where a file of dead letters lies, relative to the dataset."""
    return f"deadletters/{digest[:2]}/{digest}.zst"


def version_path(digest: str) -> str:
    """Where a version's manifest lies, relative to the dataset."""
    return f"versions/{digest}.json.zst"


POINTER_PATH = "manifest.json"
BUILD_FOLDER = ".build"
CARDS_FOLDER = "cards"
