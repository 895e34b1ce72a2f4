"""The speech-server engine for tests, and a speech server of the session: fixture `speech_server`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gpu_worker.engine_protocol import Engine
from gpu_worker.open_engine import open_engine
from gpu_worker.settings import WorkerSettings
from support.speech_server import KEY, MODEL, SpeechServer, running_speech_server


@pytest.fixture(scope="session")
def session_speech_server() -> Iterator[SpeechServer]:
    """One speech server for the session."""
    with running_speech_server() as server:
        yield server


@pytest.fixture
def speech_server(session_speech_server: SpeechServer) -> SpeechServer:
    """The session's speech server, without the requests of earlier tests."""
    session_speech_server.forget()
    return session_speech_server


def speech_engine(server: SpeechServer, **settings: Any) -> Engine:
    """The engine that speaks through `server`; `settings` without the prefix `speech_`."""
    fixed: dict[str, Any] = {"_env_file": None, "engine": "openai", "slots": settings.pop("slots", None)}
    server_settings = {"url": server.url, "key": KEY, "model": MODEL, "revision": "test-1"} | settings
    named = {f"speech_{name}": value for name, value in server_settings.items()}
    return open_engine(WorkerSettings(**fixed, **named))
