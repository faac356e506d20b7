"""As much of the Hugging Face hub as fetching models needs, on this machine."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c0" * 20
TOKEN = "hf_right"


@dataclass
class Repo:
    """files -> content; those that end in gguf or safetensors are kept by LFS."""

    files: dict[str, bytes]
    commit: str = COMMIT
    gated: bool = False
    private: bool = False
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the hub tells of a file, where that is not the truth."""

    def siblings(self) -> list[dict[str, Any]]:
        return [
            {"rfilename": path, **describe(path, content), **self.told.get(path, {})}
            for path, content in self.files.items()
        ]


def is_large(path: str) -> bool:
    return path.endswith((".gguf", ".safetensors", ".bin"))


def describe(path: str, content: bytes) -> dict[str, Any]:
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    told: dict[str, Any] = {"size": len(content), "blobId": git}
    if is_large(path):
        sha256 = hashlib.sha256(content).hexdigest()
        told["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
    return told


@dataclass
class FakeHub:
    """Serves `repos`; `requests` has what was asked for, as (path, range)."""

    server: ThreadingHTTPServer
    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    breaks_after: int | None = None
    """Bytes of a large file after which the server gives up, for good."""
    cuts_every: int | None = None
    """Bytes of a large file after which it closes the connection."""
    damaged: bool = False
    """Whether a bit of large files is wrong."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def fetched(self) -> list[str]:
        """The files that were fetched, without what the hub was asked before."""
        return [path for path, _ in self.requests if not path.startswith("/api/")]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests look at `FakeHub.requests`."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((path, self.headers["Range"]))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._tell(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([0-9a-f]{40})/(.+)", path):
            repo = self.hub.repos[match[1]]
            if is_large(match[3]):
                self._answer(302, b"", Location=f"/cdn/{match[1]}/{match[3]}")
            else:
                self._answer(200, repo.files[match[3]])
        elif match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            self._send(self.hub.repos[match[1]].files[match[2]])
        else:
            self._answer(404, b"")

    def _tell(self, name: str, revision: str) -> None:
        repo = self.hub.repos.get(name)
        if repo is None:
            self._answer(404, b"", **{"X-Error-Code": "RepoNotFound"})
        elif repo.private and self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, b"", **{"X-Error-Code": "RepoNotFound"})
        elif repo.gated:
            self._answer(403, b"", **{"X-Error-Code": "GatedRepo"})
        elif revision not in {"main", "v1.0", "refs/pr/1", repo.commit}:
            self._answer(404, b"", **{"X-Error-Code": "RevisionNotFound"})
        else:
            told = {"id": name, "sha": repo.commit, "siblings": repo.siblings()}
            self._answer(200, json.dumps(told).encode())

    def _send(self, content: bytes) -> None:
        start = int(self.headers["Range"][len("bytes=") : -1]) if self.headers["Range"] else 0
        if self.hub.damaged:
            content = bytes([content[0] ^ 1]) + content[1:]
        if self.hub.breaks_after is not None and start >= self.hub.breaks_after:
            self._answer(500, b"")
            return
        cut = min(n for n in (self.hub.breaks_after, self.hub.cuts_every, len(content)) if n)
        if self.hub.breaks_after is not None:
            cut -= start
        extra = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        self._answer(206 if start else 200, content[start:], cut, **(extra if start else {}))

    def _answer(self, code: int, body: bytes, cut: int | None = None, **headers: str) -> None:
        self.send_response(code)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = cut is not None and cut < len(body)
