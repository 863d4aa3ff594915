"""Telling a pickle by its bytes, whatever its name: one is never loaded here, since loading it can run any code.

Here: looking at the first bytes of a file, and reading the opcodes of old pickles without carrying them out.
Elsewhere: refusing them (checkpoint, model.loading, export).
"""

from __future__ import annotations

import pickletools
from pathlib import Path

PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle", ".ckpt")
ZIP, PROTOCOL = b"PK\x03\x04", b"\x80"
MOST_OLD = 1 << 20
"""Bytes of the largest file in which pickles of protocols 0 and 1, which begin with no mark, are looked for."""
ADVICE = (
    "which can run any code when it is loaded, and is never loaded here; convert it to safetensors where you trust it"
)


def pickle_in(path: Path) -> str:
    """What kind of a pickle a file is, by its bytes; empty where it is none, or cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
            if head == ZIP:
                return "a pickle in a zip archive, as torch.save writes it"
            if head[:1] == PROTOCOL and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
                return "a pickle"
            small = path.stat().st_size <= MOST_OLD
            return "a pickle of an old protocol" if small and _is_old_pickle(head + file.read()) else ""
    except OSError:
        return ""


def find_pickle(folder: Path, pattern: str = "*") -> str:
    """The first pickle among a folder's files, told by name or by its bytes, as a phrase; empty where there is none."""
    for path in sorted(folder.glob(pattern)) if folder.is_dir() else [folder] if folder.is_file() else []:
        kind = pickle_in(path) or ("a pickle by its name" if path.suffix in PICKLES else "")
        if path.is_file() and kind:
            return f"{path.name} is {kind}"
    return ""


def _is_old_pickle(data: bytes) -> bool:
    """Whether the whole file is opcodes of a pickle up to its STOP; nothing of it is carried out."""
    try:
        last = None
        for _opcode, _argument, at in pickletools.genops(data):
            last = at
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError):
        return False
    return last is not None and last + 1 == len(data) and len(data) > 1
