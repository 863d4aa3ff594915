"""Which files of a repository make up a split of a configuration.

Here: the README's patterns, the layouts that the Hub recognises without any, the choice among configurations, splits
and formats. Pure: paths in, paths out.
Elsewhere: the README (card.py), the listing of the repository (source.py).

The rules are those of https://huggingface.co/docs/datasets/repository_structure, as `datasets` 5 follows them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shardkit.sources.hub.card import Config

KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SHARDED = "data/{split}-[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]*.*"
SEPARATORS = "-._ 0-9"
NEVER_DATA = frozenset(
    {"README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dummy_data.zip", "dataset_dict.json"}
)
EXPORT = re.compile(r"(?P<config>[^/]+)/(?:partial-)?(?P<split>[^/]+)/[0-9]{4,}\.parquet")
"""Where the Hub keeps the parquet that it makes of other files, on the branch refs/convert/parquet."""

OURS = {
    ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "csv",
    ".tar": "tar",
}  # fmt: skip
"""Formats that are read here, by the end of the name; `.gz` and `.zst` may stand behind all but parquet."""
PACKED = (".gz", ".zst")
ASIDE = frozenset({
    ".md", ".py", ".txt", ".yaml", ".yml", ".toml", ".sh", ".ipynb", ".pdf", ".html", ".lock", ".gitattributes", ".cff",
    ".gitignore", ".bib", ".log", ".lst",
})  # fmt: skip
"""Beside data of any other kind these are never the data."""


class Unknown(Exception):
    """A configuration or split that is not there: `what`, and what there is."""

    def __init__(self, what: str, wanted: str, known: Iterable[str]) -> None:
        super().__init__(what)
        self.what, self.wanted, self.known = what, wanted, tuple(known)


class Chosen(NamedTuple):
    """Files in the order in which they are read, their format (empty: none of ours), and the configuration."""

    paths: tuple[str, ...]
    format: str
    config: Config


def choose_config(configs: Sequence[Config], wanted: str) -> Config:
    """The configuration of that name; the default one for none. Raises Unknown."""
    names = [config.name for config in configs]
    found = next((config for config in configs if config.name == wanted), None)
    if found is None and not wanted:
        usual = [config for config in configs if len(names) == 1 or config.name == "default" or config.default]
        found = usual[0] if usual else None
    if found is None and not configs and wanted in ("", "default"):
        found = Config(name="default")
    if found is None:
        raise Unknown("config", wanted, names or ["default"])
    return found


def choose_files(paths: Sequence[str], config: Config, split: str) -> Chosen:
    """The files of a split of a configuration among all paths of a repository. Raises Unknown (the split)."""
    splits = find_splits(paths, config)
    if split not in splits:
        raise Unknown("split", split, splits)
    kind = main_format(splits[split])
    own = tuple(path for path in splits[split] if not kind or format_of(path) == kind)
    return Chosen(own, kind, config)


def find_splits(paths: Sequence[str], config: Config) -> dict[str, tuple[str, ...]]:
    """Files by split, of those splits that have any."""
    base = config.data_dir.strip("/")
    if config.data_files is None:
        return usual_layout(paths, base)
    prefix = f"{base}/" if base else ""
    found = {
        split: match_all(paths, [prefix + pattern for pattern in patterns])
        for split, patterns in config.data_files.items()
    }
    return {split: files for split, files in found.items() if files}


def usual_layout(paths: Sequence[str], base: str = "") -> dict[str, tuple[str, ...]]:
    """Files by split as their names and folders tell; all of them are `train` where nothing does."""
    prefix = f"{base}/" if base else ""
    paths = [path for path in paths if path.startswith(prefix)]
    sharded = _sharded(paths, prefix)
    if sharded:
        return sharded
    for make in (_folder_patterns, _file_patterns):
        found = {
            split: match_all(paths, [prefix + pattern for word in words for pattern in make(word)])
            for split, words in KEYWORDS.items()
        }
        found = {split: files for split, files in found.items() if files}
        if found:
            return found
    everything = match_all(paths, [f"{prefix}**"])
    return {"train": everything} if everything else {}


def export_layout(paths: Sequence[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Files by configuration and split, where all parquet lies as on the branch refs/convert/parquet."""
    found: dict[str, dict[str, list[str]]] = {}
    for path in paths:
        match = EXPORT.fullmatch(path)
        if match:
            found.setdefault(match["config"], {}).setdefault(match["split"], []).append(path)
    return {config: {split: tuple(sorted(own)) for split, own in splits.items()} for config, splits in found.items()}


