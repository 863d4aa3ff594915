"""Generated rows: row i is a pure function of (seed, generator, i).

Here: partitions and cursors over indices.
Elsewhere: the generators themselves (synth).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from blake3 import blake3

from shardkit.errors import Refused, SpecError
from shardkit.records.row import Cursor
from shardkit.sources.base import BadRow, Pinned, Step
from shardkit.sources.sampling import Scanned
from shardkit.spec import GeneratedSource


class Generated:
    """A `generated` source. Partition p of P is the p-th of P contiguous ranges of indices."""

    def __init__(self, spec: GeneratedSource, seed: int) -> None:
        from shardkit.synth.table import GENERATORS  # builds that generate nothing need not load its libraries

        if spec.generator not in GENERATORS:
            known = ", ".join(sorted(GENERATORS))
            raise SpecError(f"source {spec.name}: no generator {spec.generator!r}; there are: {known}")
        self.spec, self.generator = spec, GENERATORS[spec.generator]
        self.generator.check(spec.parameters)
        self.seed = seed if spec.seed is None else spec.seed

    def missing_tool(self) -> str:
        """What the generator misses on this machine."""
        return self.generator.missing_tool()

    def pin(self, folder: Path) -> Pinned:
        """The revision is a digest of generator, seed and parameters; nothing is made yet."""
        identity = {"generator": self.spec.generator, "seed": self.seed, "parameters": self.spec.parameters}
        revision = blake3(msgspec.json.encode(identity, order="deterministic")).hexdigest()
        return Pinned(revision=revision, toolchain=self.generator.toolchain(), rows=self.spec.count)

    def scan(self, folder: Path, columns: tuple[str, ...]) -> Iterator[Scanned]:
        """Every index, with the row's fields where some are wanted."""
        for index in range(self.spec.count):
            fields: dict[str, Any] = {}
            if columns:
                with suppress(Refused):
                    fields = self.generator.make(self.seed, index, dict(self.spec.parameters)).fields
            yield Scanned(fields, {"index": index})

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """Rows in order of index; the cursor is the next index."""
        count = self.spec.count
        first, stop = count * partition // partitions, count * (partition + 1) // partitions
        for index in range(max(first, int(cursor["index"])) if cursor else first, stop):
            try:
                row = self.generator.make(self.seed, index, dict(self.spec.parameters))
            except Refused as refused:
                yield Step(
                    row=BadRow(position=str(index), reason=refused.reason, detail=refused.detail),
                    cursor={"index": index + 1},
                )
            else:
                yield Step(row=row, cursor={"index": index + 1})
