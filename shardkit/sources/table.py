"""The table of kinds of sources.

Here: from a spec to the source that it describes.
Elsewhere: the kinds themselves (files.py, jsonl.py, parquet.py, git.py, generated.py), their protocol (base.py).
"""

from __future__ import annotations

from collections.abc import Callable

from shardkit.sources.base import Source
from shardkit.sources.files import Files
from shardkit.sources.generated import Generated
from shardkit.sources.git import Git
from shardkit.sources.jsonl import Jsonl
from shardkit.sources.parquet import Parquet
from shardkit.spec import (
    AnySource,
    FilesSource,
    GeneratedSource,
    GitSource,
    JsonlSource,
    Limits,
    ParquetSource,
    SourceSpec,
)

KINDS: dict[type[SourceSpec], Callable[..., Source]] = {
    FilesSource: lambda spec, seed, limits: Files(spec, limits),
    GeneratedSource: lambda spec, seed, limits: Generated(spec, seed),
    GitSource: lambda spec, seed, limits: Git(spec),
    JsonlSource: lambda spec, seed, limits: Jsonl(spec),
    ParquetSource: lambda spec, seed, limits: Parquet(spec),
}
"""From a kind's struct to what reads it. A new kind is a struct in spec/kinds.py, a file here and a row."""


def open_source(spec: AnySource, seed: int, limits: Limits | None = None) -> Source:
    """The source that a spec describes; cheap, touches nothing.

    `seed` is the build's, used by generators that have none of their own. `limits` bound the files that are read whole.
    Raises SpecError (an unknown generator, wrong parameters).
    """
    return KINDS[type(spec)](spec, seed, limits or Limits())
