"""Git: the pinned commit, file filters, bundles and clones, no hooks, no prompts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from shardkit.errors import SourceDamaged, SourceFailed, SpecError
from shardkit.records.row import Row
from shardkit.sources.base import BadRow
from shardkit.sources.git_command import run_git, scrub
from shardkit.sources.table import open_source
from shardkit.spec import GitSource
from tests.sources.kinds import Opened, commit, git, repository, texts


def spec(url: Path | str, **fields: object) -> GitSource:
    return GitSource(name="here", url=str(url), normalizer="repository_file", **fields)  # type: ignore[arg-type]


def bundle(folder: Path, *references: str) -> Path:
    git(folder, "bundle", "create", "-q", str(folder.parent / "x.bundle"), *references)
    return folder.parent / "x.bundle"


CODE = "print('a line of code that is long enough to be wanted')\n"


def test_filters_leave_out_what_nobody_wrote(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    folder = repository(tmp_path / "repo")
    shutil.rmtree(folder / "src")
    commit(folder, {
        "a.py": CODE, "Dockerfile": CODE, "b.PY": CODE, "c.exe": CODE, "docs/d.md": CODE, "e.py": "short",
        "f.py": CODE * 3000, "node_modules/g.js": CODE, "package-lock.json": CODE, "h.min.js": CODE,
        "i.js": "x=1;" * 3000,
        "j.py": b"\x00" + CODE.encode(), "k.py": b"\xff" + CODE.encode(), "yarn.lock": CODE, "vendor/l.py": CODE,
        "huge.py": "y" * 500_000, "LICENSE": "MIT",
    })  # fmt: skip
    (folder / "link.py").symlink_to("a.py")
    commit(folder, {})
    rows = opened(spec(folder)).rows()
    assert [row.position for row in rows if isinstance(row, Row)] == ["Dockerfile", "a.py", "b.PY", "docs/d.md"]
    refused = {row.position: row.detail for row in rows if isinstance(row, BadRow)}
    assert refused == {
        "e.py": "5 characters, wanted 50 to 100000",
        "f.py": f"{len(CODE) * 3000} characters, wanted 50 to 100000",
        "i.js": "minified or generated",
        "j.py": "binary",
        "k.py": "binary, or not UTF-8",
    }
    assert isinstance(rows[0], Row)
    assert rows[0].fields == {
        "path": "Dockerfile", "name": "Dockerfile", "folder": "", "text": CODE, "licence_file": "LICENSE",
    }  # fmt: skip


def test_pinned_commit_stays_when_the_branch_moves(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    folder = repository(tmp_path / "repo")
    source = opened(spec(folder))
    before = source.rows()
    moved = commit(folder, {"src/part0/file0.py": CODE * 2})
    assert source.rows() == before
    assert source.pinned.revision != moved
    assert opened(spec(folder)).pinned.revision == moved


def test_lost_or_broken_clone_is_fetched_again(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    folder = repository(tmp_path / "repo")
    source = opened(spec(folder))
    before = source.rows()
    commit(folder, {"new.py": CODE})
    shutil.rmtree(source.folder / "clone.git")
    assert source.rows() == before
    shutil.rmtree(source.folder / "clone.git" / "objects")
    assert source.rows() == before
    shutil.rmtree(source.folder / "clone.git")
    shutil.rmtree(folder)
    with pytest.raises((SourceFailed, SpecError), match="source here"):
        source.rows()


def test_branches_tags_commits_and_bundles_name_the_same_files(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    folder = repository(tmp_path / "repo")
    old = git(folder, "rev-parse", "HEAD")
    git(folder, "tag", "-a", "-m", "x", "v1")
    git(folder, "branch", "feature/x")
    new = commit(folder, {"new.py": CODE})
    whole = bundle(folder, "--all")
    for url in (folder, whole):
        assert opened(spec(url)).pinned.revision == new
        for revision in ("v1", "feature/x", "refs/heads/feature/x", old):
            source = opened(spec(url, revision=revision))
            assert source.pinned.revision == old
            assert len(source.rows()) == 6
    assert texts(opened(spec(folder)).rows()) == texts(opened(spec(whole)).rows())


def test_rest_of_a_killed_fetch_is_removed(tmp_path: Path) -> None:
    (tmp_path / "private" / ".stage-clone-x" / "clone.git").mkdir(parents=True)
    open_source(spec(repository(tmp_path / "repo")), 0).pin(tmp_path / "private")
    assert sorted(path.name for path in (tmp_path / "private").iterdir()) == ["clone.git", "listing", "pin.json"]


def test_bundle_without_head_is_read_at_its_only_branch(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    folder = repository(tmp_path / "repo")
    git(folder, "checkout", "-q", "-b", "odd")
    assert len(opened(spec(bundle(folder, "odd"))).rows()) == 6


def test_unknown_branch_is_refused_with_those_there_are(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    folder = repository(tmp_path / "repo")
    with pytest.raises(SpecError, match="source here: the repository has no branch or tag 'nope'; its branches: main"):
        opened(spec(bundle(folder, "--all"), revision="nope"))


@pytest.mark.parametrize("how", ["cut", "no repository", "missing", "option", "ext"])
def test_what_is_no_repository_is_refused(how: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    url = {"missing": str(path), "option": "--upload-pack=touch x", "ext": "ext::sh -c touch% x"}.get(how, str(path))
    if how == "cut":
        path.write_bytes(b"# v2 git bundle\n123")
    elif how == "no repository":
        path.mkdir()
    with pytest.raises(SpecError, match="source here: "):
        open_source(spec(url), 0).pin(tmp_path / "private")
    assert not Path("x").exists()


def test_cut_bundle_fails_without_a_traceback_of_git(tmp_path: Path) -> None:
    whole = bundle(repository(tmp_path / "repo"), "--all")
    whole.write_bytes(whole.read_bytes()[:-50])
    with pytest.raises(SourceFailed, match=r"source here: cannot fetch commit [0-9a-f]{40} from"):
        open_source(spec(whole), 0).pin(tmp_path / "private")


def test_empty_repository_is_refused(tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo")
    with pytest.raises(SpecError, match="no file matches"):
        open_source(spec(folder, extensions=("rs",)), 0).pin(tmp_path / "private")


def test_altered_object_is_noticed(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    folder = repository(tmp_path / "repo")
    source = opened(spec(folder))
    listing = source.folder / "listing"
    data = listing.read_bytes()
    blob = bytes.fromhex(git(folder, "rev-parse", "HEAD:src/part1/file1.py"))
    other = bytes.fromhex(git(folder, "hash-object", "-w", "src/part2/file2.py"))[:-1] + b"\0"
    listing.write_bytes(data.replace(blob, other))
    with pytest.raises(SourceDamaged, match=r"lacks or has damaged src/part1/file1\.py"):
        source.rows()


def test_hooks_and_templates_of_the_user_do_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Callable[..., Opened]
) -> None:
    folder = repository(tmp_path / "repo")
    hooks = tmp_path / "template" / "hooks"
    hooks.mkdir(parents=True)
    for name in ("post-checkout", "reference-transaction", "pre-auto-gc"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (hooks / name).chmod(0o755)
    (tmp_path / ".gitconfig").write_text(f"[init]\ntemplateDir={tmp_path}/template\n[core]\nhooksPath={hooks}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    old = git(folder, "rev-parse", "HEAD")
    commit(folder, {"new.py": CODE})
    whole = bundle(folder, "main")
    (tmp_path / "ran").unlink(missing_ok=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("GIT_DIR", "GIT_OBJECT_DIRECTORY", "GIT_INDEX_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    source = opened(spec(whole, revision=old))
    assert len(source.rows()) == 6
    run_git(source.folder / "clone.git", "update-ref", "refs/x", old)  # what a fetch of all references does
    assert not (tmp_path / "ran").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_credentials_are_scrubbed_from_messages() -> None:
    assert scrub("fatal: https://me:CANARY@host/x and ssh://CANARY@h/") == "fatal: https://host/x and ssh://h/"


def test_unreachable_url_is_a_source_that_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shardkit.sources.git_command.ATTEMPTS", 1)
    with pytest.raises(
        SourceFailed, match=r"source here: cannot read the repository http://127\.0\.0\.1:9/x\.git: "
    ) as caught:
        open_source(spec("http://me:CANARY@127.0.0.1:9/x.git"), 0).pin(tmp_path / "private")
    assert "CANARY" not in str(caught.value)


def test_real_bundle(shared: Path, opened: Callable[..., Opened]) -> None:
    source = opened(spec(shared / "repos" / "awesome-compose.bundle", revision="main"))
    rows = [row for row in source.rows() if isinstance(row, Row)]
    assert source.pinned.revision == "bcb10d5ea3ab302af5abc7449ace2c3ec10739a5"
    assert len(rows) > 200
    assert any(row.position.endswith("Dockerfile") for row in rows)
    assert not any("lock" in row.position for row in rows)


def test_url_is_fetched_over_http(tmp_path: Path, opened: Callable[..., Opened]) -> None:
    folder = repository(tmp_path / "repo")
    git(folder, "repack", "-q", "-a", "-d")
    git(folder, "update-server-info")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder / ".git"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            source = opened(spec(f"http://me:CANARY@127.0.0.1:{server.server_port}/"))
        finally:
            server.shutdown()
            thread.join()
    assert texts(source.rows()) == texts(opened(spec(folder)).rows())  # the server is gone, the clone is there
    kept = [path for path in source.folder.rglob("*") if path.is_file()]
    assert not any(b"CANARY" in path.read_bytes() for path in kept)
