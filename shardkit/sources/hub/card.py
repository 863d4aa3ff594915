"""What a data set's README says of its configurations: the YAML in front of it.

Here: reading that YAML.
Elsewhere: from patterns to files (layout.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

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
    """The mapping between the first two lines of three hyphens; empty where there is none."""
    import yaml

    lines = text.lstrip("\ufeff").splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    end = next((at for at, line in enumerate(lines[1:], 1) if line.strip() == "---"), 0)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        value = yaml.load("\n".join(lines[1:end]), Loader=loader)  # a safe loader
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _config(entry: Any) -> Config | None:
    if not isinstance(entry, dict) or "config_name" not in entry:
        return None
    files = entry.get("data_files")
    patterns = None if files is None else _patterns(files)
    if files is not None and patterns is None:
        return None
    strange = sorted(str(name) for name, value in entry.items() if name not in KNOWN and value is not None)
    return Config(
        name=str(entry["config_name"]),
        data_files=patterns,
        data_dir=str(entry.get("data_dir") or ""),
        default=entry.get("default") is True,
        delimiter=str(entry.get("sep") or entry.get("delimiter") or ""),
        strange=tuple(strange),
    )


def _patterns(files: Any) -> dict[str, tuple[str, ...]] | None:
    """Patterns by split of any of the forms: a pattern, a list of them, a mapping, a list of {split, path}."""
    if isinstance(files, str):
        return {"train": (files,)}
    if isinstance(files, dict):
        return {str(split): _several(paths) for split, paths in files.items()}
    if not isinstance(files, list) or not files:
        return None
    if all(isinstance(entry, str) for entry in files):
        return {"train": tuple(files)}
    if all(isinstance(entry, dict) and "split" in entry and "path" in entry for entry in files):
        return {str(entry["split"]): _several(entry["path"]) for entry in files}
    return None


def _several(paths: Any) -> tuple[str, ...]:
    return tuple(str(path) for path in paths) if isinstance(paths, list) else (str(paths),)
