"""Where entries of the catalog lie, and finding one by its name.

Here: the packaged folder and the user's own ones, one YAML file an entry; near names where one is mistyped.
Elsewhere: the entry (entry.py), the source that it makes (resolve.py).
"""

from __future__ import annotations

import difflib
from pathlib import Path

from shardkit.errors import SpecError
from shardkit.plain import convert_spec, read_mapping
from shardkit.spec.catalog.entry import Entry

BESIDE = "sources"
"""The folder beside a build spec that may hold entries of one's own."""


class UnknownEntry(SpecError):
    """No entry of the catalog has that name."""


def packaged_folder(name: str) -> Path:
    """A folder of specs that comes with shardkit: inside the package where it is installed, in a checkout beside it."""
    package = Path(__file__).resolve().parents[2]
    places = (package / "specs" / name, package.parent / "specs" / name)
    return next((place for place in places if place.is_dir()), places[1])


def catalog_folders(own: Path | None = None, spec: Path | None = None) -> tuple[Path, ...]:
    """Where entries are looked for, in this order: the user's own folder, that beside a spec, the packaged one.

    Raises SpecError where the user's own is no folder.
    """
    if own is not None and not own.is_dir():
        raise SpecError(f"--catalog {own}: no such folder; name one with a YAML file for each entry, or leave it out")
    beside = spec.parent / BESIDE if spec is not None else None
    given = [folder for folder in (own, beside) if folder is not None and folder.is_dir()]
    return (*given, packaged_folder("sources"))


def entry_names(folders: tuple[Path, ...]) -> dict[str, Path]:
    """Every entry's name and file, sorted; a folder further to the front wins."""
    files = {path.stem: path for folder in reversed(folders) for path in sorted(folder.glob("*.yaml"))}
    return dict(sorted(files.items()))


def load_catalog(folders: tuple[Path, ...]) -> tuple[Entry, ...]:
    """All entries by name. Raises SpecError naming the file and the field."""
    return tuple(load_entry(path) for path in entry_names(folders).values())


def load_entry(path: Path) -> Entry:
    """The entry in a file, which has its name. Raises SpecError naming the file and the field."""
    raw = read_mapping(path, "entry of the catalog", "an entry has at least name, title, group, id, priority, licence")
    entry = convert_spec(raw, Entry, str(path))
    if entry.name != path.stem:
        raise SpecError(f"{path}: name is {entry.name!r}; the file must be called {entry.name}.yaml")
    return entry


def find_entry(name: str, folders: tuple[Path, ...]) -> Entry:
    """The entry of a name, or of an id as its host has it. Raises UnknownEntry with the near names, SpecError."""
    files = entry_names(folders)
    if name in files:
        return load_entry(files[name])
    entries = load_catalog(folders)
    wanted = name.lower()
    for entry in entries:
        if wanted in (entry.id.lower(), *(former.lower() for former in entry.former_ids)):
            return entry
    raise UnknownEntry(f"the catalog has no entry {name!r}{_near(wanted, entries)}; `shardkit sources` lists them all")


def _near(wanted: str, entries: tuple[Entry, ...]) -> str:
    """Entries whose name or id is like the wanted one, punctuation apart; the nearest first."""
    told: dict[str, str] = {}
    for entry in entries:
        for word in (entry.name, entry.id, entry.id.rpartition("/")[2]):
            told.setdefault(_letters(word), entry.name)
    words = [word for word in told if len(wanted) > 2 and _letters(wanted) in word]
    words = difflib.get_close_matches(_letters(wanted), told, n=5, cutoff=0.6) + words
    near = list(dict.fromkeys(told[word] for word in words))[:3]
    return f"; did you mean {' or '.join(near)}" if near else ""


def _letters(word: str) -> str:
    return "".join(sign for sign in word.lower() if sign.isalnum())
