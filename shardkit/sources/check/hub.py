"""An entry compared with its repository on the Hugging Face Hub.

Here: the name, licence, gate, configurations and splits that the Hub tells; rows and columns of the data themselves.
Elsewhere: the requests (store.hub), configurations and files of a split (sources.hub), what fits (columns.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from shardkit.errors import SourceDamaged, SourceUnavailable, SpecError
from shardkit.sources.check.columns import compare_columns, schema_types, seen_types
from shardkit.sources.check.found import Checked, Finding, agreed, compared, summed, unchecked
from shardkit.sources.hub.card import CARD, CARD_BYTES, read_card
from shardkit.sources.hub.layout import NEVER_DATA, find_splits, format_of, usual_layout
from shardkit.sources.hub.messages import offline
from shardkit.sources.hub.source import PATIENCE, Hub
from shardkit.spec import HubSource, Limits
from shardkit.spec.catalog.entry import Entry
from shardkit.store.hub import HubDenied, HubInfo, HubMissing, HubPlace, HubStore
from shardkit.store.hub_login import is_offline

MOST_FOOTERS = 16
"""Files of parquet of which the footers are asked for, to count rows."""
ROUNDED = 0.02
"""By how much rounded numbers of rows may be off."""

Configs = dict[str, dict[str, int | None]]


class Data(NamedTuple):
    """What the files of a split hold: types by column, whether these are all columns, and rows where they are known."""

    columns: dict[str, str]
    complete: bool
    rows: int | None


def check_hub(entry: Entry, spec: HubSource | None) -> Checked:
    """Compare; `spec` is the entry's source, none where it cannot be read.

    Raises SourceFailed (offline), StorageFailed (no answer).
    """
    if is_offline():
        raise offline(entry.name, entry.id, "HF_HUB_OFFLINE is set")
    place = HubPlace("datasets", entry.id, entry.revision, "")
    store = HubStore(place, _hasty(), endpoint=spec.endpoint if spec else "")
    try:
        info = store.info()
    except HubMissing as missing:
        gone = "not there any more" if missing.code != "RevisionNotFound" else f"no revision {entry.revision}"
        return summed(entry, "", [compared("state", entry.state, gone, same=entry.state == "gone")])
    except HubDenied as denied:
        return summed(entry, "", [compared("state", entry.state, f"refused: {denied.said or denied.code or denied}")])
    findings = [*_identity(entry, info), *(_source(entry, spec, store, info) if spec else _absent(entry, store))]
    return summed(entry, info.sha, findings, _notes(entry, info))


def _hasty() -> Any:
    return msgspec.structs.replace(PATIENCE, wait_for_network=False)


def _identity(entry: Entry, info: HubInfo) -> Iterator[Finding]:
    """What the repository's page says."""
    yield compared("id", entry.id, info.id or entry.id)
    yield compared("gated", _yes(entry.gated), _yes(bool(info.gated)))
    licences = licences_of(info)
    if licences or entry.licence != "unknown":
        same = any(
            entry.licence == found or entry.licence.startswith(f"{found}-") for found in licences
        )  # cc for cc-by
        yield compared("licence", entry.licence, ", ".join(licences) or "none", same=same)
    else:
        yield agreed("licence")


def _notes(entry: Entry, info: HubInfo) -> Iterator[str]:
    if info.disabled:
        yield "the Hub has disabled the repository"
    if not entry.revision:
        yield f"no revision is pinned in the entry; a build now would pin {info.sha}"


def licences_of(info: HubInfo) -> tuple[str, ...]:
    """The licences that a repository declares: of `other` its name, where the card has one."""
    card = info.card if isinstance(info.card, dict) else {}
    declared = card.get("license")
    named = [str(name) for name in (declared if isinstance(declared, list) else [declared]) if name]
    tags = info.tags if isinstance(info.tags, list) else []
    named = named or [str(tag).removeprefix("license:") for tag in tags if str(tag).startswith("license:")]
    other = card.get("license_name")
    return tuple(str(other) if name == "other" and other else name for name in named)


def _absent(entry: Entry, store: HubStore) -> Iterator[Finding]:
    """Of an entry that cannot be read: whether it still holds nothing to read."""
    data = [path for path in _files(store) if _is_data(path)]
    there = f"{len(data)} files of data ({', '.join(data[:3])})"
    if entry.state == "gone":
        yield compared("state", "gone", there if data else "gone")
    else:
        yield unchecked(
            "state", f"it holds {there if data else 'no data'}; whether that can be read, a person must say"
        )


