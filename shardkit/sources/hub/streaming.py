"""A split streamed through the package `datasets`, for what our own readers do not read.

Here: opening it at the pinned commit, state dicts as cursors, media undecoded.
Elsewhere: finding out what is wrong before it is asked (source.py), plain values as rows (sources.parquet).

State dicts are exact only where nothing is shuffled: nothing is. A resume opens the file again and passes over the
rows of it that are done.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from shardkit.errors import ShardkitError, SourceDamaged, SourceFailed, SpecError
from shardkit.records.row import Cursor, Row
from shardkit.sources.base import Step
from shardkit.sources.hub import messages
from shardkit.sources.hub.layout import Unknown
from shardkit.sources.hub.media import Media
from shardkit.sources.hub.messages import Asker
from shardkit.sources.listing import Entry
from shardkit.sources.parquet import row_from
from shardkit.spec import HubSource
from shardkit.store.hub_login import ENDPOINT, find_endpoint, find_token

RETRIES = 3
RETRY_SECONDS = 1
"""In place of 20 attempts with up to 60 s between them: the lane tries again by itself, and says so."""


class Streaming:
    """One split. Of at least P files of it partition p takes every P-th; of fewer, every P-th row."""

    def __init__(self, spec: HubSource, commit: str, asker: Asker, media: Media) -> None:
        self._spec, self._commit, self._asker, self._media = spec, commit, asker, media

    @staticmethod
    def toolchain() -> dict[str, str]:
        """What makes the rows. Raises SpecError where it is not installed."""
        try:
            return {"datasets": importlib.metadata.version("datasets")}
        except importlib.metadata.PackageNotFoundError:
            raise SpecError(
                "these files are read through the package datasets, which is not installed; pip install 'shardkit[hub]'"
            ) from None

    def check(self, entry: Entry) -> None:
        """Open the split and read its first row. Raises SpecError (no such config or split), SourceFailed."""
        del entry
        with self._failures():
            next(iter(self._open()), None)

    def rows(self, folder: Path, partition: int, partitions: int, cursor: Cursor | None) -> Iterator[Step]:
        """Rows in order; the cursor: rows so far, the state dict as JSON."""
        del folder
        with self._failures():
            stream, every = _shared(self._open(), partition, partitions)
            done = 0
            if cursor:
                done = int(cursor["row"])
                stream.load_state_dict(json.loads(str(cursor["state"])))
            for number, values in enumerate(stream, done):
                if number % every == partition % every:
                    row = self._media.complete(self._row(number, partition, every, values), "", self._unpack)
                    state = json.dumps(stream.state_dict(), separators=(",", ":"))
                    yield Step(row=row, cursor={"row": number + 1, "state": state})

    def _row(self, number: int, partition: int, every: int, values: dict[str, Any]) -> Row:
        place = f"{number + 1}" if every > 1 or not partition else f"{partition}.{number + 1}"
        row = row_from(f"{self._spec.config or 'default'}/{self._spec.split}:{place}", values)
        own = f"hf://datasets/{self._asker.dataset}@{self._commit}/"  # where the package says that a file of it lies
        fields = {
            name: value.replace(own, "") if name.endswith(".path") and isinstance(value, str) else value
            for name, value in row.fields.items()
        }
        return msgspec.structs.replace(row, fields=fields)

    def _unpack(self, path: str, most_bytes: int) -> bytes | None:
        """A file within an archive of the repository, `zip://inner::outer`; None for what is another, or too big."""
        inner, _, outer = path.partition("::")
        if not inner.startswith("zip://") or not outer or "::" in outer or "://" in outer:
            return None
        from datasets import DownloadConfig
        from datasets.utils.file_utils import xopen

        whole = f"{inner}::hf://datasets/{self._asker.dataset}@{self._commit}/{outer}"
        with xopen(whole, "rb", download_config=DownloadConfig(token=find_token() or False)) as stream:
            data: bytes = stream.read(most_bytes + 1)
        return data if len(data) <= most_bytes else None

    def _open(self) -> Any:
        """The split as an IterableDataset, its media as {bytes, path}."""
        datasets = self._package()
        spec = self._spec
        stream = datasets.load_dataset(
            self._asker.dataset,
            spec.config or None,
            split=spec.split,
            revision=self._commit,
            streaming=True,
            data_files={spec.split: list(spec.data_files)} if spec.data_files else None,
            data_dir=spec.data_dir or None,
            token=find_token() or False,
        )
        return stream.decode(False) if stream.features is not None else stream

    def _package(self) -> Any:
        """`datasets`, which takes its endpoint from the environment when it is first imported."""
        self.toolchain()
        import datasets

        wanted = self._spec.endpoint.rstrip("/") or find_endpoint()
        if datasets.config.HF_ENDPOINT.rstrip("/") != wanted:
            setting = f"HF_ENDPOINT={wanted}" if wanted != ENDPOINT else "no HF_ENDPOINT"
            raise SpecError(
                f"source {self._spec.name}: the package datasets asks the Hub of HF_ENDPOINT alone, and the source "
                f"names {wanted}; run with {setting}, or set `reader: files`"
            )
        for kind in ("READ", "OPEN"):
            setattr(datasets.config, f"STREAMING_{kind}_MAX_RETRIES", RETRIES)
        for why in ("READ_RETRY", "READ_SERVER_UNAVAILABLE_RETRY", "READ_RATE_LIMIT_RETRY", "OPEN_RETRY"):
            setattr(datasets.config, f"STREAMING_{why}_INTERVAL", RETRY_SECONDS)
        datasets.utils.logging.set_verbosity_error()
        datasets.disable_progress_bars()
        return datasets

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """The package's errors as ours, by their kind alone: their texts may quote addresses with signatures."""
        try:
            yield
            return
        except ShardkitError:
            raise
        except Exception as error:
            found = self._meaning(error)
        raise found from None

    def _meaning(self, error: Exception) -> ShardkitError:
        name, kind = self._spec.name, type(error).__name__
        unknown = _unknown(error, self._spec)
        if unknown is not None:
            return messages.not_there(self._asker, unknown)
        if any(base.__name__ in DAMAGE for base in type(error).__mro__):
            return SourceDamaged(
                f"source {name}: datasets cannot read {self._asker.dataset} ({kind}); look at {self._asker.page}, and "
                "give the files that can be read as `data_files`"
            )
        return SourceFailed(f"source {name}: reading {self._asker.dataset} through datasets failed ({kind}); run again")


DAMAGE = frozenset({"DatasetGenerationError", "ArrowInvalid", "CastError", "ValueError", "TypeError", "KeyError"})
"""Errors, by the names of their classes, that come again each time. Others are the network's."""


def _unknown(error: Exception, spec: HubSource) -> Unknown | None:
    """A config or split that `datasets` does not know, with those that it lists."""
    text = str(error)
    if isinstance(error, ValueError) and "split" in text and spec.split in text:
        return Unknown("split", spec.split, _names(text))
    if isinstance(error, ValueError) and ("BuilderConfig" in text or "Config name is missing" in text):
        return Unknown("config", spec.config, _names(text))
    return None


def _names(text: str) -> list[str]:
    return re.findall(r"'([^']+)'", text.partition("vailable")[2] or text.partition("among")[2])


def _shared(stream: Any, partition: int, partitions: int) -> tuple[Any, int]:
    """(the part of the stream that a partition reads, of which it takes every how manieth row)."""
    if partitions == 1:
        return stream, 1
    if stream.num_shards >= partitions:
        return stream.shard(num_shards=partitions, index=partition), 1
    return stream, partitions
