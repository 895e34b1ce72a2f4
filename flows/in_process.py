"""A flow run in this very process, as a person at a terminal wants it: progress shown, refusals in words."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

from flows import terminal
from narration.errors import InputError, SettingsError


def run_flow(flow: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
    """Run a flow to its end, its progress shown; what Prefect refuses is `InputError` or `SettingsError`.

    SIGTERM, which Prefect makes an exception of its own, is `KeyboardInterrupt` as Ctrl-C is. `flow`
    imports Prefect, which reads its settings at that moment.
    """
    _prepare_prefect()
    from flows.prefect_server import provide_server  # noqa: PLC0415  # uvicorn, which `plan` does without

    provide_server()
    import httpx  # noqa: PLC0415  # as above; what Prefect's client raises when its server is gone in mid-run
    from prefect.exceptions import (  # noqa: PLC0415  # as above
        ParameterTypeError,
        PrefectException,
        TerminationSignal,
    )

    try:
        with terminal.progress_bar():
            return asyncio.run(flow())
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
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
