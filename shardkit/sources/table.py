"""The table of kinds of sources.

Here: from a spec to the source that it describes.
Elsewhere: the kinds themselves (files.py, jsonl.py, parquet.py, git.py, generated.py), their protocol (base.py).
"""

from __future__ import annotations

from shardkit.sources.base import Source
from shardkit.sources.files import Files
from shardkit.sources.generated import Generated
from shardkit.sources.git import Git
from shardkit.sources.jsonl import Jsonl
from shardkit.sources.parquet import Parquet
from shardkit.spec import AnySource, FilesSource, GeneratedSource, GitSource, JsonlSource, Limits


def open_source(spec: AnySource, seed: int, limits: Limits | None = None) -> Source:
    """The source that a spec describes; cheap, touches nothing.

    `seed` is the build's, used by generators that have none of their own. `limits` bound the files that are read whole.
    Raises SpecError (an unknown generator, wrong parameters).
    """
    if isinstance(spec, FilesSource):
        return Files(spec, limits or Limits())
    if isinstance(spec, JsonlSource):
        return Jsonl(spec)
    if isinstance(spec, GitSource):
        return Git(spec)
    if isinstance(spec, GeneratedSource):
        return Generated(spec, seed)
    return Parquet(spec)