def _is_data(path: str) -> bool:
    return format_of(path) != "aside" and path.rpartition("/")[2] not in NEVER_DATA


def _source(entry: Entry, spec: HubSource, store: HubStore, info: HubInfo) -> Iterator[Finding]:
    """Configurations, splits, rows and columns of an entry that can be read."""
    found = _find_configs(store, info)
    yield from _configs(entry, found)
    with tempfile.TemporaryDirectory(prefix="shardkit-check-") as name:
        try:
            data = _read(spec, Path(name))
        except SourceUnavailable as error:
            yield from (unchecked(fact, str(error)) for fact in ("rows", "columns"))
            return
        except (SpecError, SourceDamaged) as error:
            yield compared("state", entry.state, str(error))
            return
    yield agreed("state")
    yield from _rows(entry, spec, found, data)
    yield from compare_columns(entry.columns, data.columns, complete=data.complete)


def _find_configs(store: HubStore, info: HubInfo) -> Configs:
    """Splits and their rows by configuration: as the card declares them, else as the files lie."""
    counts = _counts(info.card if isinstance(info.card, dict) else {})
    configs = read_card(_card(store))
    if not configs:
        layout: Configs = {} if counts else {"default": dict.fromkeys(usual_layout(_files(store)))}
        return {**layout, **counts}
    found: Configs = {}
    for config in configs:
        splits = config.data_files
        names = dict.fromkeys(splits if splits is not None else find_splits(_files(store, config.data_dir), config))
        found[config.name] = {**names, **counts.get(config.name, {})}
    return found


def _files(store: HubStore, folder: str = "") -> list[str]:
    return sorted(item.path for item in store.tree(folder) if item.type == "file")


def _card(store: HubStore) -> str:
    try:
        return store.read(CARD, CARD_BYTES).decode("utf-8", "replace")
    except (HubMissing, HubDenied):
        return ""


def _counts(card: Mapping[str, Any]) -> Configs:
    """Rows by configuration and split that the card's `dataset_info` declares."""
    infos = card.get("dataset_info")
    found: Configs = {}
    for info in infos if isinstance(infos, list) else [infos]:
        if isinstance(info, dict) and isinstance(info.get("splits"), list):
            named = [split for split in info["splits"] if isinstance(split, dict) and "name" in split]
            found[str(info.get("config_name") or "default")] = {
                str(split["name"]): rows if isinstance(rows := split.get("num_examples"), int) else None
                for split in named
            }
    return found


def _configs(entry: Entry, found: Configs) -> Iterator[Finding]:
    for config, splits in entry.configs.items():
        if config not in found:
            if entry.source and entry.source.get("data_files"):
                yield unchecked("configs", "the files are named one by one, whatever the repository's own configs are")
            else:
                yield compared("configs", config, f"only {', '.join(found) or 'none'}")
            continue
        yield agreed("configs")
        gone = sorted(set(splits) - set(found[config]))
        there = ", ".join(found[config]) or "none"
        yield compared("splits", f"{config}: {', '.join(gone)}", f"{config}: {there}", same=not gone)


def _rows(entry: Entry, spec: HubSource, found: Configs, data: Data) -> Iterator[Finding]:
    """Every split whose rows are known on both sides; the one that is read counted by itself where it can be."""
    counted: Configs = {config: dict(splits) for config, splits in found.items()}
    own = spec.config or ("default" if "default" in entry.configs else next(iter(entry.configs), "default"))
    if data.rows is not None and not spec.data_files and not spec.data_dir:
        counted.setdefault(own, {})[spec.split] = data.rows
    looked = False
    for config, splits in entry.configs.items():
        for split, rows in splits.items():
            now = counted.get(config, {}).get(split)
            if rows is not None and now is not None:
                looked = True
                same = abs(rows - now) <= ROUNDED * rows if entry.rounded_rows else rows == now
                yield compared("rows", f"{config}/{split} {rows:,}", f"{now:,}", same=same)
    if not looked:
        yield unchecked("rows", "neither its card nor its files tell how many there are, or the entry does not")


def _read(spec: HubSource, folder: Path) -> Data:
    """Look into the files of the split, through the source's own reader."""
    hub = Hub(spec, Limits())
    pinned = hub.pin(folder)
    found = hub.footers(folder, MOST_FOOTERS)
    if found is not None:
        return Data(schema_types(found.schema), True, found.rows)
    alone = Hub(msgspec.structs.replace(spec, archives={}), Limits())  # the rows as they lie, without their media
    columns = seen_types(alone, folder)
    return Data(columns, bool(columns), pinned.rows)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
