"""Plain values from YAML, checked for what no spec may hold, before they become one.

Here: reading YAML, becoming a struct, numbers that can be stored, what there is to choose from where a name is wrong.
Elsewhere: the specs themselves (spec).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from shardkit.errors import SpecError

T = TypeVar("T")

MAX_DEPTH = 50
"""Of the nesting of YAML: far more than any spec, far less than what overflows a decoder's stack."""


def parse_yaml(data: bytes, name: str) -> Any:
    """Plain values in a YAML document.

    Raises SpecError, also for aliases (they can grow without bound) and for a key that stands twice in a mapping.
    """
    import yaml

    try:
        _check_events(yaml.parse(data, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), name)
        return yaml.load(data, Loader=_loader())
    except (yaml.YAMLError, msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: month 99
        raise SpecError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None


@cache
def _loader() -> Any:
    """PyYAML's safe loader, which takes `1e-3` for a word (YAML 1.1 wants a point), with such numbers as numbers."""
    import yaml

    kind: Any = type("Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
    number = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]{1,3}$")
    kind.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return kind


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


def check_numbers(value: Any, name: str) -> None:
    """Refuse numbers that cannot be stored: specs go into manifests as JSON, to workers as 64-bit integers."""
    for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        check_numbers(entry, name)
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{name}: found the number {value}; wanted a finite one, or leave the field out")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise SpecError(f"{name}: found the number {value}; wanted one of at most 64 bits")


def parse_size(text: str, name: str) -> int:
    """Bytes in a size such as `20GB`, `1.5 GiB` or `100000000`. Raises SpecError naming `name`."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(?:([kmgt]?)(i?)b)?", text.strip().lower())
    if match is None or (match[3] and not match[2]):
        raise SpecError(f"{name} {text}: wanted a size such as 20GB, 1.5 GiB or 100000000")
    size = Fraction(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2] or " ")
    if not 1 <= size < 1 << 62:
        raise SpecError(f"{name} {text}: wanted a size of at least one byte and under 4 EiB")
    return int(size)


def choices(message: str, raw: Any, kind: Any) -> str:
    """What stands to choose from, where msgspec says only that a field or a value is unknown."""
    unknown = re.search(r"unknown field `(.*?)`|Invalid (?:enum )?value '(.*?)'", message)
    if not unknown:
        return ""
    schema = msgspec.json.schema(kind)
    node, value = _chosen(schema, raw, schema["$defs"]), raw
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", message.partition("at `$")[2]):
        if index:
            node, value = node.get("items", {}), value[int(index)]
        else:
            node, value = node.get("properties", {}).get(name, {}), value.get(name)
        node = _chosen(node, value, schema["$defs"])
    names = list(node.get("enum") or node.get("properties") or ())
    near = difflib.get_close_matches(unknown[1] or unknown[2] or "", names, 1)
    return "".join(f"; did you mean `{name}`" for name in near) + (f"; there are: {', '.join(names)}" if names else "")


def _chosen(node: dict[str, Any], value: Any, structs: Mapping[str, Any]) -> dict[str, Any]:
    """The schema that a value is held against: references followed, of several kinds the one that it names."""
    if "$ref" in node:
        return dict(structs[node["$ref"].rpartition("/")[2]])
    tag = node.get("discriminator", {})
    if tag:
        named = value.get(tag["propertyName"]) if isinstance(value, dict) else None
        if named in tag["mapping"]:
            return dict(structs[tag["mapping"][named].rpartition("/")[2]])
        return {"properties": {tag["propertyName"]: {"enum": list(tag["mapping"])}}}
    options = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    return _chosen(options[0], value, structs) if len(options) == 1 else node


def _check_events(events: Iterable[Any], name: str) -> None:
    """Refuse what decoding would pass over in silence (a key given twice) or would not survive."""
    import yaml

    keys: list[set[str] | None] = []  # of each open mapping; none for a sequence
    nodes: list[int] = []  # met so far in each of them: the even ones of a mapping are keys
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise SpecError(f"{name} uses a YAML alias (*{event.anchor}); write the value out")
        if isinstance(event, yaml.CollectionEndEvent):
            keys.pop(), nodes.pop()
        elif isinstance(event, yaml.NodeEvent):
            seen = keys[-1] if keys and nodes[-1] % 2 == 0 else None
            if seen is not None and isinstance(event, yaml.ScalarEvent):
                if event.value in seen:
                    line = event.start_mark.line + 1 if event.start_mark else 0
                    raise SpecError(f"{name}: `{event.value}` is given a second time in line {line}; keep one of them")
                seen.add(event.value)
            if keys:
                nodes[-1] += 1
            if isinstance(event, yaml.CollectionStartEvent):
                keys.append(set() if isinstance(event, yaml.MappingStartEvent) else None)
                nodes.append(0)
        if len(keys) > MAX_DEPTH:
            raise SpecError(f"{name} is nested more than {MAX_DEPTH} deep; a spec needs far less")
