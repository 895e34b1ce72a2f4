"""A flow run in this very process, as a person at a terminal wants it: progress shown, refusals in words."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn
from urllib.parse import urlsplit

from flows.cli import terminal
from narration.errors import InputError, SettingsError

LOOKS = 3  # at a server before it is given up
SECONDS_BETWEEN_LOOKS = 2.0
LOOK_SECONDS = 10.0  # a busy server may take its time


def run_flow(flow: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
    """Run a flow to its end, its progress shown; what Prefect refuses is `InputError` or `SettingsError`.

    SIGTERM is `KeyboardInterrupt` as Ctrl-C is. `flow` imports Prefect, which reads its settings at
    that moment.
    """
    _prepare_prefect()
    from flows.cli.prefect_server import provide_server  # noqa: PLC0415  # uvicorn, which `plan` does without

    provide_server()
    import httpx  # noqa: PLC0415  # as above; what Prefect's client raises when its server is gone in mid-run
    from prefect.exceptions import (  # noqa: PLC0415  # as above
        ParameterTypeError,
        PrefectException,
        TerminationSignal,
    )

    try:
        with terminal.progress_bar(), _sigterm_as_ctrl_c():
            return asyncio.run(_run(flow))
    except ParameterTypeError as error:
        raise InputError(" ".join(str(error).split())[:500]) from None
    except (PrefectException, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "API" not in str(error):
            raise
        raise _unusable(error) from None
    except httpx.TransportError as error:
        gone = _unusable(error)
        gone.clips_stored = True  # the server was there when the run began
        raise gone from None
    except TerminationSignal:
        raise KeyboardInterrupt from None
    except BaseExceptionGroup as group:  # where tasks ran side by side
        if group.subgroup(TerminationSignal) is None:
            raise
        raise KeyboardInterrupt from None


def leave(status: int) -> NoReturn:
    """End this process with `status`, once Prefect has told its server the rest of its events.

    Prefect goes on telling them one after the other, with minutes of patience for each. For a server
    that is gone nobody should wait.
    """
    address = os.environ.get("PREFECT_API_URL")
    if "prefect" in sys.modules and address:
        threading.Thread(target=_end_unless_heard, args=(status, address), daemon=True).start()
    sys.exit(status)


def _end_unless_heard(status: int, address: str) -> None:
    looks = 0
    while looks < LOOKS:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        looks = 0 if _is_there(address) else looks + 1
    os._exit(status)


def _is_there(address: str) -> bool:
    """Whether anybody listens there; what a server answers depends on its keys and certificates."""
    url = urlsplit(address)
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname or "", port), LOOK_SECONDS).close()
    except OSError:
        return False
    return True


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """What Prefect makes an exception of its own within a flow, and sends again at the flow's end."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


async def _run(flow: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
    asyncio.get_running_loop().set_exception_handler(_tell_unexpected)
    return await flow()


def _tell_unexpected(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Of tasks that are stopped with their run: that the server is gone is told once, in words."""
    import httpx  # noqa: PLC0415  # as above

    if not isinstance(context.get("exception"), httpx.TransportError):
        loop.default_exception_handler(context)


def _unusable(error: Exception) -> SettingsError:
    return SettingsError(
        f"the Prefect server at {os.environ['PREFECT_API_URL']} cannot be used: "
        f"{' '.join(str(error).split())[:300]}",
        remedy="start it, or unset PREFECT_API_URL to run without one",
    )


def _prepare_prefect() -> None:
    """Before Prefect is imported: no telemetry, and a terminal left to us."""
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    for level in ("PREFECT_LOGGING_LEVEL", "PREFECT_INTERNAL_LOGGING_LEVEL"):
        os.environ.setdefault(level, "CRITICAL")
