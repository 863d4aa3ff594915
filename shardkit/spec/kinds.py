"""All kinds of sources together.

Here: the union of the kinds, which a spec may name.
Elsewhere: the kinds (local.py, remote.py), what all have (source.py).
"""

from __future__ import annotations

from shardkit.spec import source
from shardkit.spec.local import (
    CsvSource,
    FilesSource,
    GeneratedSource,
    GitSource,
    JsonlSource,
    JsonSource,
    ParquetSource,
    PlainSource,
    ShardsSource,
)
from shardkit.spec.remote import GithubIssuesSource, HttpSource, HubSource, KaggleSource

AnySource = (
    FilesSource
    | JsonlSource
    | PlainSource
    | CsvSource
    | JsonSource
    | ParquetSource
    | HttpSource
    | KaggleSource
    | ShardsSource
    | GitSource
    | GithubIssuesSource
    | HubSource
    | GeneratedSource
)
vars(source)["AnySource"] = AnySource  # a source's fallback is any of them: msgspec looks the name up there
