"""Pinning a data set of the Hub: its commit, its files, and what is said where it cannot be had."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shardkit.errors import SourceFailed, SourceUnavailable, SpecError
from shardkit.records.row import Row
from shardkit.sources.base import Pinned
from shardkit.sources.hub import source as hub_source
from shardkit.spec import HubSource
from tests.servers.hub import DISABLED, OTHER_TOKEN, TOKEN, Hub
from tests.sources.hub.repositories import LINES, NAME, REPOSITORIES, Opener, parquet, spec
from tests.store.buckets import use_environment

ONE = parquet([{"question": "?", "answer": "yes"}])
SCRIPTED = {"name.py": "import datasets", "README.md": "# it", "data/python/data.jsonl": LINES}


def first(opened: Any) -> str:
    row = opened.rows()[0]
    assert isinstance(row, Row)
    return row.position


def test_revision_is_the_commit_whatever_names_it(hub: Hub, opened: Opener) -> None:
    old = hub.commit(NAME, {"train.jsonl": LINES}, "v1.0")
    new = hub.commit(NAME, {"train.jsonl": LINES[:100]})
    hub.commit(NAME, {"train.jsonl": LINES}, "refs/pr/1")
    assert opened().pinned == Pinned(revision=new, bytes=100)
    assert opened(revision="v1.0").pinned.revision == old
    assert opened(revision="refs/pr/1").pinned.revision == old
    assert opened(revision=old).pinned.revision == old
    here = opened()
    hub.commit(NAME, {"train.jsonl": "moved on"})
    assert len(here.rows()) == 3  # of the plan's commit: two lines and a cut one


def test_listing_comes_in_pages(hub: Hub, opened: Opener) -> None:
    hub.pages = 2
    hub.commit(NAME, {f"train/{number:03d}.jsonl": LINES for number in range(9)})
    here = opened()
    assert here.pinned.bytes == 9 * len(LINES)
    assert len(hub.asked("cursor=")) == 4
    assert len(here.rows()) == 9 * 23


def test_renamed_data_set_is_followed_and_named(hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, {"train.jsonl": LINES})
    hub.renamed |= {"old/name": NAME, "bare": NAME}
    for old in ("old/name", "bare"):
        hub.requests.clear()
        here = opened(dataset=old)
        assert here.pinned.revision == hub.head(NAME)
        assert here.pinned.note == f"{old} is called {NAME} on the Hub now"
        assert len(here.rows()) == 23
        assert len(hub.asked(f"datasets/{old}/")) == 1  # only the first question goes to the old name


def test_readme_says_which_files(hub: Hub, opened: Opener) -> None:
    card = """---
