"""A flow run in this process: Prefect prepared, progress shown, Prefect's errors put into words."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any, NoReturn

from flows.cli.prefect_server import Origin, provide_server
from flows.cli.progress_display import progress_display
from narration.errors import InputError, PrefectUnavailable

Flow = Callable[[], Coroutine[Any, Any, dict[str, Any]]]

HOW_TO_DO_WITHOUT: dict[Origin, str] = {
    "environment": "start it, or unset PREFECT_API_URL to run without one",
    "profile": "start it, or run `prefect config unset PREFECT_API_URL` to take it out of the active profile",
    "own": "run the command again, which starts another",
}
"""What to do about a Prefect server that cannot be used, by where its address comes from."""


def run_flow(
    flow: Flow,
    *,
    endpoint: AbstractContextManager[None] | None = None,
    free: bool = False,
    began: float | None = None,
) -> dict[str, Any]:
    """Run a flow to its end, with its progress shown; returns the flow's report.

    `flow` imports Prefect, which reads its settings at that moment. A local `endpoint` is started before
    the flow and stopped after it. `free` and `began` are for the progress display.
    SIGTERM raises `KeyboardInterrupt` as Ctrl-C does. Raises `InputError` for parameters that Prefect
    refuses, and `PrefectUnavailable`.
    """
    _configure_prefect()
    with progress_display(free=free, began=time.monotonic() if began is None else began) as begin_step:
        if endpoint is not None:
            begin_step("start a worker")
        with endpoint or nullcontext():
            begin_step("start Prefect")
            origin = provide_server()
            with _explained_errors(origin), _sigterm_as_ctrl_c():
                return asyncio.run(_run(flow))


@contextmanager
def _explained_errors(origin: Origin) -> Iterator[None]:
    """Raise what Prefect and its HTTP client raise as `NarrationError` or `KeyboardInterrupt`."""
    import httpx  # noqa: PLC0415  # slow to import; the commands that run no flow do without
    from prefect.exceptions import (  # noqa: PLC0415  # reads Prefect's settings, which are complete only now
        ParameterTypeError,
        PrefectException,
        TerminationSignal,
    )

    try:
        yield
    except ParameterTypeError as error:
        raise InputError(" ".join(str(error).split())[:500]) from None
    except (PrefectException, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "API" not in str(error):
            raise
        raise _unusable_server(error, origin) from None
    except httpx.TransportError as error:
        unusable = _unusable_server(error, origin)
        unusable.clips_stored = True  # the server answered when the run began
        raise unusable from None
    except TerminationSignal:
        raise KeyboardInterrupt from None
    except BaseExceptionGroup as group:  # of tasks that ran side by side
        if group.subgroup(TerminationSignal) is None:
            raise
        raise KeyboardInterrupt from None


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Raise `KeyboardInterrupt` on SIGTERM.

    Within a flow Prefect handles SIGTERM itself, and sends it again at the flow's end: to this handler.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


async def _run(flow: Flow) -> dict[str, Any]:
    asyncio.get_running_loop().set_exception_handler(_log_unhandled)
    return await flow()


def _log_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log a failure that no task awaited, but for a lost server, which the run itself reports."""
    import httpx  # noqa: PLC0415  # loaded already

    if not isinstance(context.get("exception"), httpx.TransportError):
        loop.default_exception_handler(context)


def _unusable_server(error: Exception, origin: Origin) -> PrefectUnavailable:
    return PrefectUnavailable(
        f"the Prefect server at {os.environ['PREFECT_API_URL']} cannot be used: "
        f"{' '.join(str(error).split())[:300]}",
        remedy=HOW_TO_DO_WITHOUT[origin],
    )


def _configure_prefect() -> None:
    """Turn off Prefect's telemetry and, unless the person chose a level, its logs below CRITICAL.

    Call it before Prefect is imported.
    """
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    for level in ("PREFECT_LOGGING_LEVEL", "PREFECT_INTERNAL_LOGGING_LEVEL"):
        os.environ.setdefault(level, "CRITICAL")
