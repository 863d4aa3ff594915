"""The sides of the benchmarks: which module does what, in which environment, and what a crash leaves of its files.

Here: one table.
Elsewhere: the work itself (ours.py, peers.py, resume.py), running it (worker.py, measure.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import tools.bootstrap as bootstrap

Task = Literal["write", "publish", "read", "decode", "resume", "http"]
TASKS: tuple[Task, ...] = ("write", "publish", "read", "decode", "resume")
OURS, GIVEN, BARE = "shardkit", "shardkit, from records", "bare write + fsync"
WITH_TORCH = "shardkit, torch imported too"
NOTHING = "no fsync"
FORCED = "fsync of files and folders, read back, linked"


class Side(NamedTuple):
    """One competitor: its name, the package it needs, its functions by task ("module:function"), what makes its data.

    `apart`: it lives in the peers' own environment. `records`: it begins from records rather than from bytes.
    `durability`: what a crash leaves of its files.
    """

    name: str
    package: str
    work: dict[Task, str]
    make: str = ""
    apart: bool = False
    records: bool = False
    durability: str = NOTHING

    def about(self, task: Task) -> str:
        """What to know of a figure: what a crash leaves of the files, what is checked."""
        ours = self.name.startswith(OURS)
        if task == "publish" and ours:
            return FORCED
        if task in ("write", "publish"):
            return self.durability
        return "every digest checked" if ours else "nothing checked"

    @property
    def python(self) -> str:
        """The interpreter that runs it."""
        return str((bootstrap.PEERS_VENV if self.apart else bootstrap.VENV) / "bin" / "python")

    def installed(self) -> bool:
        """Whether its package is there."""
        place = Path(self.python).parent.parent
        return any(
            found.exists()
            for venv in (place, bootstrap.VENV)
            for found in (venv / "lib").glob(f"python*/site-packages/{self.package}")
        )


SIDES = (
    Side(
        OURS, "numpy",
        {
            "write": "ours:write_bytes", "publish": "ours:publish", "read": "ours:read", "decode": "ours:decode",
            "resume": "resume:without_torch",
        },
        make="ours:make", durability="no fsync; all digests, index",
    ),
    Side(
        GIVEN, "numpy", {"write": "ours:write_records"}, records=True,
        durability="no fsync; JSON encoded, all digests, index",
    ),
    Side(WITH_TORCH, "torch", {"resume": "resume:with_torch"}, make="ours:make"),
    Side(
        "webdataset", "webdataset",
        {"write": "peers:write_webdataset", "read": "peers:read_webdataset", "decode": "peers:decode_webdataset"},
        make="peers:make_webdataset",
    ),
    Side(
        "MosaicML MDS", "streaming",
        {
            "write": "peers:write_mds", "read": "peers:read_mds", "decode": "peers:decode_mds",
            "resume": "resume:with_mds",
        },
        make="peers:write_mds",
    ),
    Side(
        "LitData", "litdata",
        {
            "write": "peers:write_litdata", "read": "peers:read_litdata", "decode": "peers:decode_litdata",
            "resume": "resume:with_litdata",
        },
        make="peers:write_litdata", apart=True,
    ),
    Side(
        "HF datasets", "datasets",
        {"write": "peers:write_parquet", "read": "peers:read_arrow", "decode": "peers:decode_arrow"},
        make="peers:make_arrow",
    ),
    Side(BARE, "numpy", {"publish": "peers:write_bare"}, durability="fsync; no container, no digest"),
)  # fmt: skip
