"""Repositories whose media lie apart from their rows: the media are in the archives that a source names.

Here: which members each dataset's archives hold, from rows and a source to the files of a repository.
Elsewhere: the rows (a file a family), a Hub that serves them (tests/servers/hub.py).
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow
import pyarrow.parquet

from shardkit.spec import HubSource
from tests.records.published.shape import Rows, film, image, sound
from tests.sources.hub.repositories import tar

Members = dict[str, bytes]

PAIRS: Members = {
    name: data
    for number in (2, 7)
    for name, data in ((f"{number}.png", image(number)["bytes"]), (f"{number}.html", b"<html>%d</html>" % number))
}
MEMBERS: dict[str, Callable[[], Members]] = {
    "alexshengzhili/SciGraphQA-295K-train": lambda: {f"img/{at}.png": image(at)["bytes"] for at in (1, 2, 3)},
    "lmms-lab/LLaVA-Video-178K": lambda: {"x/1.mp4": b"of another split", "y/1.mp4": film()},
    "wchai/Video-Detailed-Caption": lambda: {"videos/a.mp4": film()},
    "lmms-eval/YouCook2": lambda: {"YouCookIIVideos/val/y.mkv": film()},
    "fsicoli/common_voice_17_0": lambda: {
        f"en_train_0/common_voice_en_{number}.mp3": sound(number)["bytes"] for number in (1, 2, 3)
    },
    "SALT-NLP/Design2Code": lambda: {**PAIRS, "rick.jpg": b"a placeholder"},
    "SALT-NLP/Design2Code-HARD": lambda: {f"hard/{name}": data for name, data in PAIRS.items()},
}
"""What lies beside the rows of a dataset, by its id: names as they are believed to be, and bytes."""


def repository_apart(source: HubSource, rows: Rows) -> dict[str, bytes | str]:
    """The files of a repository in which the source finds these rows and their media."""
    members = MEMBERS[source.dataset]()
    if source.reader == "stems":
        return {"pages.zip": packed("pages.zip", members)} if "zip" in source.data_files[0] else dict(members)
    path = named(source.data_files[0]) if source.data_files else f"data/{source.split}-00000-of-00001.parquet"
    card = {"configs": [{"config_name": "default", "data_files": [{"split": source.split, "path": path}]}]}
    archives = {
        named(pattern): packed(pattern, members) for archive in source.archives.values() for pattern in archive.files
    }
    return {"README.md": f"---\n{json.dumps(card)}\n---\n", path: written(path, rows), **archives}


def named(pattern: str) -> str:
    """A path that a pattern matches."""
    return pattern.replace("**", "there").replace("*", "1")


def packed(path: str, members: Mapping[str, bytes]) -> bytes:
    """An archive of the kind that its name says."""
    if not path.endswith(".zip"):
        return gzip.compress(tar(members)) if path.endswith("gz") else tar(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


def written(path: str, rows: Rows) -> bytes:
    """Rows as the name of their file says: parquet, json, jsonl or tsv without quotes."""
    if path.endswith(".parquet"):
        out = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out)
        return out.getvalue()
    if path.endswith(".tsv"):
        return "".join("\t".join(line) + "\n" for line in (rows[0], *(row.values() for row in rows))).encode()
    if path.endswith(".jsonl"):
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    return json.dumps(rows).encode()


def is_apart(source: Mapping[str, Any]) -> bool:
    """Whether a raw source's media lie apart."""
    return bool(source.get("archives")) or source.get("reader") == "stems"
