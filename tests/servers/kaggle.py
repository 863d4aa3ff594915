"""Kaggle's API on loopback: view, list in pages, download by a redirect to a signed URL on a second server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, quote, urlsplit

from tests.servers.files import Files, Quiet, Server, file_server, running

LOGIN = ("someone", "canarykey")
TOKEN = "canarytoken"


class Kaggle(Server):
    """The dataset owner/name with `content` by version and file; `open_to_all` needs no credentials."""

    def __init__(self, storage: Files) -> None:
        super().__init__(_Handler)
        self.storage = storage
        self.content: dict[int, dict[str, bytes]] = {}
        self.open_to_all = False


class _Handler(Quiet):
    server: Kaggle

    def serve(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if not self.server.open_to_all and self.headers.get("Authorization") not in self.known():
            return self.answer(403 if self.headers.get("Authorization") else 401, b'{"message": "no"}')
        what, _, handle = parts.path.removeprefix("/api/v1/datasets/").partition("/")
        names = {"list": "datasetVersionNumber", "download": "dataset_version_number"}  # as Kaggle's own clients ask
        version = int(query.get(names.get(what, ""), max(self.server.content)))
        if handle != "owner/name" or version not in self.server.content:
            return self.answer(404, b'{"message": "not found"}')
        return {"view": self.view, "list": self.list, "download": self.download}[what](version, query)

    @staticmethod
    def known() -> tuple[str, str]:
        return "Basic " + base64.b64encode(":".join(LOGIN).encode()).decode(), f"Bearer {TOKEN}"

    def view(self, version: int, query: dict[str, str]) -> None:
        self.answer(200, json.dumps({"ref": "owner/name", "currentVersionNumber": max(self.server.content)}).encode())

    def list(self, version: int, query: dict[str, str]) -> None:
        """Two files a page."""
        files = sorted(self.server.content[version].items())
        start = int(query.get("pageToken", "0"))
        page = [{"name": name, "totalBytes": len(data), "ref": ""} for name, data in files[start : start + 2]]
        token = str(start + 2) if start + 2 < len(files) else ""
        self.answer(200, json.dumps({"datasetFiles": page, "nextPageToken": token}).encode())

    def download(self, version: int, query: dict[str, str]) -> None:
        data = self.server.content[version].get(query["file_name"])
        if data is None:
            return self.answer(404, b'{"message": "not found"}')
        path = f"/v{version}/{query['file_name']}"
        self.server.storage.content[path] = data
        return self.answer(
            302, b"", {"Location": f"{self.server.storage.url}{quote(path)}?X-Goog-Signature=canarysign"}
        )


@contextmanager
def kaggle_server() -> Iterator[Kaggle]:
    with file_server() as storage, running(Kaggle(storage)) as server:
        yield server
