"""Voice samples of real speech, and a web server that serves one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from numpy.typing import NDArray

from support.audio import silence, speak, tone
from support.audio_files import encoded

WORDS = "The harbour was quiet that morning, and nobody had seen the grey boat leave before the fog came in."


def recording(*, seconds: float | None = None) -> NDArray[np.float32]:
    """A good sample, `WORDS` spoken with a pause at its end, or a tone of `seconds`."""
    if seconds is not None:
        return np.concatenate([tone(seconds - 0.2), silence(0.2)])
    return np.concatenate([speak(WORDS) * np.float32(0.6), silence(0.3)])


class SampleServer:
    """Serves `data` at any path of 127.0.0.1 and records the paths that were requested."""

    def __init__(self) -> None:
        self.data = encoded(recording())
        self.requested: list[str] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.requested.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(served.data)))
                self.end_headers()
                self.wfile.write(served.data)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/voices/anna.wav"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def serving_a_sample() -> Iterator[SampleServer]:
    """A server of one good sample, stopped at the end."""
    server = SampleServer()
    try:
        yield server
    finally:
        server.stop()
