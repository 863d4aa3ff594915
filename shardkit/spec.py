"""Build specs: what a user writes in YAML, as frozen structs that refuse typos and impossible values.

Here: the structs, loading with variables and `--set`, and the JSON Schema for editors.
Elsewhere: YAML and what is wrong with it (plain.py), making a spec concrete (build.plan).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import msgspec

from shardkit.errors import SpecError
from shardkit.plain import check_numbers, choices
from shardkit.plain import parse_yaml as parse_yaml

Codec = Literal["tar", "tar.zst"]
T = TypeVar("T")
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every spec struct."""


class Limits(Strict, frozen=True, kw_only=True):
    """Bounds of a build. Rows beyond a bound become dead letters; shards are cut at theirs.

    Bytes are plain integers; `memory_bytes` bounds the whole process tree, however slow the disk is.
    """

    memory_bytes: int = 1 << 30
    shard_bytes: int = 256 << 20
    shard_samples: int = 10_000
    block_samples: int = 16
    member_bytes: int = 512 << 20
    text_characters: int = 2_000_000
    image_pixels: int = 50_000_000
    audio_seconds: float = 7200.0
    video_seconds: float = 7200.0
    video_frames: int = 1_000_000

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) <= 0:
                raise ValueError(f"limits.{name} is {getattr(self, name)}; it must be positive")
        if self.memory_bytes < 256 << 20:
            raise ValueError(
                f"limits.memory_bytes is {self.memory_bytes}; a build needs at least {256 << 20} (256 MiB)"
            )
        if self.member_bytes >= 8 << 30:
            raise ValueError("limits.member_bytes must be under 8 GiB, the largest member that a USTAR header can hold")
        if self.block_samples > 4096:
            raise ValueError(f"limits.block_samples is {self.block_samples}; at most 4096")


class ImageOptions(Strict, frozen=True, kw_only=True):
    """How images are stored. Valid bytes within `max_side` pixels are kept as they are."""

    max_side: int = 4096
    format: Literal["keep", "png", "jpeg", "webp"] = "keep"
    quality: int = 90


class AudioOptions(Strict, frozen=True, kw_only=True):
    """How sound is stored: FLAC, mono, 16 bit. Durations in seconds, loudness in LUFS (none: left as it is)."""

    sample_rate: int = 16_000
    min_seconds: float = 0.05
    max_seconds: float | None = None
    loudness: float | None = None


class VideoOptions(Strict, frozen=True, kw_only=True):
    """How videos are stored: `keyframes` frames spread over the video's keyframes (0: all of them), as JPEG."""

    keyframes: int = 8
    max_side: int = 1280
    quality: int = 90
    audio: bool = True


class MediaOptions(Strict, frozen=True, kw_only=True):
    """What is done to the media of one source."""

    image: ImageOptions = ImageOptions()
    audio: AudioOptions = AudioOptions()
    video: VideoOptions = VideoOptions()


class SourceSpec(Strict, frozen=True, kw_only=True, tag_field="kind"):
    """Fields that every kind of source has.

    `normalizer` names a row of the table in records.normalize, `columns` maps its roles to fields of the row
    (`{question: q, answer: a}`), `options` are further settings of the normaliser. `sample` is how many samples
    `--sample` without a number takes; `limit` bounds a full build; `ratio` is the share of `total`.
    `partitions` is how many build lanes the source has: part of the plan, unlike the number of processes.
    `codec` is `tar`, which every WebDataset reader takes, or `tar.zst`, which pays for text.
    `fallback` is used in place of this source where this one's tool is not installed; the plan says so.
    """

    LOCATIONS: ClassVar[tuple[str, ...]] = ()
    """Fields that say where the bytes are, not what they are: not part of the plan's digest."""

    name: str
    normalizer: str
    columns: dict[str, str] = {}
    options: dict[str, str | int | float | bool] = {}
    domain: str = ""
    category: str = ""
    licence: str = ""
    media_type: str = ""
    language: str = ""
    sample: int = 25
    limit: int | None = None
    ratio: float | None = None
    partitions: int = 1
    codec: Codec = "tar"
    media: MediaOptions = MediaOptions()
    fallback: FilesSource | JsonlSource | ParquetSource | GitSource | GeneratedSource | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"source name {self.name!r}: use lower-case letters, digits, - and _, at most 64")
        if not 1 <= self.partitions <= 1024:
            raise ValueError(f"source {self.name}: partitions is {self.partitions}; between 1 and 1024")
        if self.sample < 1 or (self.limit is not None and self.limit < 1):
            raise ValueError(f"source {self.name}: sample and limit must be at least 1")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise ValueError(f"source {self.name}: ratio is {self.ratio}; between 0 and 1")


