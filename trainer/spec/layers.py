"""Where a run's settings come from: one layer over another, and which of them gave each value.

Here: reading the layers, laying them over one another, the origin of every value.
Elsewhere: the structs that they fill (run.py), showing them (trainer.cli.config).

    the trainer's defaults < your settings < a profile of specs/profiles.yaml < the spec < its own profile < --set

Your settings (settings.yaml in the platform's configuration folder) may only say how this machine works, so that the
same spec means the same run everywhere.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shardkit import SpecError, convert_spec, parse_yaml, read_mapping
from trainer.spec.chain import stage_runs
from trainer.spec.run import RunSpec

DEFAULT = "default"
OF_A_MACHINE = (
    "checkpoint.keep", "data.cache", "data.cache_bytes", "data.decoders", "data.prefetch", "device", "dtype",
    "metrics.html", "metrics.log_every", "metrics.peak_tflops", "metrics.tensorboard", "metrics.window", "threads",
)  # fmt: skip
"""What user settings may hold. `dtype` and `threads` move results in the last digits; run.json keeps what was used."""


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """A run spec, and the layer that each of its values is from, by the value's dotted path."""

    spec: RunSpec
    origins: dict[str, str]

    def rows(self) -> Iterator[tuple[str, Any, str]]:
        """Every value: its path, the value, the layer that it is from."""
        raw = msgspec.to_builtins(self.spec)
        for dotted, value in leaves({name: value for name, value in raw.items() if name != "profiles"}):
            yield dotted, value, self.origins.get(dotted, DEFAULT)


def load_run(path: Path, settings: Mapping[str, str] | None = None, profile: str = "") -> RunSpec:
    """The run spec in a YAML file with profiles and then `--set` settings applied (`optimizer.rate=1e-3`).

    User settings are not read: see `resolve_run`.
    """
    return resolve_run(path, settings, profile).spec


def resolve_run(
    path: Path, settings: Mapping[str, str] | None = None, profile: str = "", user: Path | None = None
) -> Resolved:
    """The run spec in a YAML file, all layers applied, each value with its origin.

    `profile`: names separated by commas; `--set profile=NAME` adds to them. Each is a profile of the spec, of
    specs/profiles.yaml, or both. `user` is the file of user settings, which need not exist.
    Raises SpecError naming the file, the field, what was found and what is wanted.
    """
    raw = read_mapping(path, "run spec", "a run spec has at least `name` and `model`")
    given = dict(settings or {})
    names = [name.strip() for name in f"{profile},{given.pop('profile', '')}".split(",") if name.strip()]
    layers = _Layers()
    if user is not None:
        for dotted, value in _user_settings(user):
            layers.put(dotted, value, f"your settings ({user})")
    shared = [_shared_profile(name) for name in names]
    own = [_own_profile(raw, name, path) for name in names]
    for name, found, mine in zip(names, shared, own, strict=True):
        if found is None and mine is None:
            raise SpecError(_unknown_profile(raw, name, path))
        for dotted, value in (found or {}).items():
            layers.put(dotted, value, f"specs/profiles.yaml, {name}")
    layers.lay(raw, str(path))
    for name, mine in zip(names, own, strict=True):
        for dotted, value in (mine or {}).items():
            layers.put(dotted, value, f"{path}, profile {name}")
    for dotted, written in given.items():
        layers.put(dotted, parse_yaml(written.encode(), f"--set {dotted}"), "--set")
    spec = convert_spec(layers.raw, RunSpec, str(path))
    stage_runs(spec, str(path))  # what stands in a stage is checked now, not when its turn comes
    return Resolved(spec=spec, origins=layers.origins)


def settings_path() -> Path | None:
    """The file of user settings: settings.yaml in the platform's configuration folder.

    The environment's SHARDKIT_SETTINGS names another file; empty: none is read.
    """
    import typer

    given = os.environ.get("SHARDKIT_SETTINGS")
    if given is not None:
        return Path(given) if given else None
    return Path(typer.get_app_dir("shardkit")) / "settings.yaml"


def profiles_path() -> Path:
    """The file of shared profiles: beside the package in a checkout, inside it where it is installed."""
    package = Path(__file__).resolve().parents[1]
    places = (package.parent / "specs" / "profiles.yaml", package / "profiles.yaml")
    return next((place for place in places if place.is_file()), places[0])


def shared_profiles() -> dict[str, dict[str, Any]]:
    """The profiles for all runs, by name: mappings of dotted fields to values. Raises SpecError."""
    path = profiles_path()
    if not path.is_file():
        return {}
    raw = read_mapping(path, "file of profiles", "each profile is a mapping of fields to values")
    for name, fields in raw.items():
        if not isinstance(fields, dict):
            raise SpecError(f"{path}: the profile {name!r} is {fields!r}; wanted a mapping of fields to values")
    return {str(name): {str(dotted): value for dotted, value in fields.items()} for name, fields in raw.items()}


