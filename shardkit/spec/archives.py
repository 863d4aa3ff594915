"""Media that lie in archives apart from the rows that name them.

Here: which archives, and how a row's text names a member of them.
Elsewhere: the source that has them (remote.py), finding and reading the members (sources.archives).
"""

from __future__ import annotations

from typing import Literal

from shardkit.spec.base import Strict

ZIP, TARS = ".zip", (".tar", ".tar.gz", ".tgz")


class Archive(Strict, frozen=True, kw_only=True):
    """The archives that hold the media of one column.

    `files` are globs over the repository's paths: all of zip files, or all of tars (.tar, .tar.gz, .tgz). `key` is the
    column whose text names a member (empty: the one that is filled), with `prefix` before and `suffix` behind it.
    `match`: by the whole `path`, by the `name` behind its last slash, or by its `stem`, the name without its ending.
    """

    files: tuple[str, ...]
    key: str = ""
    match: Literal["path", "name", "stem"] = "path"
    prefix: str = ""
    suffix: str = ""

    @property
    def is_zip(self) -> bool:
        """Whether they are zip files, whose members are read by ranges in any order; tars are read in their own."""
        return self.files[0].endswith(ZIP)

    def __post_init__(self) -> None:
        zips = sum(path.endswith(ZIP) for path in self.files)
        tars = sum(path.endswith(TARS) for path in self.files)
        if not self.files or len(self.files) not in (zips, tars):
            raise ValueError(f"archives: files is {list(self.files)}; wanted patterns of .zip, or of .tar, .tar.gz")
        for path in self.files:
            if path.startswith("/") or ".." in path.split("/") or "://" in path:
                raise ValueError(f"archives: {path!r} is no path within the repository, such as videos/*.tar.gz")
