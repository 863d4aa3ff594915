"""Files of a Kaggle dataset behind Kaggle's API, read by ranges.

Here: the API's addresses and answers, credentials, the link to the file's own server.
Elsewhere: requests, ranges, retries (http.py), the source made of it (sources.kaggle).

The API as Kaggle's own clients use it: `datasets/view/OWNER/NAME` names the current version, `datasets/list/…` its
files, `datasets/download/…` redirects to a signed URL of a file server. KAGGLE_API_ENDPOINT names another host.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlencode

import msgspec
import urllib3
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from shardkit.errors import FileMissing, SpecError, StorageFailed
from shardkit.store.http import HttpStore
from shardkit.store.layout import UNREADABLE
from shardkit.store.patience import Again, Patience, Reading, persist
from shardkit.store.web import origin, reason_of, retry_after

_Answer = TypeVar("_Answer")

ENDPOINT = "https://www.kaggle.com"
ANSWER_BYTES = 16 << 20
MOST_PAGES = 1000
LINK_SECONDS = 300.0
"""How long a signed URL is used before the API is asked for another."""


class Login(msgspec.Struct, frozen=True):
    """What goes into the header Authorization; empty without credentials."""

    header: str = ""

    def __repr__(self) -> str:
        return "Login(…)" if self.header else "Login()"


def find_login(env: Mapping[str, str] | None = None) -> Login:
    """Credentials: KAGGLE_API_TOKEN, KAGGLE_USERNAME with KAGGLE_KEY, or kaggle.json. Raises SpecError (damaged)."""
    env = os.environ if env is None else env
    if token := env.get("KAGGLE_API_TOKEN", "").strip():
        return Login(f"Bearer {token}")
    user, key = env.get("KAGGLE_USERNAME", "").strip(), env.get("KAGGLE_KEY", "").strip()
    if not (user and key):
        user, key = _stored(Path(env.get("KAGGLE_CONFIG_DIR") or Path(env.get("HOME", "/")) / ".kaggle"))
    return Login(urllib3.make_headers(basic_auth=f"{user}:{key}")["authorization"]) if user and key else Login()


def _stored(folder: Path) -> tuple[str, str]:
    path = folder / "kaggle.json"
    try:
        found = json.loads(path.read_bytes())
        return str(found["username"]), str(found["key"])
    except (FileNotFoundError, NotADirectoryError):
        return "", ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise SpecError(
            f"{path} holds no username and key of Kaggle; download it anew from your account page"
        ) from None


class KaggleFile(msgspec.Struct, frozen=True):
    """One file as the API lists it; `totalBytes` is its length before Kaggle packs it."""

    name: str
    totalBytes: int = 0  # noqa: N815


class _View(msgspec.Struct):
    currentVersionNumber: int = 0  # noqa: N815


class _List(msgspec.Struct):
    datasetFiles: list[KaggleFile] = []  # noqa: N815
    nextPageToken: str = ""  # noqa: N815


class KaggleStore(HttpStore):
    """One version of the dataset `owner/name`; paths are names of files. Nothing is asked before it is needed."""

    def __init__(self, handle: str, version: int, login: Login, patience: Patience | None = None) -> None:
        self._handle, self._version, self._login = handle, version, login
        self._api = (os.environ.get("KAGGLE_API_ENDPOINT") or ENDPOINT).rstrip("/") + "/api/v1/datasets"
        super().__init__(f"{self._api}/download/{handle}", patience)
        self._links: dict[str, tuple[str, float]] = {}

    @property
    def url(self) -> str:
        """The dataset, for messages."""
        return f"kaggle {self._handle}" + (f" version {self._version}" if self._version else "")

    def current_version(self) -> int:
        """The number of the newest version. Raises FileMissing, StorageFailed."""
        found = self._get(f"{self._api}/view/{quote(self._handle)}", _View)
        if found.currentVersionNumber < 1:
            raise StorageFailed(f"cannot read {self.url}: found no version in Kaggle's answer; give `version`")
        return found.currentVersionNumber

    def files(self) -> Iterator[KaggleFile]:
        """The files of the version, page by page. Raises FileMissing, StorageFailed."""
        token = ""
        for _ in range(MOST_PAGES):
            query = {"datasetVersionNumber": self._version, "pageSize": 200, **({"pageToken": token} if token else {})}
            page = self._get(f"{self._api}/list/{quote(self._handle)}?{urlencode(query)}", _List)
            yield from page.datasetFiles
            token = page.nextPageToken
            if not token:
                return
        raise StorageFailed(f"cannot list {self.url}: found more than {MOST_PAGES} pages")

    def __getstate__(self) -> tuple[str, int, Login, Patience]:  # type: ignore[override]
        return self._handle, self._version, self._login, self._patience

    def _begin(self, secret_headers: dict[str, str]) -> None:
        super()._begin({"Authorization": self._login.header} if self._login.header else {})

    def _address(self, path: str) -> str:
        query = urlencode({"dataset_version_number": self._version, "file_name": path})
        return f"{self._api}/download/{quote(self._handle)}?{query}"

    def _ask(self, reading: Reading) -> BaseHTTPResponse:
        """Ask the server to which the API sent us for this file before, else the API."""
        headers = self._request_headers(reading)
        link, ends = self._links.get(reading.path, ("", 0.0))
        if link and time.monotonic() < ends:
            answer = self._ask_link(link, headers, reading)
            if answer.status not in (401, 403, 404, 410):
                return answer
            answer.close()
            self._links.pop(reading.path, None)
        answer, last, _ = self._web.get(self._address(reading.path), headers, reading.silence_seconds)
        if answer.status in (200, 206) and origin(last) != origin(self._api):
            self._links[reading.path] = last, time.monotonic() + LINK_SECONDS
        return answer

    def _ask_link(self, link: str, headers: dict[str, str], reading: Reading) -> BaseHTTPResponse:
        try:
            return self._web.get(link, headers, reading.silence_seconds, with_secrets=False).response
        except (HTTPError, OSError):
            self._links.pop(reading.path, None)  # the API may send us to another server
            raise

    def _denied(self, answer: BaseHTTPResponse, name: str) -> StorageFailed:
        return StorageFailed(f"cannot read {name}: {self._refusal(answer.status)}")

    def _refusal(self, status: int) -> str:
        page = f"{ENDPOINT}/datasets/{self._handle}"
        if not self._login.header:
            return f"status {status} without credentials; set KAGGLE_USERNAME and KAGGLE_KEY, or ~/.kaggle/kaggle.json"
        return f"status {status}: your account may not read it; accept its terms at {page}"

    def _get(self, address: str, kind: type[_Answer]) -> _Answer:
        """An answer of the API; one that is cut is asked for again. Raises FileMissing, StorageFailed."""
        found: list[_Answer] = []

        def attempt() -> None:
            answer = self._web.get(address, {}, reading.silence_seconds).response
            try:
                self._check_api(answer)
                found.append(msgspec.json.decode(answer.read(ANSWER_BYTES), type=kind))
            except UNREADABLE:
                raise Again("found no answer of Kaggle's API") from None
            finally:
                answer.close()

        reading = Reading("", 0, None, self._patience)
        persist(reading, self.url, attempt, (HTTPError, OSError), reason_of)
        return found[0]

    def _check_api(self, answer: BaseHTTPResponse) -> None:
        if answer.status in (408, 425, 429) or answer.status >= 500:
            raise Again(f"Kaggle answered with status {answer.status}", retry_after(answer))
        if answer.status in (401, 403):
            raise self._denied(answer, self.url)
        if answer.status in (404, 410):
            raise FileMissing(f"{self.url} is missing (status {answer.status}); check the handle and the version")
        if answer.status != 200:
            raise StorageFailed(f"cannot read {self.url}: status {answer.status}; check KAGGLE_API_ENDPOINT")
