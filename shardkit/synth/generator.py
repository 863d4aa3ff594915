"""What a generator is: a function from draws and parameters to a row.

Here: the struct in the table, and the base of parameter structs.
Elsewhere: the generators (one file each) and the table (table.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from shardkit.errors import SpecError
from shardkit.records.row import Row
from shardkit.synth.draws import Draws


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every generator's parameters: frozen, typos refused, ranges checked in `__post_init__`."""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What a generator's function returns: fields and blobs of a row."""

    fields: dict[str, Any]
    blobs: dict[str, bytes] = {}


class Generator(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table.

    `version` goes up whenever the same draws give other bytes. `row` is called with draws that depend on nothing but
    (seed, name, index). `missing` names a missing tool and how to install it; `versions` are those of the components
    that make the bytes.
    """

    name: str
    version: int
    parameters: type[Parameters]
    row: Callable[[Draws, Any], Made]
    missing: Callable[[], str] = str
    versions: Callable[[], dict[str, str]] = dict

    def check(self, parameters: Mapping[str, Any]) -> Parameters:
        """The parameters as a struct; raises SpecError naming what is unknown, of another type or out of range."""
        try:
            return msgspec.convert(dict(parameters), self.parameters)
        except msgspec.ValidationError as error:
            known = ", ".join(self.parameters.__struct_fields__) or "none"
            raise SpecError(f"generator {self.name}: {error}; its parameters are: {known}") from None

    def make(self, seed: int, index: int, parameters: Mapping[str, Any]) -> Row:
        """Row `index`: a pure function of the arguments and the toolchain. Raises SpecError, SourceFailed."""
        made = self.row(Draws(seed, self.name, index), self.check(parameters))
        return Row(position=str(index), fields=made.fields, blobs=made.blobs)

    def missing_tool(self) -> str:
        """Empty where the generator can run here; else which tool is missing and how to install it."""
        return self.missing()

    def toolchain(self) -> dict[str, str]:
        """Component to version, the generator itself among them."""
        return {f"synth.{self.name}": str(self.version)} | self.versions()
