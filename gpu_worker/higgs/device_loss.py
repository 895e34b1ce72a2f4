"""Device loss: a device that fails or hangs fails every request at once; the worker answers, then exits."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from narration.contract import ContractError, ErrorCode

ANSWER_SECONDS = 3
"""For which a worker without its device goes on, so that its jobs are answered."""

WINDOW_SECONDS = 30
"""After which work that was given to a CUDA device, and takes a second at most, counts as hanging."""

Result = TypeVar("Result")
OnFatal = Callable[[BaseException], None]

log = logging.getLogger(__name__)


class DeviceHung(Exception):
    """Work given to the device has not come back."""


def exit_process(error: BaseException) -> None:
    """Stop taking jobs, leave `ANSWER_SECONDS` to answer those in progress, then end with status 1.

    RunPod then starts a worker on a working device.
    """
    log.critical("the device or the engine is lost (%s): exiting", type(error).__name__)
    atexit.register(os._exit, 1)  # also if RunPod's loop ends sooner
    threading.Thread(target=_exit_soon, name="exit", daemon=True).start()


def _exit_soon() -> None:
    if callable(
        signal.getsignal(signal.SIGTERM)
    ):  # RunPod's loop: it takes no more jobs, and posts its answers
        signal.raise_signal(signal.SIGTERM)
    time.sleep(ANSWER_SECONDS)
    os._exit(1)


class DeviceLoss:
    """Whether the device is lost; requests that run then fail at once, whatever they wait for."""

    def __init__(self, on_fatal: OnFatal) -> None:
        self._on_fatal = on_fatal
        self._lock = threading.Lock()
        self._lost = False
        self._waiting: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}

    def report(self, error: BaseException) -> None:
        """Call `on_fatal` with the first error reported, and fail every request; any thread may call it."""
        with self._lock:
            if self._lost:
                return
            self._lost = True
            waiting = list(self._waiting.items())
        try:
            self._on_fatal(error)
        finally:
            for waiter, loop in waiting:
                with contextlib.suppress(RuntimeError):  # a loop that has been closed
                    loop.call_soon_threadsafe(_settle, waiter)

    async def run(self, work: Coroutine[object, object, Result]) -> Result:
        """The result of `work`; raises `ContractError` as soon as the device is lost, and what it raises."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._waiting[waiter] = loop
            if self._lost:
                waiter.set_result(None)
        task = asyncio.ensure_future(work)
        try:
            both: set[asyncio.Future[Any]] = {task, waiter}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise engine_failure()
        finally:
            with self._lock:
                del self._waiting[waiter]
            task.cancel()


class Watchdog:
    """Reports work on the device that takes longer than `limit` seconds; None: watches nothing."""

    def __init__(self, limit: float | None, on_hung: OnFatal) -> None:
        self._limit = limit
        self._on_hung = on_hung
        self._began: dict[object, float] = {}
        self._stopped = threading.Event()
        if limit is not None:
            threading.Thread(target=self._watch, args=(limit,), name="watchdog", daemon=True).start()

    @contextmanager
    def window(self) -> Iterator[None]:
        """Work on the device, in one thread."""
        key = object()
        self._began[key] = time.monotonic()
        try:
            yield
        finally:
            del self._began[key]

    def stop(self) -> None:
        """End the watchdog's thread."""
        self._stopped.set()

    def _watch(self, limit: float) -> None:
        while not self._stopped.wait(min(1, limit / 4)):
            oldest = min(list(self._began.values()), default=time.monotonic())
            if time.monotonic() - oldest > limit:
                self._on_hung(DeviceHung(f"work on the device has taken more than {limit:g} s"))
                return


def engine_failure() -> ContractError:
    """The answer to every request of a worker whose device or engine is lost."""
    return ContractError(ErrorCode.ENGINE_FAILURE, "the engine failed and the worker is being replaced")


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