license: mit
configs:
- config_name: standard (4 options)
  data_files:
  - split: train.clean.100
    path: a/*.csv
  - split: test
    path: [b.csv, "c-[0-9].csv"]
  sep: ";"
- config_name: other
  data_dir: other
---
# text
"""
    rows = "question;answer\n1?;{}\n"
    names = ("a/x.csv", "a/y.csv", "a/b/z.csv", "b.csv", "c-1.csv", "c-x.csv")
    hub.commit(NAME, {"README.md": card, "other/test.jsonl": LINES} | {name: rows.format(name) for name in names})

    def answers(config: str, split: str) -> list[Any]:
        return [row.fields["answer"] for row in opened(config=config, split=split).rows() if isinstance(row, Row)]

    assert answers("standard (4 options)", "train.clean.100") == ["a/x.csv", "a/y.csv"]
    assert answers("standard (4 options)", "test") == ["b.csv", "c-1.csv"]
    assert len(answers("other", "test")) == 23
    with pytest.raises(
        SpecError, match=r"has several configs and no default; there are: standard \(4 options\), other"
    ):
        opened()
    with pytest.raises(SpecError, match=r"has no config 'best'; there are: standard .*; give one of them as `config`"):
        opened(config="best")
    with pytest.raises(SpecError, match=r"has no split 'train'; there are: train\.clean\.100, test; give one of them"):
        opened(config="standard (4 options)")
    with pytest.raises(SpecError, match=r"has no split 'train'; there are: test; give one of them as `split`"):
        opened(config="other")


def test_only_the_folders_of_the_patterns_are_listed(hub: Hub, opened: Opener) -> None:
    card = "---\nconfigs:\n- config_name: a\n  data_files: data/a/*\n- config_name: b\n  data_files: data/b/*\n---\n"
    hub.commit(NAME, {"README.md": card, "data/a/x.jsonl": LINES, "data/b/x.jsonl": LINES, "more/y.jsonl": LINES})
    assert first(opened(config="b")) == "data/b/x.jsonl:1"
    assert [request.path.partition("/tree/")[2].partition("/")[2] for request in hub.asked("/tree/")] == [
        "data/b?recursive=false&expand=false"
    ]


def test_data_files_and_data_dir_go_before_the_readme(hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, {"a/train.jsonl": LINES, "a/test.jsonl": LINES, "b/train-x.jsonl": LINES, "b/c/notes.txt": "x"})
    assert first(opened(data_files=("b/**",), split="anything")) == "b/train-x.jsonl:1"
    assert first(opened(data_dir="a", split="test")) == "a/test.jsonl:1"
    assert first(opened(data_dir="b", data_files=("t*",))) == "b/train-x.jsonl:1"
    with pytest.raises(SpecError, match=r"has no file that matches none/\*, x\.csv; look at http.*/tree/main"):
        opened(data_files=("none/*", "x.csv"))
    with pytest.raises(SpecError, match=r"has no file that matches c/\*\*"):
        opened(data_dir="c")


def test_program_is_named_and_its_files_can_be_read(hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, SCRIPTED)
    with pytest.raises(SpecError, match=r"by a program of its own, name\.py, .* as `data_files`$"):
        opened()
    hub.exports[NAME] = {"python": {"train": ["https://host/0.parquet"]}, "go": {}}
    with pytest.raises(SpecError, match=r"or set `revision: refs/convert/parquet`.*\(configs: go, python\)$"):
        opened(config="python")
    assert first(opened(data_files=("data/python/data.jsonl",))) == "data/python/data.jsonl:1"
    hub.commit(NAME, {"python/train/0000.parquet": ONE, "go/partial-test/0000.parquet": ONE}, "refs/convert/parquet")
    assert first(opened(config="python", revision="refs/convert/parquet")) == "python/train/0000.parquet:1"
    assert first(opened(config="go", split="test", revision="refs/convert/parquet")) == "go/partial-test/0000.parquet:1"
    with pytest.raises(SpecError, match="several configs and no default; there are: go, python"):
        opened(revision="refs/convert/parquet")
    hub.commit("owner/renamed", SCRIPTED)
    hub.renamed["old/name"] = "owner/renamed"
    with pytest.raises(SpecError, match=r"name\.py"):
        opened(dataset="old/name")


@pytest.mark.parametrize("files", [{}, {"README.md": "moved", ".gitattributes": "x"}])
def test_empty_repository_is_named_so(files: dict[str, str], hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, files)
    with pytest.raises(SpecError, match=rf"owner/name holds (no files|2 files, none of them data); see {hub.url}"):
        opened()


def test_files_of_other_kinds_are_named(hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, {"train/a.png": "x", "train/b.png": "y", "train/metadata.csv": "file_name,text"})
    with pytest.raises(SpecError, match=r"files that are not read here \(csv, png\); leave out `reader`"):
        opened(reader="files")


