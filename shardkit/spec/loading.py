"""From a YAML file to a build spec: variables, `--set`, sources of the catalog, errors that name the field.

Here: loading.
Elsewhere: the structs (build.py, kinds.py, base.py), YAML and what is wrong with it (plain.py), the catalog (catalog),
making a spec concrete (build.plan).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from shardkit.errors import SpecError
from shardkit.plain import check_numbers, convert_spec, parse_yaml, read_mapping
from shardkit.spec.build import BuildSpec
from shardkit.spec.catalog.benchmarks import resolve_benchmarks
from shardkit.spec.catalog.folder import UnknownEntry, catalog_folders, find_entry, packaged_folder
from shardkit.spec.catalog.resolve import KIND, name_references, resolve_sources
from shardkit.spec.expand import expand_sources


def open_spec(named: str, settings: Mapping[str, str] | None = None, catalog: Path | None = None) -> BuildSpec:
    """The build spec that a user names: a file, else a mix that comes along, else an entry of the catalog.

    A folder that is called as an entry is (a clone of grafana, say) is not in its way. Raises SpecError.
    """
    path = Path(named)
    if path.is_file() or path.suffix in (".yaml", ".yml") or ("/" in named and path.exists()):
        return load_spec(path, settings, catalog)
    mixes = {mix.stem: mix for mix in sorted(packaged_folder("mixes").glob("*.yaml"))}
    if named in mixes:
        return load_spec(mixes[named], settings, catalog)
    try:
        return load_named(named, settings, catalog)
    except UnknownEntry as error:
        found = "a folder, no spec" if path.is_dir() else "no such file"
        raise SpecError(f"{named}: {found}, no mix ({', '.join(mixes)}), and {error}") from None


def load_spec(path: Path, settings: Mapping[str, str] | None = None, catalog: Path | None = None) -> BuildSpec:
    """The build spec in a YAML file, with `--set` settings applied and the sources of the catalog made concrete.

    A setting `name=value` fills the variable of that name, or overrides the field at a dotted path
    (`limits.shard_bytes=1000000`, `sources.code.sample=5`); values are read as YAML. `catalog` is a folder of entries
    that come before those of the folder `sources` beside the spec and the packaged ones.
    Raises SpecError naming the file, the field, what was found and what is wanted.
    """
    raw = read_mapping(path, "spec", "a build spec has at least `name` and `sources`")
    return _concrete(raw, settings, catalog_folders(catalog, path), str(path))


def load_named(entry: str, settings: Mapping[str, str] | None = None, catalog: Path | None = None) -> BuildSpec:
    """A build of one source: an entry of the catalog, `NAME` or `NAME:VARIANT`. Raises SpecError."""
    name, _, variant = entry.partition(":")
    source = {"kind": KIND, "entry": name, "variant": variant}
    folders = catalog_folders(catalog)
    found = find_entry(name, folders).name
    raw = {"name": f"{found}-{variant}" if variant else found, "sources": [{**source, "entry": found}]}
    return _concrete(raw, settings, folders, f"catalog entry {entry}")


def _concrete(
    raw: dict[str, Any], settings: Mapping[str, str] | None, folders: tuple[Path, ...], where: str
) -> BuildSpec:
    name_references(raw)
    resolved = resolve_sources(apply_settings(raw, settings or {}, where), folders, where)
    return convert_spec(_with_benchmarks(resolved, folders, where), BuildSpec, where)


def _with_benchmarks(raw: dict[str, Any], folders: tuple[Path, ...], where: str) -> dict[str, Any]:
    """See resolve_benchmarks, whose structs become plain again for one error to name the field."""
    found: dict[str, Any] = msgspec.to_builtins(resolve_benchmarks(raw, folders, where))
    return found


def apply_settings(raw: dict[str, Any], settings: Mapping[str, str], name: str) -> dict[str, Any]:
    """A copy of a raw spec with variables filled in and fields overridden; raises SpecError."""
    variables = raw.get("variables") or {}
    if not isinstance(variables, dict):
        raise SpecError(f"{name}: `variables` is {variables!r}; wanted a mapping of names to values")
    variables = dict(variables)
    check_numbers(raw, name)
    result: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(raw))
    for key, value in settings.items():
        if key in variables:
            variables[key] = value
        else:
            read = parse_yaml(os.fsencode(value), f"--set {key}")
            check_numbers(read, f"--set {key}")
            _override(result, key, read, tuple(variables))
    unset = sorted(key for key, value in variables.items() if value is None)
    if unset:
        raise SpecError(f"{name} needs a value for: {', '.join(unset)}; add --set {unset[0]}=…")
    expanded = expand_sources(result, name)
    filled: dict[str, Any] = _substitute(expanded, {key: str(value) for key, value in variables.items()}, name)
    return filled


def _override(raw: dict[str, Any], dotted: str, value: Any, variables: tuple[str, ...]) -> None:
    *parents, last = dotted.split(".")
    here: Any = raw
    for part in parents:
        if isinstance(here, list):
            here = next((entry for entry in here if isinstance(entry, dict) and entry.get("name") == part), None)
        else:
            here = here.setdefault(part, {})
        if not isinstance(here, (dict, list)):
            raise SpecError(f"--set {dotted}: there is no {part!r} in the spec")
    if not isinstance(here, dict) or (not parents and last not in BuildSpec.__struct_fields__):
        known = ", ".join((*variables, *BuildSpec.__struct_fields__))
        raise SpecError(f"--set {dotted}: no variable or field of that name; there are: {known}")
    here[last] = value


def _substitute(value: Any, variables: Mapping[str, str], name: str) -> Any:
    if isinstance(value, dict):
        return {key: _substitute(entry, variables, name) for key, entry in value.items()}
    if isinstance(value, list):
        return [_substitute(entry, variables, name) for entry in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        if match[1] not in variables:
            raise SpecError(f"{name}: ${{{match[1]}}} is not declared under `variables`")
        return variables[match[1]]

    return re.sub(r"\$\{(\w+)\}", fill, value)
