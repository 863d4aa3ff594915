"""Which files make up a split: as `datasets` decides it, for any tree of files and any README."""

from __future__ import annotations

import itertools
import re
import tempfile
from pathlib import Path

import pytest
from fsspec.utils import glob_translate
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.sources.hub.card import Config, read_card
from shardkit.sources.hub.files import _folders
from shardkit.sources.hub.layout import (
    Unknown,
    choose_config,
    choose_files,
    export_layout,
    find_splits,
    format_of,
    glob_expression,
    main_format,
    usual_layout,
)

FOLDERS = ("data", "train", "test", "dev-x", "my_val", "eval", "other", "__cache__", ".git", "training.1", "testimony")
NAMES = (
    "train.csv", "x-test.csv", "my.valid.1.json", "train-00000-of-00002.parquet", "rare-00001-of-00002.parquet",
    "README.md", "config.json", "trainer.csv", "eval 3.jsonl", "notes.txt", ".gitattributes", "a.csv", "b", "dev",
)  # fmt: skip
trees = st.lists(
    st.tuples(st.lists(st.sampled_from(FOLDERS), max_size=3), st.sampled_from(NAMES)).map(
        lambda parts: "/".join([*parts[0], parts[1]])
    ),
    min_size=1,
    max_size=12,
    unique=True,
)


@settings(max_examples=40, deadline=None)
@given(trees)
def test_usual_layout_is_that_of_datasets(paths: list[str]) -> None:
    data_files = pytest.importorskip("datasets.data_files")
    with tempfile.TemporaryDirectory() as root:
        for path in paths:
            (Path(root) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(root) / path).touch()
        try:
            patterns = data_files.get_data_patterns(root)
            found = data_files.DataFilesDict.from_patterns(patterns, base_path=root)
        except FileNotFoundError:
            found = {}
        theirs = {
            str(split): tuple(dict.fromkeys(str(Path(path).relative_to(root)) for path in files))
            for split, files in found.items()
        }
    assert usual_layout(sorted(paths)) == theirs
    within = usual_layout([*sorted(f"base/{path}" for path in paths), "train.csv"], "base")
    assert within == {split: tuple(f"base/{path}" for path in files) for split, files in theirs.items()}


parts = st.one_of(
    st.just("**"), st.text("ab*?.-", min_size=1, max_size=4).filter(lambda part: "**" not in part), st.just("[a-b]x")
)


