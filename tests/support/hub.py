"""A model hub on loopback, with the answers that huggingface_hub needs; and programs run against it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

REVISION = "0123456789abcdef0123456789abcdef01234567"
"""The commit of `main` in every repository."""


@contextmanager
def hub(repositories: dict[str, Path]) -> Iterator[str]:
    """Serve folders as repositories, each with one commit, `REVISION`; yields the hub's address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Hub, repositories))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Hub(BaseHTTPRequestHandler):
    def __init__(self, repositories: dict[str, Path], *connection: Any) -> None:
        self._repositories = repositories
        super().__init__(*connection)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path).path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._describe(f"{parts[2]}/{parts[3]}", what=parts[4], revision=parts[5])
        else:
            self._download(self._repositories[f"{parts[0]}/{parts[1]}"] / parts[-1])

    def _describe(self, repository: str, *, what: str, revision: str) -> None:
        folder = self._repositories.get(repository)
        if folder is None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", REVISION):
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            answer = {"id": repository, "sha": REVISION} if what == "revision" else _tree(folder)
            self._send(200, json.dumps(answer).encode(), {})

    def _download(self, path: Path) -> None:
        if path.is_file():
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            self._send(200, content, {"ETag": etag, "X-Repo-Commit": REVISION})
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        """Do not log."""


def run_module(*arguments: str | Path, **environment: object) -> subprocess.CompletedProcess[str]:
    """Run `python -m ARGUMENTS`; see `run_python`."""
    return run_python("-m", *arguments, **environment)


def run_python(*arguments: str | Path, **environment: object) -> subprocess.CompletedProcess[str]:
    """Run Python with only `environment` in its environment; at most 240 s."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={name: str(value) for name, value in environment.items()},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def _tree(folder: Path) -> list[dict[str, object]]:
    return [
        {
            "type": "file",
            "path": path.name,
            "size": path.stat().st_size,
            "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
        }
        for path in sorted(folder.iterdir())
    ]
