"""From a YAML file to a build spec: variables, `--set`, errors that name the field, the JSON Schema for editors.

Here: loading.
Elsewhere: the structs (build.py, kinds.py, base.py), YAML and what is wrong with it (plain.py), making a spec concrete
(build.plan).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from shardkit.errors import SpecError
from shardkit.plain import check_numbers, choices, parse_yaml
from shardkit.spec.build import BuildSpec

T = TypeVar("T")


def load_spec(path: Path, settings: Mapping[str, str] | None = None) -> BuildSpec:
    """The build spec in a YAML file, with `--set` settings applied.

    A setting `name=value` fills the variable of that name, or overrides the field at a dotted path
    (`limits.shard_bytes=1000000`, `sources.code.sample=5`); values are read as YAML.
    Raises SpecError naming the file, the field, what was found and what is wanted.
    """
    raw = read_mapping(path, "spec", "a build spec has at least `name` and `sources`")
    resolved = apply_settings(raw, settings or {}, str(path))
    return convert_spec(resolved, BuildSpec, str(path))


def read_mapping(path: Path, what: str, wanted: str) -> dict[str, Any]:
    """The mapping in a YAML file; `what` and `wanted` are for the messages. Raises SpecError naming the file."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SpecError(f"cannot read the {what} {path}: {error.strerror}; give the path of a YAML file") from None
    raw = parse_yaml(text, str(path))
    if not isinstance(raw, dict):
        raise SpecError(f"{path} holds no mapping; {wanted}")
    return raw


def convert_spec(raw: Any, kind: type[T], name: str) -> T:
    """Plain values as a spec struct; raises SpecError that names the field, what was found and what is wanted."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise SpecError(f"{name}: {error}{choices(str(error), raw, kind)}") from None


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
    filled: dict[str, Any] = _substitute(result, {key: str(value) for key, value in variables.items()}, name)
    return filled


def spec_schema() -> dict[str, Any]:
    """The JSON Schema of build specs, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(BuildSpec)}


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
