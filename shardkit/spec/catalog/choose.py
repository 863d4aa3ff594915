"""Choosing among the entries of the catalog.

Here: filters by group, modality, licence class, state, priority.
Elsewhere: showing what was chosen (report.catalog).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from shardkit.errors import SpecError
from shardkit.spec.catalog.entry import GROUPS, PRIORITIES, STATES, Entry
from shardkit.spec.licences import LICENCE_CLASSES

MODALITIES = ("text", "image", "audio", "video")


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What the entries must be; each an empty text (anything), or several values with commas, of which one must fit.

    `modality` text is what has no media. `priority` is numbers and ranges: `0-2`, `0,3`.
    """

    group: str = ""
    modality: str = ""
    licence: str = ""
    state: str = ""
    priority: str = ""


FILTERS: dict[str, tuple[tuple[str, ...], Callable[[Entry], Iterable[str]]]] = {
    "group": (GROUPS, lambda entry: (entry.group,)),
    "modality": (MODALITIES, lambda entry: entry.modalities or ("text",)),
    "licence": (tuple(LICENCE_CLASSES), lambda entry: (entry.licence_class,)),
    "state": (STATES, lambda entry: (entry.state,)),
    "priority": (tuple(map(str, PRIORITIES)), lambda entry: (str(entry.priority),)),
}
"""Of each filter: the values that there are, and those of an entry."""


def choose(entries: Iterable[Entry], choice: Choice) -> tuple[Entry, ...]:
    """The entries that pass every filter. Raises SpecError for a value that there is not."""
    wanted = {name: _values(name, getattr(choice, name)) for name in FILTERS}
    return tuple(
        entry
        for entry in entries
        if all(not values or not values.isdisjoint(FILTERS[name][1](entry)) for name, values in wanted.items())
    )


def _values(name: str, text: str) -> set[str]:
    known = FILTERS[name][0]
    values = {part.strip() for part in text.split(",") if part.strip()}
    if name == "priority":
        values = {number for part in values for number in _range(part)}
    unknown = sorted(values - set(known))
    if unknown:
        raise SpecError(f"--{name} {unknown[0]}: there are: {', '.join(known)}")
    return values


def _range(text: str) -> list[str]:
    """`1-3` as 1, 2, 3; anything else as it is."""
    match = re.fullmatch(r"([0-9])-([0-9])", text)
    if not match or int(match[1]) > int(match[2]):
        return [text]
    return [str(number) for number in range(int(match[1]), int(match[2]) + 1)]
