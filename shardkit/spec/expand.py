"""`each`: one source of a spec written once and read several times, by config, language or whatever else varies.

Here: from a raw source with `each` to the raw sources that it stands for.
Elsewhere: reading the spec around it (loading.py), what a source is (kinds.py).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from shardkit.errors import SpecError
from shardkit.spec.shares import weight_of

PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


def expand_sources(raw: dict[str, Any], where: str) -> dict[str, Any]:
    """A raw spec in which every source with `each` is replaced by those that it stands for. Raises SpecError.

    `each` maps a name to values, or to a mapping of values to fields of theirs. The sources are called NAME-VALUE. A
    value takes the place of `${name}` in the source's texts; where none has it, it is the field of that name. A `ratio`
    is shared equally, or by the ratios that values have themselves.
    """
    sources = raw.get("sources")
    if not isinstance(sources, list):
        return raw
    return {**raw, "sources": [one for source in sources for one in _expand(source, where)]}


def _expand(source: Any, where: str) -> Iterator[Any]:
    each = source.get("each") if isinstance(source, dict) else None
    if not each:
        yield source
        return
    here = f"{where}: source {source.get('name', '')}"
    if not isinstance(each, dict):
        raise SpecError(f"{here}: each is {each!r}; wanted a mapping of a name to its values")
    plain = {name: value for name, value in source.items() if name != "each"}
    chosen = [_values(name, values, here) for name, values in each.items()]
    combined = list(itertools.product(*chosen))
    made = [_one(plain, dict(zip(each, values, strict=True))) for values in combined]
    yield from _with_ratios(plain, made, combined)


Value = tuple[Any, dict[str, Any]]


def _values(name: str, values: Any, here: str) -> list[Value]:
    if isinstance(values, dict) and values and all(isinstance(fields, dict) for fields in values.values()):
        return list(values.items())
    if isinstance(values, list) and values and all(isinstance(value, (str, int)) for value in values):
        return [(value, {}) for value in values]
    raise SpecError(f"{here}: each.{name} is {values!r}; wanted a list of values, or a mapping of values to fields")


def _one(source: dict[str, Any], chosen: dict[str, Value]) -> dict[str, Any]:
    words = [_word(value) for value, _ in chosen.values()]
    fields = {key: field for _, own in chosen.values() for key, field in own.items() if key != "ratio"}
    made = {**source, **fields, "name": "-".join([str(source.get("name", "")), *words])}
    names = {match for text in _texts(source) for match in PLACEHOLDER.findall(text)}
    made |= {name: value for name, (value, _) in chosen.items() if name not in names}
    found: dict[str, Any] = _filled(made, {name: str(value) for name, (value, _) in chosen.items()})
    return found


def _with_ratios(
    source: dict[str, Any], made: list[dict[str, Any]], chosen: list[tuple[Value, ...]]
) -> Iterator[dict[str, Any]]:
    own = [[fields["ratio"] for _, fields in combined if "ratio" in fields] for combined in chosen]
    if "ratio" not in source and not any(own):
        yield from made
        return
    weights = [_product(ratios) for ratios in own]
    whole = weight_of(source.get("ratio", 1)) / sum(weights) if "ratio" in source else Fraction(1)
    for one, weight in zip(made, weights, strict=True):
        yield {**one, "ratio": float(weight * whole)}


def _product(ratios: list[Any]) -> Fraction:
    product = Fraction(1)
    for ratio in ratios:
        product *= weight_of(ratio)
    return product


def _word(value: Any) -> str:
    """A value as a part of a source's name."""
    return re.sub(r"[^a-z0-9]+", "-", str(value).lower()).strip("-") or "x"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for entry in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(entry)


def _filled(value: Any, values: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(entry, values) for key, entry in value.items()}
    if isinstance(value, list):
        return [_filled(entry, values) for entry in value]
    if not isinstance(value, str):
        return value
    return PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), value)