def leaves(value: Any, dotted: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in nested mappings (and in lists of them) with its dotted path: `stages.0.optimizer.rate`."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from leaves(inner, f"{dotted}.{name}" if dotted else str(name))
    elif isinstance(value, (list, tuple)) and value and all(isinstance(inner, dict) for inner in value):
        for at, inner in enumerate(value):
            yield from leaves(inner, f"{dotted}.{at}")
    elif dotted:
        yield dotted, value


class _Layers:
    """Plain values of a run spec while one layer after another is laid over them."""

    def __init__(self) -> None:
        self.raw: dict[str, Any] = {}
        self.origins: dict[str, str] = {}

    def lay(self, values: dict[str, Any], origin: str, dotted: str = "") -> None:
        """Lay nested mappings over what is there, to any depth."""
        for name, value in values.items():
            path = f"{dotted}.{name}" if dotted else str(name)
            there = find(self.raw, path)
            if isinstance(value, dict) and isinstance(there, dict) and value:
                self.lay(value, origin, path)
            else:
                self._put([*dotted.split("."), str(name)] if dotted else [str(name)], value, origin)

    def put(self, dotted: str, value: Any, origin: str) -> None:
        """Put a value, a whole mapping too, in place of what stands at a dotted path."""
        self._put(dotted.split("."), value, origin)

    def _put(self, names: list[str], value: Any, origin: str) -> None:
        value = {"datasets": value} if names == ["data"] and isinstance(value, list) else copy.deepcopy(value)
        *parents, last = names
        here: Any = self.raw
        walked: list[str] = []
        for name in parents:
            if isinstance(here, dict) and here.get(name) is None:
                here[name] = {}
            name = _index(here, name)
            here = here[int(name)] if isinstance(here, list) else here[name]
            walked.append(name)
            if not isinstance(here, (dict, list)):
                raise SpecError(f"--set {'.'.join(names)}: {name!r} has no fields")
        last = _index(here, last)
        if isinstance(here, list):
            here[int(last)] = value
        else:
            here[last] = value
        self._mark(".".join([*walked, last]), value, origin)

    def _mark(self, dotted: str, value: Any, origin: str) -> None:
        self.origins = {name: kept for name, kept in self.origins.items() if not f"{name}.".startswith(f"{dotted}.")}
        self.origins |= {name: origin for name, _ in leaves(value, dotted)}


def find(raw: Any, dotted: str) -> Any:
    """What stands at a dotted path of nested mappings; none where there is nothing."""
    for name in dotted.split("."):
        raw = raw.get(name) if isinstance(raw, dict) else None
    return raw


def _index(here: Any, name: str) -> str:
    """A field of a mapping by its name, an entry of a list by its number or its `name`: `stages.sft.steps`."""
    if not isinstance(here, list):
        return name
    if name.isdecimal() and int(name) < len(here):
        return str(int(name))
    names = [str(entry.get("name")) if isinstance(entry, dict) else "" for entry in here]
    if name not in names:
        known = ", ".join(found for found in names if found)
        raise SpecError(f"there is no entry {name!r} in the list; there are: {known or f'0 to {len(here) - 1}'}")
    return str(names.index(name))


def _user_settings(path: Path) -> Iterator[tuple[str, Any]]:
    if not path.exists() or _says_nothing(path):
        return
    raw = read_mapping(path, "file of user settings", "it sets fields such as `device` or `data.cache`")
    for dotted, value in leaves(raw):
        if dotted not in OF_A_MACHINE:
            raise SpecError(
                f"{path}: {dotted} cannot be set for all runs, as results would depend on whose machine it is; "
                f"put it into the run's spec. Here may stand: {', '.join(OF_A_MACHINE)}"
            )
        yield dotted, value


def _says_nothing(path: Path) -> bool:
    """Whether a file has no line but blanks and comments: settings that were all taken back."""
    if not path.is_file():
        return False
    lines = path.read_bytes().splitlines()
    return all(not line.strip() or line.strip().startswith(b"#") for line in lines)


def _shared_profile(name: str) -> dict[str, Any] | None:
    return shared_profiles().get(name)


def _own_profile(raw: dict[str, Any], name: str, path: Path) -> dict[str, Any] | None:
    profiles = raw.get("profiles") or {}
    found = profiles.get(name) if isinstance(profiles, dict) else None
    if found is None:
        return None
    if not isinstance(found, dict):
        raise SpecError(f"{path}: the profile {name!r} is {found!r}; wanted a mapping of dotted fields to values")
    return {str(dotted): value for dotted, value in found.items()}


def _unknown_profile(raw: dict[str, Any], name: str, path: Path) -> str:
    profiles = raw.get("profiles") or {}
    mine = ", ".join(sorted(map(str, profiles))) if isinstance(profiles, dict) else ""
    shared = ", ".join(sorted(shared_profiles()))
    return f"{path} has no profile {name!r}; there are: {mine or 'none'}" + (f"; for all runs: {shared}" * bool(shared))
