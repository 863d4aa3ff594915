"""What a data set's README says of its configurations: the YAML in front of it.

Here: reading that YAML.
Elsewhere: from patterns to files (layout.py).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from shardkit.plain import MAX_DEPTH

CARD = "README.md"
CARD_BYTES = 8 << 20
KNOWN = frozenset({"config_name", "data_files", "data_dir", "default", "sep", "delimiter", "description", "version"})
"""Parameters that our own readers keep to; others (`features`, `field`, `skip_rows`) are left to `datasets`."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration: patterns by split (none: the usual layout below `data_dir`), the character between fields.

    `strange` are parameters of its loader that only `datasets` understands.
    """

    name: str
    data_files: dict[str, tuple[str, ...]] | None = None
    data_dir: str = ""
    default: bool = False
    delimiter: str = ""
    strange: tuple[str, ...] = ()


def read_card(text: str) -> tuple[Config, ...]:
    """The configurations that a README declares, in its order; those that make no sense are left out."""
    configs = _front(text).get("configs")
    found = (_config(entry) for entry in configs) if isinstance(configs, list) else ()
    return tuple(config for config in found if config is not None)


def _front(text: str) -> Mapping[str, Any]:
    """The mapping between the first two lines of three hyphens; empty where there is none that can be read safely."""
    import yaml

    lines = text.lstrip("\ufeff").splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    end = next((at for at, line in enumerate(lines[1:], 1) if line.strip() == "---"), 0)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    front = "\n".join(lines[1:end])
    try:
        value = None if _overflows(yaml.parse(front, Loader=loader)) else yaml.load(front, Loader=loader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _overflows(events: Iterable[Any]) -> bool:
    """Whether decoding would overflow the stack (the decoder in C does not look at its depth), or merge without end."""
    import yaml

    depth = 0
    for event in events:
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH or (isinstance(event, yaml.ScalarEvent) and event.value == "<<"):
            return True
    return False


def _config(entry: Any) -> Config | None:
    if not isinstance(entry, dict) or not (name := _word(entry.get("config_name"))):
        return None
    files = entry.get("data_files")
    patterns = None if files is None else _patterns(files)
    if files is not None and patterns is None:
        return None
    strange = sorted(_word(other) for other, value in entry.items() if other not in KNOWN and value is not None)
    return Config(
        name=name,
        data_files=patterns,
        data_dir=_word(entry.get("data_dir")),
        default=entry.get("default") is True,
        delimiter=_word(entry.get("sep")) or _word(entry.get("delimiter")),
        strange=tuple(strange),
    )


def _patterns(files: Any) -> dict[str, tuple[str, ...]] | None:
    """Patterns by split of any of the forms: a pattern, a list of them, a mapping, a list of {split, path}."""
    if isinstance(files, str):
        return {"train": (files,)}
    if isinstance(files, dict):
        return {_word(split): _several(paths) for split, paths in files.items()}
    if not isinstance(files, list) or not files:
        return None
    if all(isinstance(entry, str) for entry in files):
        return {"train": tuple(files)}
    if all(isinstance(entry, dict) and "split" in entry and "path" in entry for entry in files):
        return {_word(entry["split"]): _several(entry["path"]) for entry in files}
    return None


def _several(paths: Any) -> tuple[str, ...]:
    return tuple(_word(path) for path in paths) if isinstance(paths, list) else (_word(paths),)


def _word(value: Any) -> str:
    """What stands for one word, as text; empty for all else: a list of lists of the same may unfold without end."""
    if isinstance(value, str):
        return value
    plain = isinstance(value, (bool, int, float, datetime.date))
    return str(value) if plain and not (isinstance(value, int) and value.bit_length() > 64) else ""