@given(
    st.lists(parts, min_size=1, max_size=4).map("/".join),
    st.lists(st.text("abx.-", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join),
)
def test_globs_match_what_fsspec_matches(pattern: str, path: str) -> None:
    assert bool(glob_expression(pattern).fullmatch(path)) == bool(re.match(glob_translate(pattern), path))


@pytest.mark.parametrize(
    ("pattern", "path"),
    [("**/" * 200 + "x", "a/" * 200 + "b"), ("*a" * 40 + "*b", "a" * 200), ("**/*a/" * 40 + "x", "aa/" * 200 + "b")],
)
def test_no_pattern_of_a_stranger_takes_long(pattern: str, path: str) -> None:
    assert glob_expression(pattern).fullmatch(path) is None
    assert glob_expression(pattern.replace("x", "b").replace("*b", "*")).fullmatch(path) is not None


@given(
    st.lists(st.lists(parts, min_size=1, max_size=4).map("/".join), min_size=1, max_size=3),
    st.lists(st.text("abx.-", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join),
)
def test_listed_folders_hold_whatever_matches(patterns: list[str], path: str) -> None:
    if any(glob_expression(pattern).fullmatch(path) for pattern in patterns):
        folder = f"{path.rpartition('/')[0]}/"
        tops = [(f"{top}/", deep) for top, deep in _folders(patterns)]
        assert any(folder == top or (deep and (top == "/" or folder.startswith(top))) for top, deep in tops)


def test_export_folders_are_configs_and_splits() -> None:
    paths = [
        "a b/train.clean/0000.parquet",
        "a b/train.clean/0001.parquet",
        "c/partial-test/0000.parquet",
        "c/x.parquet",
    ]
    assert export_layout(paths) == {"a b": {"train.clean": tuple(paths[:2])}, "c": {"test": (paths[2],)}}


CARDS = {
    "train: *": ("data_files: '*'", {"train": ("*",)}),
    "several": ("data_files: [a, b]", {"train": ("a", "b")}),
    "mapping": ("data_files: {dev: a, test: [b, c]}", {"dev": ("a",), "test": ("b", "c")}),
    "list": ("data_files: [{split: x y, path: a}]", {"x y": ("a",)}),
}


@pytest.mark.parametrize("case", CARDS)
def test_card_gives_patterns_by_split(case: str) -> None:
    text, wanted = CARDS[case]
    [config] = read_card(f"---\nconfigs:\n- config_name: a\n  {text}\n---\nbody\n---\nconfigs: no")
    assert config == Config(name="a", data_files=wanted)


def test_card_s_parameters_are_read_or_named() -> None:
    entry = "{config_name: 1, default: true, data_dir: d, sep: ';', features: [x], skiprows: 1}"
    text = f"---\r\nconfigs:\r\n- {entry}\r\n---\r\n"
    [config] = read_card(text)
    assert config == Config(name="1", default=True, data_dir="d", delimiter=";", strange=("features", "skiprows"))


NO_CARDS = (
    "", "no yaml", "---\n", "---\n[\n---\n", "---\n- a\n---\n", "---\nconfigs: 3\n---\n",
    "---\nconfigs: [{a: 1}, 2]\n---\n", "---\n" + "[" * 2000 + "\n---\n",
    "---\nconfigs: [{config_name: a, data_files: 7}, {config_name: b, data_files: [[a]]}]\n---\n",
)  # fmt: skip


@pytest.mark.parametrize("text", NO_CARDS)
def test_card_without_configs_gives_none(text: str) -> None:
    assert read_card(text) == ()


HOSTILE_CARDS = {
    "deeper than a stack": "[" * 1_000_000,
    "deep name": "configs:\n- config_name: " + "{a: " * 100_000,
    "list for a name": "configs: [{config_name: [a]}]",
    "number that no text has": "configs: [{config_name: 0x" + "f" * 6000 + "}]",
    "date that is none": "configs: [{config_name: 2001-99-99}]",
    "unfolding list": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in itertools.pairwise("abcdefghijkl"))
    + "configs: [{config_name: *l}]",
    "unfolding merge": "a: &a {x: 1}\n"
    + "".join(f"{b}: &{b} {{<<: [{','.join([f'*{a}'] * 9)}]}}\n" for a, b in itertools.pairwise("abcdefghijkl"))
    + "configs: [{config_name: a, <<: *l}]",
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE_CARDS)
def test_hostile_card_gives_no_configs_and_costs_nothing(case: str) -> None:
    assert read_card(f"---\n{HOSTILE_CARDS[case]}\n---\n") == ()


def test_aliases_of_words_are_followed() -> None:
    [config] = read_card("---\nx: &x '*.csv'\nconfigs:\n- config_name: a\n  data_files: *x\n---\n")
    assert config.data_files == {"train": ("*.csv",)}


def test_config_is_chosen_as_the_readme_says() -> None:
    one, other = Config(name="a b"), Config(name="c", default=True)
    assert choose_config([one], "") == one
    assert choose_config([one, other], "") == other
    assert choose_config([one, Config(name="default")], "").name == "default"
    assert choose_config([one, other], "a b") == one
    assert choose_config([], "") == choose_config([], "default") == Config(name="default")
    for configs, wanted in (([one, Config(name="d")], ""), ([one], "c"), ([], "c")):
        with pytest.raises(Unknown) as caught:
            choose_config(configs, wanted)
        assert caught.value.known == tuple(config.name for config in configs) or caught.value.known == ("default",)


def test_format_is_that_of_most_files() -> None:
    assert main_format(["a.parquet", "b.jsonl"]) == "parquet"
    assert main_format(["a.jsonl.gz", "b.ndjson", "c.csv", "README.md", "x.txt", "y.py"]) == "jsonl"
    assert main_format(["a.png", "b.png", "metadata.jsonl"]) == ""
    assert main_format(["a.arrow"]) == main_format(["README.md"]) == main_format([]) == ""
    assert format_of("A.JSONL.ZST") == "jsonl"
    assert format_of("x.tgz") == format_of("x.tar.gz") == "tar"
    assert format_of("x.parquet.gz") == ".parquet"
    chosen = choose_files(["train/a.csv", "train/b.csv", "train/c.md"], Config(name="default"), "train")
    assert chosen.paths == ("train/a.csv", "train/b.csv")


def test_split_without_files_is_no_split() -> None:
    config = Config(name="a", data_files={"train": ("x*",), "test": ("y*",)})
    assert find_splits(["x.csv", "z.csv"], config) == {"train": ("x.csv",)}
    with pytest.raises(Unknown) as caught:
        choose_files(["x.csv"], config, "test")
    assert caught.value.known == ("train",)
