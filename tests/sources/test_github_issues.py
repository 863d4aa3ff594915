"""Issues with pictures: what is kept, pages, rate limits, private addresses, whole builds through the command."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shardkit import open_dataset
from shardkit.build.run import build
from shardkit.errors import SourceChanged, SourceFailed, SourceUnavailable, SpecError
from shardkit.records.row import Row
from shardkit.sources.github_issues import GithubIssues, first_code, picture_urls
from shardkit.spec import GithubIssuesSource, Limits
from shardkit.store.manifest import read_manifest
from shardkit.store.urls import open_store
from tests.build.making import questions, run_command, save_spec, spec_of, write_questions
from tests.servers.github import TOKEN, GitHub, github_server, issue
from tests.sources.kinds import Opened
from tests.sources.test_http import PNG


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    with github_server() as server:
        monkeypatch.setenv("GITHUB_API_URL", server.url)
        for name in ("GITHUB_TOKEN", "GH_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        pictures = server.pictures
        pictures.content = {f"/{at}.png": PNG + bytes([at]) for at in range(20)}
        server.issues = [
            issue(at, f"It looks so:\n![shot]({pictures.url}/{at}.png)\n```css\na {{ b: {at} }}\n```\n", "bug")
            for at in range(1, 12)
        ]
        yield server


def spec(**fields: object) -> GithubIssuesSource:
    common = {"name": "here", "repository": "owner/name", "normalizer": "question_answer", "allow_private": True,
              "columns": {"question": "title", "answer": "code"}}  # fmt: skip
    return GithubIssuesSource(**{**common, **fields})  # type: ignore[arg-type]


def numbers(source: Opened) -> list[int]:
    return [row.fields["number"] for row in source.rows() if isinstance(row, Row)]


def test_issue_becomes_a_row_with_its_pictures(server: GitHub, opened: Callable[..., Opened]) -> None:
    url = server.pictures.url
    server.issues = [
        issue(7, f'<img width="3" src="{url}/1.png">\r\n![b]({url}/2.png "t")\r\n```js\r\nx\r\n```', "ui", "bug")
    ]
    [row] = opened(spec()).rows()
    assert isinstance(row, Row)
    assert row.position == "owner/name#7"
    assert row.blobs == {"image.0": PNG + b"\x01", "image.1": PNG + b"\x02"}
    wanted = {"number": 7, "title": "Title 7", "code": "x\n", "state": "open", "labels": ["bug", "ui"],
              "url": "https://github.com/owner/name/issues/7"}  # fmt: skip
    assert {name: value for name, value in row.fields.items() if name != "body"} == wanted


def test_pages_are_followed_and_pull_requests_left_out(server: GitHub, opened: Callable[..., Opened]) -> None:
    server.issues[4] = issue(5, server.issues[4]["body"], pull=True)
    server.issues[5] = issue(6, None)
    server.issues[6] = issue(7, "no picture")
    source = opened(spec())
    assert numbers(source) == [1, 2, 3, 4, 8, 9, 10, 11]
    assert source.pinned.rows == 8
    steps = source.steps()
    for at, step in enumerate(steps):
        assert source.steps(cursor=step.cursor) == steps[at + 1 :]
    parts = [step.row.position for partition in range(3) for step in source.steps(partition, 3)]
    assert sorted(parts) == sorted(step.row.position for step in steps)
    assert len(server.asked) == 4  # the listing's pages, once: rows need no more of the API


def test_filters_of_state_labels_pictures_and_code(server: GitHub, opened: Callable[..., Opened]) -> None:
    server.issues[0] |= {"state": "closed"}
    server.issues[1] |= {"labels": [{"name": "bug"}, {"name": "ui"}]}
    server.issues[2] |= {"body": "nothing to see"}
    assert numbers(opened(spec(state="closed"))) == [1]
    assert numbers(opened(spec(labels=("bug", "ui")))) == [2]
    assert numbers(opened(spec(needs_image=False, max_issues=3))) == [1, 2, 3]
    assert numbers(opened(spec(needs_image=False, needs_code=True, max_issues=3))) == [1, 2, 4]
    with pytest.raises(SpecError, match="has no issue that is wanted"):
        opened(spec(labels=("none",)))


def test_revision_tells_what_was_listed(server: GitHub, opened: Callable[..., Opened]) -> None:
    first = opened(spec())
    assert opened(spec()).pinned == first.pinned
    wanted = first.rows()
    server.issues[3] |= {"title": "Other"}
    assert opened(spec()).pinned.revision != first.pinned.revision
    assert first.rows() == wanted
    server.pictures.content["/4.png"] += b"x"
    with pytest.raises(SourceChanged):
        first.rows()


def test_rate_limit_is_waited_for_by_the_servers_clock(server: GitHub, tmp_path: Path) -> None:
    slept: list[float] = []
    source = GithubIssues(spec(), Limits(), sleep=slept.append)
    server.limited = 2
    assert source.pin(tmp_path / "a").rows == 11
    assert slept == [41.0, 41.0]
    server.limited, server.secondary = 1, "7"
    source.pin(tmp_path / "b")
    assert slept[2:] == [7.0]
    server.limited, server.secondary, server.left = 1, "", 3000
    with pytest.raises(SourceFailed, match=r"rate limit is used up, and lasts 3001 s more .*set GITHUB_TOKEN"):
        source.pin(tmp_path / "c")
    server.limited, server.left = 99, 1
    with pytest.raises(SourceFailed, match="met 5 times"):
        source.pin(tmp_path / "d")


@pytest.mark.parametrize("fault", ["500", "cut", "reset", "503"])
def test_passing_faults_are_passed(fault: str, server: GitHub, opened: Callable[..., Opened]) -> None:
    server.faults = [fault, "", fault]
    server.pictures.faults = [fault, "", fault]
    source = opened(spec())
    server.pictures.faults = [fault]
    assert numbers(source) == list(range(1, 12))


@pytest.mark.parametrize(("fault", "reason"), [("401", "status 401"), ("403", "status 403"), ("404", "status 404")])
def test_repository_that_cannot_be_had(fault: str, reason: str, server: GitHub, opened: Callable[..., Opened]) -> None:
    server.faults = [fault]
    with pytest.raises(SourceUnavailable, match=reason) as caught:
        opened(spec())
    assert caught.value.reason == reason


def test_renamed_repository_is_followed(server: GitHub, opened: Callable[..., Opened]) -> None:
    assert numbers(opened(spec(repository="old/name", max_issues=2))) == [1, 2]


def test_token_goes_to_the_api_alone(
    server: GitHub, opened: Callable[..., Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    source = opened(spec())
    source.rows()
    assert all(headers["authorization"] == f"Bearer {TOKEN}" for headers in server.headers)
    assert server.pictures.headers
    assert all("authorization" not in headers for headers in server.pictures.headers)
    assert TOKEN.encode() not in b"".join(path.read_bytes() for path in source.folder.iterdir())


def test_pictures_may_not_lead_into_private_networks(server: GitHub, opened: Callable[..., Opened]) -> None:
    urls = (
        f"{server.pictures.url}/1.png",
        "http://169.254.169.254/latest",
        "http://0x7f.1/x.png",
        "file:///etc/passwd",
    )
    server.issues = [issue(at, f"![x]({url})") for at, url in enumerate(urls, 1)]
    assert numbers(opened(spec(needs_image=False, allow_private=False))) == [1, 2, 3, 4]
    assert not server.pictures.asked
    with pytest.raises(SpecError, match="no issue that is wanted"):
        opened(spec(allow_private=False))
    assert numbers(opened(spec())) == [1]


def test_pictures_that_are_gone_or_too_big_are_left_out(server: GitHub, tmp_path: Path) -> None:
    server.issues = [
        issue(at, f"![x]({server.pictures.url}/{name}.png)") for at, name in enumerate(("1", "none", "big"), 1)
    ]
    server.pictures.content["/big.png"] = PNG * 100
    source = GithubIssues(spec(), Limits(member_bytes=1000))
    assert source.pin(tmp_path).rows == 1


def test_build_through_the_command_and_again(server: GitHub, tmp_path: Path) -> None:
    source = {"kind": "github_issues", "name": "issues", "repository": "owner/name", "normalizer": "question_answer",
              "columns": {"question": "title", "answer": "code"}, "allow_private": True}  # fmt: skip
    path = save_spec(tmp_path / "s.yaml", spec_of(source))
    ended = run_command("build", path, "--out", tmp_path / "out", "--sample", "5", "--json", GITHUB_TOKEN=TOKEN)
    assert ended.returncode == 0, ended.stderr
    dataset = open_dataset(str(tmp_path / "out"))
    assert len(dataset) == 5
    assert all(item.sample.modalities.image for item in dataset)
    assert build(spec_of(source), out=tmp_path / "again", sample=5, workers=0).version == dataset.version


def test_missing_repository_falls_back(server: GitHub, tmp_path: Path) -> None:
    spare = questions(write_questions(tmp_path / "q.jsonl", range(9)), "spare")
    source = {"kind": "github_issues", "name": "issues", "repository": "no/such", "normalizer": "question_answer",
              "columns": {"question": "title", "answer": "code"}, "fallback": spare}  # fmt: skip
    build(spec_of(source), out=tmp_path / "out", sample=5, workers=0)
    [record] = read_manifest(open_store(tmp_path / "out"))[1].plan.sources
    assert record.decision == "issues (github_issues): status 404; taken: fallback spare (jsonl)"


@pytest.mark.parametrize(
    ("body", "urls"),
    [
        (
            "![a](https://h/a.png) ![b]( <https://h/b.png> ) ![a](https://h/a.png)",
            ["https://h/a.png", "https://h/b.png"],
        ),
        ("![a](https://h/a_(1).png)", ["https://h/a_(1).png"]),
        ("[link](https://h/a.png) https://h/b.png ![rel](/c.png) ![d](data:x)", []),
        ("<IMG alt='x' SRC='https://h/a.png'/><img\nsrc=\"https://h/b.png\">", ["https://h/a.png", "https://h/b.png"]),
        ("```\n![a](https://h/a.png)\n```\n![b](https://h/b.png)", ["https://h/b.png"]),
    ],
)
def test_pictures_of_a_text(body: str, urls: list[str]) -> None:
    assert picture_urls(body) == urls


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("x\n```py\na = 1\n\nb\n```\n```\nlast\n```", "a = 1\n\nb\n"),
        ("~~~\na\n```\nb\n~~~", "a\n```\nb\n"),
        ("````\n```\na\n```\n````", "```\na\n```\n"),
        ("```\n\n```\n```\nb\n```", "b\n"),
        ("```\nnever closed", "never closed\n"),
        ("`inline` only", ""),
        ("", ""),
    ],
)
def test_first_code_of_a_text(body: str, code: str) -> None:
    assert first_code(body) == code
