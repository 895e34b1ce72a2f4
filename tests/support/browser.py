"""Headless Chromium for tests, controlled by its DevTools protocol."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import connect
from websockets.sync.connection import Connection

START_SECONDS = 60.0

_QUIET = (
    "--headless=new",
    "--no-sandbox",  # Chromium needs it to run as root, as in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--mute-audio",
    "--remote-debugging-port=0",
    # No page can reach another machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Page:
    """One open page."""

    def __init__(self, socket: Connection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result. Events received before it are dropped."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, url: str) -> None:
        """Open the page at `url`, and return when it is loaded."""
        answer = self.call("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        self.wait(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    def wait(self, condition: str, seconds: float = 30) -> None:
        """Return when the JavaScript `condition` is true; fail after `seconds`."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(condition):
            assert time.monotonic() < deadline, condition
            time.sleep(0.05)


@contextmanager
def browsing(profile: Path) -> Iterator[Page]:
    """Start Chromium with a new profile and one page; it is ended with the context."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        raise RuntimeError("Chromium is not installed (Debian: apt-get install chromium)")
    profile.mkdir(parents=True, exist_ok=True)
    log = profile / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, *_QUIET, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,
        )
    try:
        port = _port(process, log)
        targets = httpx.get(f"http://127.0.0.1:{port}/json/list", timeout=30).json()
        address = next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page")
        with connect(address, max_size=None, open_timeout=60) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while True:
        announced = re.search(
            r"DevTools listening on ws://127\.0\.0\.1:(\d+)/", log.read_text(errors="replace")
        )
        if announced:
            return announced[1]
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Chromium did not start:\n{log.read_text(errors='replace')[-2_000:]}")
        time.sleep(0.05)