class FilesSource(SourceSpec, frozen=True, kw_only=True, tag="files"):
    """A folder: one row a file, in sorted order of relative paths.

    `path` is a folder or a file, or `python:stdlib`, the running Python's own library. Patterns are globs over
    relative paths with `/` (`**` for any depth). The file's bytes are the row's blob; text files become
    `fields["text"]`. Sizes in bytes.
    """

    LOCATIONS: ClassVar[tuple[str, ...]] = ("path",)

    path: str
    include: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    min_bytes: int = 1
    max_bytes: int | None = None


class JsonlSource(SourceSpec, frozen=True, kw_only=True, tag="jsonl"):
    """JSON objects, one a line; `path` is a file or a folder of .jsonl, .jsonl.gz, .jsonl.zst (or .ndjson)."""

    LOCATIONS: ClassVar[tuple[str, ...]] = ("path",)

    path: str
    include: tuple[str, ...] = ("**/*.jsonl", "**/*.jsonl.gz", "**/*.jsonl.zst", "**/*.ndjson")
    line_bytes: int = 16 << 20


class ParquetSource(SourceSpec, frozen=True, kw_only=True, tag="parquet"):
    """Parquet files, a row a row; columns of structs {bytes, path} are media."""

    LOCATIONS: ClassVar[tuple[str, ...]] = ("path",)

    path: str
    include: tuple[str, ...] = ("**/*.parquet",)


class GitSource(SourceSpec, frozen=True, kw_only=True, tag="git"):
    """The text files of one commit of a git repository: a URL, a local clone or a bundle file.

    `revision` is a branch, tag or commit; the plan pins the commit. Filters as in `files`; lengths in characters.
    """

    LOCATIONS: ClassVar[tuple[str, ...]] = ("url",)

    url: str
    revision: str = ""
    extensions: tuple[str, ...] = (
        "py", "js", "ts", "jsx", "tsx", "dart", "swift", "kt", "yaml", "yml", "json", "md", "dockerfile", "tf",
    )  # fmt: skip
    include: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()
    min_characters: int = 50
    max_characters: int = 100_000


class GeneratedSource(SourceSpec, frozen=True, kw_only=True, tag="generated"):
    """Rows made by a generator of the table in synth: row i is a pure function of (seed, generator, i)."""

    generator: str
    count: int
    seed: int | None = None
    parameters: dict[str, str | int | float | bool] = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < 1:
            raise ValueError(f"source {self.name}: count is {self.count}; at least 1")


AnySource = FilesSource | JsonlSource | ParquetSource | GitSource | GeneratedSource


class BuildSpec(Strict, frozen=True, kw_only=True):
    """One build: sources in the order in which their lanes are listed, and what bounds them.

    `variables` are placeholders for `${name}` in any text of the spec; one without a value must be given by `--set`.
    `total` with the sources' ratios turns into quotas. `duplicates`: `omit` leaves out a sample whose key came
    earlier in the dataset, `keep` keeps those of other shards.
    """

    name: str
    description: str = ""
    seed: int = 0
    variables: dict[str, str | None] = {}
    total: int | None = None
    duplicates: Literal["omit", "keep"] = "omit"
    limits: Limits = Limits()
    sources: tuple[AnySource, ...]

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name {self.name!r}: use lower-case letters, digits, - and _, at most 64")
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if not names:
            raise ValueError("sources is empty; a build needs at least one source")
        if twice:
            raise ValueError(f"source names must differ; given twice: {', '.join(twice)}")
        if self.total is not None and self.total < 1:
            raise ValueError(f"total is {self.total}; it must be at least 1")
        if self.total is not None and any(source.ratio is None for source in self.sources):
            raise ValueError("total is given: every source needs a ratio")


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
