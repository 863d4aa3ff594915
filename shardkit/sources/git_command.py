"""Running git safely: no hooks, no prompts, allow-listed protocols, credentials scrubbed from messages.

Here: one call of git, its environment, the fetch of one commit into a bare repository.
Elsewhere: which files of the commit become rows (git.py).
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from shardkit.errors import SourceFailed, SpecError

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
OPTIONS = (
    "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "gc.auto=0", "-c", "maintenance.auto=false",
    "-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60", "-c", "fetch.recurseSubmodules=false",
)  # fmt: skip
TIMEOUT_SECONDS = 3600
ATTEMPTS = 3


def environment() -> dict[str, str]:
    """This process's environment without what would point git elsewhere, and with what keeps it silent."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name in ("GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_EXEC_PATH")
    }
    return kept | {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "SSH_ASKPASS": "true",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_ALLOW_PROTOCOL": "file:https:http:ssh:git",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "LC_ALL": "C",
    }


def command(repository: Path | None, *arguments: str) -> list[str]:
    """The command line of one call; `repository` is a bare repository."""
    where = ["--git-dir", str(repository)] if repository else []
    return ["git", *OPTIONS, *where, *arguments]


def run_git(repository: Path | None, *arguments: str) -> bytes:
    """Standard output of one call; raises GitFailed with the last line of its complaint."""
    try:
        done = subprocess.run(
            command(repository, *arguments),
            env=environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise GitFailed(f"git took more than {TIMEOUT_SECONDS} s") from None
    except FileNotFoundError:
        raise SpecError("git is not installed; install it (the package `git`) to read git sources") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"git exited with {done.returncode}"]
        fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
        raise GitFailed(scrub((fatal or lines)[0]))
    return done.stdout


class GitFailed(Exception):
    """One call of git failed; the message is git's own, scrubbed."""


def scrub(text: str) -> str:
    """Text without user names, passwords and tokens in URLs."""
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1", text)


def address(url: str, name: str) -> str:
    """What git is told to fetch from: a URL as it stands, a local clone or bundle as an absolute path."""
    if url.startswith("-") or "::" in url.split("/")[0]:
        raise SpecError(f"source {name}: {url!r} is no URL or path that git may fetch from; use https://… or a path")
    if is_remote(url):
        return url
    path = Path(url).expanduser()
    if not path.exists():
        raise SpecError(f"source {name}: there is no {url}; give a URL, a local clone or a bundle file")
    return str(path.resolve())


def is_remote(url: str) -> bool:
    """Whether a URL needs a network: `scheme://…` other than file, or `host:path`."""
    return bool(re.match(r"(?!file:)\w+://|[\w.-]+@[\w.-]+:", url))


def remote_references(url: str, name: str) -> dict[str, str]:
    """All references of a repository (name to commit). Raises SpecError (a local path), SourceFailed (a URL)."""
    where = address(url, name)
    for attempt in range(ATTEMPTS):
        try:
            listed = run_git(None, "ls-remote", "--", where).decode("utf-8", "replace")
            break
        except GitFailed as error:
            message = f"source {name}: cannot read the repository {scrub(url)}: {error}"
            if not is_remote(url):
                raise SpecError(f"{message}; give a URL, a local clone or a bundle file") from None
            if attempt + 1 == ATTEMPTS:
                raise SourceFailed(f"{message}; check the URL and the network, then run again") from None
            time.sleep(2**attempt)
    return {reference: commit for commit, _, reference in (line.partition("\t") for line in listed.splitlines())}


def fetch_commit(repository: Path, url: str, commit: str, references: Sequence[str], name: str) -> None:
    """Make a new bare repository that holds one commit, as little more as the other side allows.

    `references` are names under which the other side has it: a bundle gives no commit by its digest alone.
    Raises SourceFailed.
    """
    where = address(url, name)
    shallow = ["--depth=1"] if is_remote(url) else []
    wishes = [[*shallow, commit], *([*shallow, reference] for reference in references), ["+refs/*:refs/fetched/*"]]
    complaint = ""
    run_git(None, "init", "--quiet", "--bare", "--template=", str(repository))
    for wish in wishes:
        options, [wanted] = wish[:-1], wish[-1:]
        try:
            run_git(repository, "fetch", "--quiet", "--no-tags", *options, "--", where, wanted)
            run_git(repository, "cat-file", "-e", f"{commit}^{{tree}}")
            return
        except GitFailed as error:
            complaint = complaint or str(error)
    raise SourceFailed(
        f"source {name}: cannot fetch commit {commit} from {scrub(url)}: {complaint}; "
        "check that it still holds the commit and that the network is there, then run again"
    )
