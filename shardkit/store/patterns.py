"""Names of files written as one expression: braces as webdataset does them, and globs.

Here: expanding them, by listing where a store can list, and finding the store of a single file.
Elsewhere: listing itself (urls.py, objects.py, hub.py), patterns of a build's input files (sources).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from shardkit.errors import NotADataset, SpecError
from shardkit.store.braces import expand_braces, has_braces
from shardkit.store.scrub import scrub
from shardkit.store.urls import ByteStore, open_store

MAX_NAMES = 1_000_000
"""Names that one expression may give. A shard has about 256 MiB, so this is far beyond any data set."""
_GLOB = re.compile(r"[*?\[]")
_WEB = ("http", "https")
_SEVERAL = re.compile(r"::(?![^\[\]]*\])")
"""webdataset's separator of URLs; inside brackets it belongs to an IPv6 address."""


def is_pattern(url: str | Path) -> bool:
    """Whether a URL or path stands for several: braces, globs or `::`. A local path that exists stands for itself."""
    text = str(url)
    if not _scheme(text) and _exists(text):
        return False
    return has_braces(text) or _SEVERAL.search(text) is not None or _has_glob(text)


def expand(urls: str | Path | Sequence[str | Path], max_names: int = MAX_NAMES) -> list[str]:
    """The URLs or paths of single files that an expression, or a list of them, stands for.

    Braces first, in the order written: `{000..127}`, `{a,b{1,2}}`, `{a..e..2}`; a backslash takes a brace literally.
    Then globs, each sorted by code point: `*` and `?` within a name, `[ab]`, `**` across folders; names with a leading
    dot only where the pattern has it. Names without a glob are not looked for. What lies on the Hub (hf://) is given
    with the commit that its revision means now, so that all of it belongs together.

    Raises SpecError: an expression without balanced braces, with no match, with more than `max_names` names, one name
    twice, a glob over http; for names on the Hub also what asking it raises.
    """
    given = [urls] if isinstance(urls, str | Path) else list(urls)
    found: list[str] = []
    for one in given:
        found += _expand_one(str(one), max_names - len(found))
    if not found:
        raise SpecError("found an empty list of files, wanted at least one; give a URL or a path")
    _refuse_twice(found)
    return _pinned(found)


def open_file(url: str | Path) -> tuple[ByteStore, str]:
    """The store that holds a single file, and the file's path in it. Raises as `open_store` does."""
    folder, name = split_file(str(url))
    return open_store(folder), name


def split_file(url: str) -> tuple[str, str]:
    """A file's URL as the URL of its folder (with its user and query) and its name, not percent-encoded."""
    scheme = _scheme(url)
    if scheme in _WEB:
        parts = urlsplit(url)
        folder, _, name = parts.path.rpartition("/")
        folder, name = urlunsplit((parts.scheme, parts.netloc, folder, parts.query, "")), unquote(name)
    elif scheme == "file":
        folder, _, name = unquote(urlsplit(url).path).rpartition("/")
        folder = folder or "/"
    else:
        folder, slash, name = url.rpartition("/")
        folder = folder or ("/" if slash else ".")
    if not name or folder.endswith(":/"):
        raise SpecError(f"{scrub(url)} names no file; wanted a folder and a name, such as folder/shard-0.tar")
    return folder, name


def _expand_one(text: str, max_names: int) -> list[str]:
    if not _scheme(text) and _exists(text):
        return [text]
    found: list[str] = []
    for part in _SEVERAL.split(text):
        for name in expand_braces(part, max_names - len(found)):
            found += _expand_glob(name, max_names - len(found)) if _has_glob(name) else [name]
    return found


