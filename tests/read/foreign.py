"""Tars as others make them, for the tests of reading."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Files = Mapping[str, bytes]


def write_tar(path: Path, samples: Iterable[tuple[str, Files]], **options: Any) -> Path:
    """A tar by webdataset's own writer."""
    import webdataset

    with webdataset.TarWriter(str(path), encoder=False, **options) as writer:
        for key, files in samples:
            writer.write({"__key__": key, **files})
    return path


def text_tars(folder: Path, sizes: Iterable[int]) -> list[Path]:
    """shard-000.tar, … of so many samples of text, each with a `txt` and a `json`."""
    made, number = [], 0
    for at, size in enumerate(sizes):
        samples = []
        for _ in range(size):
            files = {"txt": f"text {number} ".encode() * (1 + number % 5), "json": json.dumps({"n": number}).encode()}
            samples.append((f"s{number:04d}", files))
            number += 1
        made.append(write_tar(folder / f"shard-{at:03d}.tar", samples, mtime=1.5))
    return made


def of_webdataset(path: Path) -> list[tuple[str, dict[str, bytes]]]:
    """(key, members) of every sample, as webdataset reads them."""
    import webdataset

    found = []
    for sample in webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False):
        members = {name: data for name, data in sample.items() if not name.startswith("__")}
        found.append((sample["__key__"], members))
    return found


def png_bytes(size: tuple[int, int] = (40, 30), colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def flac_bytes(seconds: float = 0.5) -> bytes:
    import numpy as np
    import soundfile

    out = io.BytesIO()
    wave = 0.4 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * 16_000)) / 16_000)
    soundfile.write(out, wave.astype(np.float32), 16_000, format="FLAC")
    return out.getvalue()
