"""The table of kinds of sources.

Here: from a spec to the source that it describes.
Elsewhere: the kinds themselves (a file each), their protocol (base.py).
"""

from __future__ import annotations

from collections.abc import Callable

from shardkit.sources.base import Source
from shardkit.sources.csv import Csv
from shardkit.sources.files import Files
from shardkit.sources.generated import Generated
from shardkit.sources.git import Git
from shardkit.sources.github_issues import GithubIssues
from shardkit.sources.http import Http
from shardkit.sources.hub import Hub
from shardkit.sources.json_list import Json
from shardkit.sources.jsonl import Jsonl
from shardkit.sources.kaggle import Kaggle
from shardkit.sources.parquet import Parquet
from shardkit.sources.plain import Plain
from shardkit.sources.shards import open_shards
from shardkit.spec import (
    AnySource,
    CsvSource,
    FilesSource,
    GeneratedSource,
    GithubIssuesSource,
    GitSource,
    HttpSource,
    HubSource,
    JsonlSource,
    JsonSource,
    KaggleSource,
    Limits,
    ParquetSource,
    PlainSource,
    ShardsSource,
    SourceSpec,
)

KINDS: dict[type[SourceSpec], Callable[..., Source]] = {
    CsvSource: lambda spec, seed, limits: Csv(spec),
    FilesSource: lambda spec, seed, limits: Files(spec, limits),
    GeneratedSource: lambda spec, seed, limits: Generated(spec, seed),
    GithubIssuesSource: lambda spec, seed, limits: GithubIssues(spec, limits),
    HubSource: lambda spec, seed, limits: Hub(spec, limits),
    GitSource: lambda spec, seed, limits: Git(spec),
    HttpSource: lambda spec, seed, limits: Http(spec, limits),
    JsonlSource: lambda spec, seed, limits: Jsonl(spec),
    JsonSource: lambda spec, seed, limits: Json(spec),
    KaggleSource: lambda spec, seed, limits: Kaggle(spec, limits),
    PlainSource: lambda spec, seed, limits: Plain(spec, limits),
    ParquetSource: lambda spec, seed, limits: Parquet(spec),
    ShardsSource: lambda spec, seed, limits: open_shards(spec, limits),
}
"""From a kind's struct to what reads it. A new kind is a struct in the room spec, a file here and a row."""


def open_source(spec: AnySource, seed: int, limits: Limits | None = None) -> Source:
    """The source that a spec describes; cheap, touches nothing.

    `seed` is the build's, used by generators that have none of their own. `limits` bound the files that are read whole.
    Raises SpecError (an unknown generator, wrong parameters).
    """
    return KINDS[type(spec)](spec, seed, limits or Limits())
