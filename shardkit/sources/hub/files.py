"""The files that a spec means, found in the repository's listing.

Here: asking for the README and the listing, no more of it than is needed.
Elsewhere: the rules (layout.py), what is wrong where nothing is found (messages.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from shardkit.errors import ShardkitError
from shardkit.sources.hub import messages
from shardkit.sources.hub.card import CARD, CARD_BYTES, Config, read_card
from shardkit.sources.hub.layout import (
    NEVER_DATA,
    Chosen,
    Unknown,
    choose_config,
    choose_files,
    export_layout,
    format_of,
    main_format,
    match_all,
)
from shardkit.sources.hub.messages import Asker
from shardkit.sources.listing import Entry
from shardkit.spec import HubSource
from shardkit.store.hub import HubEntry, HubMissing

STEMS = "stems"
"""The format of files of which those of one name are a row."""


class Choice(NamedTuple):
    """The files of a split in order, their format (empty: none of ours), and how its README wants them read."""

    entries: tuple[Entry, ...]
    format: str
    delimiter: str = ""
    strange: tuple[str, ...] = ()


def choose(spec: HubSource, asker: Asker) -> Choice:
    """The files that a spec means. Raises SpecError (nothing there, a program), and what asking raises."""
    try:
        return _named(spec, asker) if spec.data_files else _by_layout(spec, asker)
    except Unknown as unknown:
        raise messages.not_there(asker, unknown) from None


def _named(spec: HubSource, asker: Asker) -> Choice:
    """The files that `data_files` match."""
    base = f"{spec.data_dir.strip('/')}/" if spec.data_dir.strip("/") else ""
    patterns = [base + pattern for pattern in spec.data_files]
    found = _list(asker, patterns)
    paths = match_all(found, patterns)
    if not paths:
        raise messages.no_match(asker, patterns)
    if spec.reader == "stems":
        return _choice(found, Chosen(paths, STEMS, Config(name=spec.config or "default")))
    kind = main_format(paths)
    paths = tuple(path for path in paths if not kind or format_of(path) == kind)
    return _choice(found, Chosen(paths, kind, Config(name=spec.config or "default")))


def match_files(asker: Asker, patterns: Sequence[str]) -> tuple[Entry, ...]:
    """The files that patterns match, in order. Raises SpecError (none), and what asking raises."""
    found = _list(asker, list(patterns))
    paths = match_all(found, patterns)
    if not paths:
        raise messages.no_match(asker, patterns)
    return _choice(found, Chosen(paths, "", Config(name="default"))).entries


def _by_layout(spec: HubSource, asker: Asker) -> Choice:
    """The files of config and split, by the README where it names any, else by where they lie."""
    configs = read_card(_card(asker))
    if spec.data_dir:
        return _by_config(spec, asker, Config(name=spec.config or "default", data_dir=spec.data_dir))
    if configs:
        return _by_config(spec, asker, choose_config(configs, spec.config))
    found = _list(asker, ["**"])
    if spec.revision == messages.EXPORT_BRANCH:
        return _exported(spec, found)
    _check_program(spec, asker, found)
    if not _has_data(found):
        raise messages.is_empty(asker, len(found))
    return _choice(found, choose_files(sorted(found), choose_config((), spec.config), spec.split))


def _by_config(spec: HubSource, asker: Asker, config: Config) -> Choice:
    """The files of a configuration that names patterns or a folder."""
    if config.data_files is not None and spec.split not in config.data_files:
        raise Unknown("split", spec.split, config.data_files)
    base = f"{config.data_dir.strip('/')}/" if config.data_dir.strip("/") else ""
    wanted = config.data_files[spec.split] if config.data_files is not None else ("**",)
    patterns = [base + pattern for pattern in wanted]
    found = _list(asker, patterns)
    if not _has_data(found):
        raise messages.no_match(asker, patterns)
    return _choice(found, choose_files(sorted(found), config, spec.split))


def _has_data(paths: Iterable[str]) -> bool:
    return any(format_of(path) != "aside" and path not in NEVER_DATA for path in paths)


def _exported(spec: HubSource, found: dict[str, HubEntry]) -> Choice:
    """On the Hub's own branch of parquet folders are configurations and splits."""
    configs = export_layout(sorted(found))
    only = next(iter(configs)) if len(configs) == 1 else "default"
    splits = configs.get(spec.config or only)
    if splits is None:
        raise Unknown("config", spec.config, configs)
    if spec.split not in splits:
        raise Unknown("split", spec.split, splits)
    return _choice(found, Chosen(splits[spec.split], "parquet", Config(name=spec.config or only)))


def _check_program(spec: HubSource, asker: Asker, paths: Iterable[str]) -> None:
    """Raises SpecError where the repository is loaded by a program named after it, under this name or the old one."""
    names = {f"{name.rpartition('/')[2]}.py" for name in (asker.dataset, spec.dataset)}
    program = next((path for path in sorted(paths) if path in names), "")
    if program:
        raise messages.has_script(asker, program, _export_configs(asker))


def _export_configs(asker: Asker) -> list[str]:
    """The configurations of which the Hub has made parquet; none where it does not say."""
    try:
        found: Any = asker.store.exports()
    except ShardkitError:
        return []
    return sorted(found) if isinstance(found, dict) else []


def _card(asker: Asker) -> str:
    """The README; empty where there is none."""
    with asker.asking(CARD):
        try:
            return asker.store.read(CARD, CARD_BYTES).decode("utf-8", "replace")
        except HubMissing as missing:
            if missing.code == "EntryNotFound":
                return ""
            raise


def _list(asker: Asker, patterns: list[str]) -> dict[str, HubEntry]:
    """The files by path, of no more folders than the patterns need."""
    found: dict[str, HubEntry] = {}
    for folder, deep in _folders(patterns):
        with asker.asking():
            try:
                for entry in asker.store.tree(folder, deep=deep):
                    found |= {entry.path: entry} if entry.type == "file" else {}
            except HubMissing as missing:
                if missing.code != "EntryNotFound":
                    raise  # only the folder is not there
    return found


def _folders(patterns: list[str]) -> list[tuple[str, bool]]:
    """(folder, whether its folders are wanted too) that hold all that patterns can match; none within another."""
    wanted: dict[str, bool] = {}
    for pattern in patterns:
        parts = pattern.split("/")
        plain = next((at for at, part in enumerate(parts) if any(mark in part for mark in "*?[")), len(parts) - 1)
        folder = "/".join(parts[:plain])
        deep = plain < len(parts) - 1 or parts[plain] == "**"
        wanted[folder] = wanted.get(folder, False) or deep
    outer = [folder for folder, deep in wanted.items() if deep]
    return sorted(
        (folder, deep)
        for folder, deep in wanted.items()
        if not any(folder != other and (not other or folder.startswith(f"{other}/")) for other in outer)
    )


def _choice(found: dict[str, HubEntry], chosen: Chosen) -> Choice:
    entries = tuple(
        Entry(path.encode("utf-8", "surrogateescape"), found[path].size, _digest(found[path])) for path in chosen.paths
    )
    return Choice(entries, chosen.format, chosen.config.delimiter, chosen.config.strange)


def _digest(entry: HubEntry) -> bytes:
    """The file's tag; none where it is no digest, as mirrors have it."""
    try:
        return bytes.fromhex(entry.digest)
    except ValueError:
        return b""