def _expand_glob(url: str, max_names: int) -> list[str]:
    if _scheme(url) in _WEB:
        raise SpecError(
            f"{scrub(url)}: found a glob, but http(s) has no listing; name the files with braces, such as "
            "shard-{000000..000127}.tar"
        )
    fixed = url[: url.rindex("/", 0, _first_glob(url)) + 1] if "/" in url[: _first_glob(url)] else ""
    try:
        store = open_store(_folder(fixed))
    except NotADataset:
        raise SpecError(f"{scrub(url)} matches no file: found no folder {scrub(_folder(fixed))}") from None
    found: list[str] = []
    for path in _matches(store, "", url[len(fixed) :].split("/")):
        found.append(fixed + path)
        if len(found) > max_names:
            raise SpecError(f"{scrub(url)}: matches more than {max_names} files; give a narrower pattern")
    if not found:
        raise SpecError(f"{scrub(url)} matches no file; check the pattern and the folder {store.url}")
    return sorted(found)


def _pinned(names: list[str]) -> list[str]:
    """The names with revisions of the Hub replaced by commits; each repository is asked once."""
    if not any(_scheme(name) == "hf" for name in names):
        return names
    from shardkit.store.hub import HubStore, parse_hub

    commits: dict[str, str] = {}
    pinned = []
    for name in names:
        if _scheme(name) == "hf":
            place = parse_hub(name)
            top = place._replace(folder="").url(place.revision)
            if top not in commits:
                commits[top] = HubStore(top).pin()
            name = place.url(commits[top])
        pinned.append(name)
    return pinned


def _matches(store: ByteStore, folder: str, segments: list[str]) -> Iterator[str]:
    """Paths of files below a folder that match the rest of a pattern, one segment after another."""
    head, rest = segments[0], segments[1:]
    if head == "**":
        matches = _matcher(segments)
        yield from (path for path in store.list_files(folder) if matches(path[len(folder) :]))
        return
    if rest and not _GLOB.search(head):
        yield from _matches(store, f"{folder}{head}/", rest)
        return
    matches = _matcher([head])
    for path in store.list_files(folder, deep=False):
        name = path[len(folder) :]
        if rest and name.endswith("/") and matches(name[:-1]):
            yield from _matches(store, path, rest)
        elif not rest and matches(name):
            yield path


def _matcher(segments: list[str]) -> Callable[[str], object]:
    pattern = ""
    for at, segment in enumerate(segments):
        last = at == len(segments) - 1
        if segment == "**":
            pattern += r"(?:[^/.][^/]*/)*" + (r"[^/.][^/]*" if last else "")
        else:
            pattern += _translate(segment) + ("" if last else "/")
    try:
        return re.compile(pattern).fullmatch
    except re.error:
        shown = "/".join(segments)
        raise SpecError(f"the pattern {shown!r} has a range that goes backwards; write [0-9], not [9-0]") from None


def _translate(segment: str) -> str:
    """One segment of a glob as a regular expression; `[!a]` and `[^a]` negate, a `[` without its end is literal."""
    out = r"(?!\.)" if segment[:1] in ("*", "?", "[") else ""
    at = 0
    while at < len(segment):
        char = segment[at]
        end = segment.find("]", at + 2 + (segment[at + 1 : at + 2] in ("!", "^"))) if char == "[" else -1
        if end > 0:
            body = segment[at + 1 : end]
            negated = body[0] in ("!", "^")
            inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", body[negated:])
            out += f"[^/{inner}]" if negated else f"[{inner}]"
            at = end
        else:
            out += {"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char))
        at += 1
    return out


def _folder(fixed: str) -> str:
    if not fixed:
        return "."
    return fixed if fixed == "/" or fixed.endswith("://") else fixed.rstrip("/")


def _refuse_twice(found: list[str]) -> None:
    seen: set[str] = set()
    for name in found:
        if name in seen:
            raise SpecError(f"{scrub(name)} is named twice; every file may be named once")
        seen.add(name)


def _first_glob(url: str) -> int:
    match = _GLOB.search(url, _after_scheme(url))
    return match.start() if match else len(url)


def _has_glob(url: str) -> bool:
    if _scheme(url) in _WEB:
        return any(char in urlsplit(url).path for char in "*[")  # a question mark begins the query
    return _first_glob(url) < len(url)


def _after_scheme(url: str) -> int:
    return url.find("://") + 3 if _scheme(url) else 0


def _scheme(text: str) -> str:
    scheme, found, _ = text.partition("://")
    return scheme.lower() if found and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) else ""


def _exists(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError):
        return False