def match_all(paths: Iterable[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """The paths that match, pattern by pattern, each once: hidden files and folders only where a pattern names them."""
    found: dict[str, None] = {}
    for pattern in patterns:
        expression = glob_expression(pattern)
        matched = (path for path in paths if expression.fullmatch(path) and _meant(path, pattern))
        found.update(dict.fromkeys(sorted(matched)))
    return tuple(found)


def glob_expression(pattern: str) -> re.Pattern[str]:
    """A glob as fsspec means it: `**` alone between slashes is any folders, `*` and `?` stay within a part.

    Whatever the pattern, and a stranger's README may hold any, matching takes little: what stands between two stars is
    looked for once, at its first place, since what follows can be found behind it wherever it can be found at all.
    """
    runs = _runs(pattern.split("/"))
    text = ""
    for at, run in enumerate(runs):
        first, last = at == 0, at == len(runs) - 1
        parts = "/".join(map(_part_expression, run))
        if last:
            text += ("" if first else "(?:[^/]+/)*?" if run else ".+") + parts
        elif run:
            text += f"{parts}/" if first else f"(?>(?:[^/]+/)*?{parts}/)"
    try:
        return re.compile(text, re.DOTALL)
    except re.error:
        return re.compile(re.escape(pattern))


def _runs(parts: Sequence[str]) -> list[list[str]]:
    """The parts between each `**` and the next, which several together are too."""
    runs: list[list[str]] = [[]]
    for at, part in enumerate(parts):
        if part != "**":
            runs[-1].append(part)
        elif at == 0 or parts[at - 1] != "**":
            runs.append([])
    return runs


def main_format(paths: Iterable[str]) -> str:
    """The format of most files, where it is one of ours; empty where most are of another."""
    counts = Counter(format_of(path) for path in paths)
    del counts["aside"]
    order = ["parquet", "jsonl", "json", "csv", "tar"]
    ranked = sorted(counts, key=lambda kind: (-counts[kind], order.index(kind) if kind in order else 99, kind))
    return ranked[0] if ranked and ranked[0] in order else ""


def format_of(path: str) -> str:
    """`parquet`, `jsonl`, `json`, `csv` or `tar`; `aside` for what is no data; else the end of its name."""
    name = path.rpartition("/")[2].lower()
    packed = next((end for end in PACKED if name.endswith(end)), "")
    stem = name.removesuffix(packed)
    if stem.endswith(".tgz"):
        return "tar"
    end = stem[stem.rfind(".") :] if "." in stem else ""
    kind = OURS.get(end, "")
    if kind and not (packed and kind == "parquet"):
        return kind
    return "aside" if end in ASIDE or not end else end


def _sharded(paths: Sequence[str], prefix: str) -> dict[str, tuple[str, ...]]:
    head, tail = SHARDED.split("{split}")
    expression = re.compile(re.escape(prefix + head) + r"(?P<split>[^/]+)" + glob_expression(tail).pattern, re.DOTALL)
    found: dict[str, list[str]] = {}
    for path in sorted(paths):
        match = expression.fullmatch(path)
        if match and path.rpartition("/")[2] not in NEVER_DATA:
            found.setdefault(match["split"], []).append(path)
    order = [split for split in KEYWORDS if split in found] + sorted(set(found) - set(KEYWORDS))
    return {split: tuple(found[split]) for split in order}


def _folder_patterns(word: str) -> tuple[str, ...]:
    around = f"[{SEPARATORS}]"
    return f"**/{word}/**", f"**/{word}{around}*/**", f"**/*{around}{word}/**", f"**/*{around}{word}{around}*/**"


def _file_patterns(word: str) -> tuple[str, ...]:
    around = f"[{SEPARATORS}]"
    return f"**/{word}{around}*", f"**/*{around}{word}{around}*"


def _part_expression(part: str) -> str:
    pieces = [""]
    for token in re.findall(r"\[!?\]?[^\]]*\]|.", part, re.DOTALL):
        if token == "*":
            pieces.append("")
        elif token == "?":
            pieces[-1] += "[^/]"
        elif len(token) > 1:
            inside = token[1:-1].replace("\\", "\\\\").replace("[", "\\[")
            pieces[-1] += "[" + ("^" + inside[1:] if inside.startswith("!") else inside) + "]"
        else:
            pieces[-1] += re.escape(token)
    first, *middle = pieces
    last = f"[^/]*{middle.pop()}" if middle else ""
    return first + "".join(f"(?>[^/]*?{piece})" for piece in middle) + last


def _meant(path: str, pattern: str) -> bool:
    """Whether a pattern names as many hidden parts, and folders that begin with __, as the path has."""
    parts, asked = path.split("/"), pattern.split("/")
    if parts[-1] in NEVER_DATA and parts[-1] != asked[-1]:
        return False
    hidden = [sum(part.startswith(".") for part in each) for each in (parts, asked)]
    special = [sum(part.startswith("__") for part in each[:-1]) for each in (parts, asked)]
    return hidden[0] == hidden[1] and special[0] == special[1]
