"""One expression stands for the files that webdataset and the shell would take, or is refused."""

from __future__ import annotations

import glob
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardkit.errors import NotADataset, SpecError
from shardkit.store.braces import expand_braces
from shardkit.store.patterns import expand, is_pattern, open_file, split_file


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("shard-{000..003}.tar", ["shard-000.tar", "shard-001.tar", "shard-002.tar", "shard-003.tar"]),
        ("{9..11}", ["9", "10", "11"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{0..10..5}", ["0", "5", "10"]),
        ("{-1..1}", ["-1", "0", "1"]),
        ("{a..e..2}", ["a", "c", "e"]),
        ("{a,b}{1,2}", ["a1", "a2", "b1", "b2"]),
        ("{train-{0..1},test}.tar", ["train-0.tar", "train-1.tar", "test.tar"]),
        ("a{,.bak}", ["a", "a.bak"]),
        (r"a\{1,2\}", ["a{1,2}"]),
        ("{x}", ["{x}"]),
        ("plain", ["plain"]),
        ("{01..01}" * 400, ["01" * 400]),
    ],
)
def test_braces_stand_for_what_bash_makes_of_them(text: str, names: list[str]) -> None:
    assert list(expand_braces(text, 100)) == names


# No lone backslash: the library takes a doubled one within nested braces for two levels of escaping.
TOKENS = ("{", "}", ",", "..", "0", "1", "07", "-", "a", "c", "Z", r"\{", r"\}", r"\,")


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=14))
def test_braces_are_those_of_the_library_that_webdataset_uses(parts: list[str]) -> None:
    braceexpand = pytest.importorskip("braceexpand", reason="braceexpand is not installed")
    text = "".join(parts)
    try:
        ours = list(expand_braces(text, 1000))
    except SpecError:
        return
    assert ours == list(itertools.islice(braceexpand.braceexpand(text), 1001))


@pytest.mark.parametrize("text", ["a{1", "a}", "{1{2,3}", "}{"])
def test_unbalanced_braces_are_refused(text: str) -> None:
    with pytest.raises(SpecError, match="unbalanced"):
        expand(text)


@pytest.mark.parametrize(
    "text",
    [
        "{0..99999999999}",
        "{0..9}" * 9,
        "{0..99999}" * 2000,
        "{" * 40 + "a,b" + "}" * 40,
        "{0.." + "9" * 5000 + "}",
        "{a,b}" + "x" * 70_000,
    ],
)
def test_an_expression_of_too_many_names_is_refused_before_it_takes_memory(text: str) -> None:
    with pytest.raises(SpecError, match=r"names|deeper|digits|characters"):
        expand(text)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "b.tar",
        "a.tar",
        ".c.tar",
        "d.txt",
        "x/a.tar",
        "x/y/a.tar",
        "x/.h/a.tar",
        "z[1].tar",
        "é.tar",
        "x/q?",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "folder.tar").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


PATTERNS = (
    "*.tar", "?.tar", "[ab].tar", "[!a].tar", "[^a].tar", "*/a.tar", "x/*/a.tar", "**/a.tar", "**/*.tar", "x/**",
    "x/**/a.tar", ".*.tar", "[a-b].*", "*", "[é].tar", "x/q[?]", "**/y/*.tar",
)  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_globs_match_the_files_that_the_standard_library_matches(tree: Path, pattern: str) -> None:
    standard = pattern.replace("[^a]", "[!a]")
    wanted = sorted(name for name in glob.glob(standard, recursive=True) if Path(name).is_file())  # noqa: PTH207
    assert wanted
    assert expand(pattern) == wanted
    assert expand(f"{tree}/{pattern}") == [f"{tree}/{name}" for name in wanted]


def test_a_name_that_exists_stands_for_itself(tree: Path) -> None:
    assert expand("z[1].tar") == ["z[1].tar"]
    assert not is_pattern(tree / "z[1].tar")
    assert not is_pattern(tree)