REFUSALS: dict[str, tuple[Callable[[Hub], Any], str, str]] = {
    "gated": (lambda hub: hub.gated.add(NAME), "", r"is gated; accept its conditions at http\S+/datasets/owner/name, "
              r"then set HF_TOKEN to a token of that user \(status 401\)"),
    "gated, not let in": (lambda hub: hub.gated.add(NAME), OTHER_TOKEN, r"is gated, and your token's user has not been "
                          r"let in; accept its conditions at http\S+/datasets/owner/name \(status 403\)"),
    "private": (lambda hub: hub.private.add(NAME), "", r"does not exist on the Hub, or is private; .*set HF_TOKEN"),
    "gone": (lambda hub: hub.commits.pop(NAME), TOKEN, r"does not exist on the Hub \(any more\); .*taken its place"),
    "gone, a stranger": (lambda hub: hub.commits.pop(NAME), "", r"does not exist on the Hub, or is private"),
    "disabled": (lambda hub: hub.disabled.add(NAME), "", r"was disabled on the Hub; see http"),
    "bad token": (lambda hub: None, "hf_canaryold", r"does not know the token; make a new one, or unset HF_TOKEN"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("fields", [{}, {"data_files": ("train.jsonl",)}], ids=["by layout", "by name"])
def test_refusal_says_what_to_do(
    case: str, fields: dict[str, Any], hub: Hub, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit(NAME, {"train.jsonl": LINES})
    change, token, message = REFUSALS[case]
    monkeypatch.setenv("HF_TOKEN", token)
    assert case == "bad token" or opened(**fields)
    change(hub)
    with pytest.raises(SourceUnavailable, match=message) as caught:
        opened(**fields)
    assert str(caught.value).startswith("source here: owner/name ")
    assert "canary" not in repr(caught.getrepr())
    assert DISABLED not in str(caught.value)


def test_repository_that_is_closed_later_stops_the_lane(hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, {"train.jsonl": LINES})
    here = opened()
    hub.gated.add(NAME)
    with pytest.raises(SourceUnavailable, match="is gated; accept its conditions"):
        here.rows()
    hub.gated.clear()
    commit = hub.commits[NAME].pop(hub.head(NAME))
    hub.commits[NAME]["f" * 40] = commit
    with pytest.raises(SourceFailed, match="has no such revision "):
        here.rows()


def test_token_opens_what_is_gated_and_goes_to_the_hub_alone(
    hub: Hub, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = [json.dumps({"question": "q" * 20_000, "answer": str(at)}) for at in range(23)]  # more than one request
    hub.commit(NAME, {"train.jsonl": "\n".join(long).encode()})
    hub.gated.add(NAME)
    hub.large_bytes = 1
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert len(opened().rows()) == 23
    assert all(request.headers.get("authorization") == f"Bearer {TOKEN}" for request in hub.requests)
    assert len(hub.cdn.requests) > 2, "the link is used again"
    assert not any("authorization" in request.headers for request in hub.cdn.requests)


def test_endpoint_of_a_spec_gets_no_token(hub: Hub, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit(NAME, {"train.jsonl": LINES})
    use_environment(monkeypatch, HF_ENDPOINT="http://127.0.0.1:9", HF_TOKEN=TOKEN)
    assert len(opened(endpoint=hub.url).rows()) == 23
    assert not any("authorization" in request.headers for request in hub.requests)


@pytest.mark.parametrize("fields", [{}, {"split": "gone"}, {"revision": "v9"}])
def test_wrong_names_are_not_taken_for_others(fields: dict[str, str], hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, {"validation.jsonl": LINES})
    with pytest.raises(
        (SpecError, SourceFailed), match=r"there are: validation; give|has no such revision .*give a branch"
    ):
        opened(**fields)


def test_offline_is_said_at_once(hub: Hub, opened: Opener, monkeypatch: pytest.MonkeyPatch, naps: list[float]) -> None:
    hub.commit(NAME, {"train.jsonl": LINES})
    here = opened()
    hub.requests.clear()
    with pytest.raises(SourceUnavailable, match=r"`offline` is true, so owner/name is not asked for; unset it, or"):
        opened(offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for act in (opened, here.rows):
        with pytest.raises(SourceUnavailable, match=r"HF_HUB_OFFLINE is set, so owner/name is not asked for"):
            act()
    assert not hub.requests
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
        for settings in ({"HF_ENDPOINT": nobody}, {"HF_ENDPOINT": "http://hub.invalid", "http_proxy": nobody}):
            use_environment(monkeypatch, **settings)
            with pytest.raises(SourceUnavailable, match=r"cannot be reached; check the network and HF_ENDPOINT, or"):
                opened()
    assert not naps


def test_busy_hub_is_waited_for_as_long_as_it_asks(hub: Hub, opened: Opener, naps: list[float]) -> None:
    hub.commit(NAME, {"train.jsonl": LINES})
    hub.api_faults = ["429", "503", ""]
    hub.retry_after = {"Retry-After": "17"}
    hub.faults = ["", "429"]
    here = opened()
    assert naps == [17.0, 17.0, 17.0]
    hub.retry_after = {
        "RateLimit": '"resolvers";r=0;t=211',
        "RateLimit-Policy": '"fixed window";"resolvers";q=3000;w=300',
    }
    hub.faults = ["429"]
    assert len(here.rows()) == 23
    assert naps[3:] == [211.0]


def test_hub_that_stays_busy_is_named_so(hub: Hub, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_source, "PATIENCE", msgspec.structs.replace(hub_source.PATIENCE, attempts=3))
    hub.commit(NAME, {"train.jsonl": LINES})
    here = opened()
    hub.faults = ["429"] * 3
    with pytest.raises(
        SourceFailed, match=r"too many requests from here \(status 429\).* in five minutes, or set HF_TOKEN"
    ):
        here.rows()
    hub.api_faults = ["429"] * 3
    with pytest.raises(SourceFailed, match=r"too many requests from here"):
        opened()
    hub.api_faults = ["503"] * 3
    with pytest.raises(SourceFailed, match=r"source here: cannot read hf://datasets/owner/name.*status 503"):
        opened()
    assert len(here.rows()) == 23


@pytest.mark.parametrize("name", ["parquet", "jsonl", "json", "csv", "tar", "many jsonl"])
@pytest.mark.parametrize("large", [1, 1 << 20])
def test_cut_connections_are_gone_on_with(name: str, large: int, hub: Hub, opened: Opener) -> None:
    hub.commit(NAME, REPOSITORIES[name])
    hub.large_bytes = large
    here = opened()
    rows = here.rows()
    server = hub.cdn if large == 1 else hub
    server.requests.clear()
    server.faults = ["cut", "503", "reset", "cut", "", "cut"]
    assert here.rows() == rows
    assert len(server.faults) < 3
    starts = [int(request.range.partition("=")[2].partition("-")[0]) for request in server.requests if request.range]
    assert len(set(starts)) > 1  # what had come is not asked for again


def test_impossible_specs_are_refused() -> None:
    for fields, message in (
        ({"dataset": "a/b/c"}, "owner/name"),
        ({"dataset": "../x"}, "owner/name"),
        ({"endpoint": "https://user:canary@host"}, "endpoint is no"),
        ({"data_files": ("../x",)}, "no path within the repository"),
        ({"data_files": ("hf://datasets/a/b/c",)}, "no path within the repository"),
        ({"split": ""}, "split must be named"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            spec(**fields)
        assert "canary" not in str(caught.value)


def test_plan_does_not_depend_on_the_endpoint() -> None:
    assert set(HubSource.LOCATIONS) == {"endpoint", "offline"}


def test_lost_pin_is_named(hub: Hub, opened: Opener, tmp_path: Path) -> None:
    hub.commit(NAME, {"train.jsonl": LINES})
    here = opened()
    (here.folder / "pin.json").unlink()
    with pytest.raises(SourceFailed, match=r"its pin under \.build is missing; build with --update"):
        here.rows()