def test_braces_keep_their_order_and_each_glob_is_sorted(tree: Path) -> None:
    assert expand("{b,a}.tar") == ["b.tar", "a.tar"]
    assert expand("{x/*.tar,[ba].tar}") == ["x/a.tar", "a.tar", "b.tar"]
    assert expand(["b.tar", "x/*.tar::a.tar"]) == ["b.tar", "x/a.tar", "a.tar"]


def test_what_is_no_pattern_is_told_apart() -> None:
    for text in ("a{0..1}.tar", "s3://b/*.tar", "s3://b/a?.tar", "http://h/{0..1}.tar", "a.tar::b.tar", "h/[ab]"):
        assert is_pattern(text)
    for text in ("a.tar", "http://h/a.tar?x=1&y=[2]", "s3://b/a.tar", "http://[::1]:80/a.tar", r"a\{b\}"):
        assert not is_pattern(text)


def test_no_match_doubles_and_globs_over_http_are_refused_clearly(tree: Path) -> None:
    with pytest.raises(SpecError, match="matches no file"):
        expand("nothing-*.tar")
    with pytest.raises(SpecError, match="found no folder absent"):
        expand("absent/*.tar")
    with pytest.raises(SpecError, match=r"a\.tar is named twice"):
        expand(["a.tar", "*.tar"])
    with pytest.raises(SpecError, match="name the files with braces"):
        expand("http://user:canary@host/*.tar?token=canary")
    with pytest.raises(SpecError, match="empty list"):
        expand([])
    with pytest.raises(SpecError, match="more than 3 files"):
        expand("**/*", max_names=3)


def test_queries_travel_with_every_name() -> None:
    assert expand("https://h/s-{0..1}.tar?token=x") == ["https://h/s-0.tar?token=x", "https://h/s-1.tar?token=x"]


@pytest.mark.parametrize(
    ("url", "folder", "name"),
    [
        ("https://u:p@h/a/b%20c.tar?token=x", "https://u:p@h/a?token=x", "b c.tar"),
        ("http://h/a.tar", "http://h", "a.tar"),
        ("s3://bucket/a%20b/c.tar", "s3://bucket/a%20b", "c.tar"),
        ("hf://datasets/o/n@main/c.tar", "hf://datasets/o/n@main", "c.tar"),
        ("file:///data/a%20b.tar", "/data", "a b.tar"),
        ("a.tar", ".", "a.tar"),
        ("/a.tar", "/", "a.tar"),
        ("x/a.tar", "x", "a.tar"),
    ],
)
def test_a_file_is_found_in_its_folder(url: str, folder: str, name: str) -> None:
    assert split_file(url) == (folder, name)


def test_a_single_file_is_opened_where_it_lies(tree: Path) -> None:
    store, name = open_file("x/a.tar")
    assert store.read(name, 10) == b"1"
    with pytest.raises(SpecError, match="names no file"):
        open_file("s3://bucket")
    with pytest.raises(NotADataset):
        open_file("absent/a.tar")


def test_a_folder_is_listed_deep_or_flat(tree: Path) -> None:
    store, _ = open_file(tree / "a.tar")
    assert store.list_files("x") == store.list_files("x/") == ["x/.h/a.tar", "x/a.tar", "x/q?", "x/y/a.tar"]
    assert store.list_files("x", deep=False) == ["x/.h/", "x/a.tar", "x/q?", "x/y/"]
    assert store.list_files("absent") == store.list_files("a.tar", deep=False) == []
    assert "x/y/a.tar" in store.list_files()


@pytest.mark.parametrize("pattern", ["[1-0]*", "a[z-a]"])
def test_a_range_that_goes_backwards_is_refused(tree: Path, pattern: str) -> None:
    with pytest.raises(SpecError, match="goes backwards"):
        expand(str(tree / pattern))


def test_a_link_that_leads_to_itself_is_passed_over(tree: Path) -> None:
    names = expand(str(tree / "*"))
    (tree / "loop").symlink_to("loop")
    assert [name for name in expand(str(tree / "*")) if not name.endswith("loop")] == names
