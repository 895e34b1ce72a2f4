"""Runs, cancels, kills or damages one narration of four chunks, for tests and `benchmarks/chaos.py`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.narrations import FOUR_CHUNKS
from support.proxy_actions import Action, call_after, call_before, reset_connection
from support.stores import BUCKET, aws_env

from faults.narration_requests import STATUS, SUBMIT, NthRequest
from faults.published import Published, read_published
from faults.services import API_KEY, Services
from faults.stored_objects import StoredObjects

if TYPE_CHECKING:
    from prefect.settings import Settings

CHUNKS = 4
KILLED = 1 if sys.platform == "win32" else -9  # exit status of a process after `Popen.kill`

CLOSED_BY_COLLECTOR = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""For modules that run narrations: boto3 and Prefect leave connections open for the garbage collector."""

_numbers = count()


class NarrationCase:
    """A narration with an empty store of its own, under a prefix of the S3 server.

    A test may change `env`, `text` and `prefect_url` before it runs the narration.
    """

    def __init__(self, services: Services, prefect_url: str) -> None:
        prefix = f"faults/{os.getpid()}-{next(_numbers)}"
        self.services = services
        self.stored = StoredObjects(services.store_url, prefix)
        self.text = FOUR_CHUNKS
        self.prefect_url = prefect_url
        self.env = aws_env(services.store_proxy.url) | {
            "NARRATION_STORE": f"s3://{BUCKET}/{prefix}",
            "NARRATION_ENGINE": "draft",
            "NARRATION_RUNPOD_URL": f"{services.endpoint_proxy.url}/v2",
            "RUNPOD_HIGGS_ENDPOINT_ID": services.endpoint.endpoint_id,
            "RUNPOD_API_KEY": API_KEY,
            "PREFECT_API_URL": prefect_url,
        }

    async def narrate(self) -> dict[str, Any]:
        """Run the flow in this process; its report. Raises what the flow raises."""
        from prefect.context import SettingsContext, get_settings_context

        from flows.narrate import narrate

        profile = get_settings_context().profile
        with SettingsContext(profile=profile, settings=_prefect_settings(self.prefect_url)):
            report: dict[str, Any] = await narrate(narration_id="four", text=self.text)
            return report

    def run(self) -> dict[str, Any]:
        """`narrate`, from code without an event loop."""
        with self._environment():
            return asyncio.run(self.narrate())

    def run_twice_at_once(self) -> list[dict[str, Any]]:
        """Run the flow twice at the same time; both reports."""

        async def both() -> list[dict[str, Any]]:
            return list(await asyncio.gather(self.narrate(), self.narrate()))

        with self._environment():
            return asyncio.run(both())

    def start_command(self) -> subprocess.Popen[str]:
        """Start `narrate run` of the script as a process, in the current folder."""
        script = Path("four.md")
        script.write_text(self.text, encoding="utf-8")
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "run", str(script), "--json"],
            env=os.environ | self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cancel_at(self, request: NthRequest) -> None:
        """Run the flow and cancel it when it makes that request."""

        async def run() -> None:
            loop, flow = asyncio.get_running_loop(), asyncio.create_task(self.narrate())

            def cancel() -> None:
                loop.call_soon_threadsafe(flow.cancel)

            self._on_request(request, call_before(cancel))
            with pytest.raises(asyncio.CancelledError):
                await flow

        with self._environment():
            asyncio.run(run())

    def kill_at(self, request: NthRequest) -> bool:
        """Start the command and kill it when it makes that request; False if it ended before."""
        process = self.start_command()
        self._on_request(request, call_before(process.kill, reset_connection))
        process.communicate(timeout=240)
        return process.returncode == KILLED

    def run_on_machine_that_sleeps(self) -> None:
        """Run the flow; the machine's clock jumps ahead by an hour while its jobs run."""

        async def run() -> None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, _JumpingLoop)

            def sleep() -> None:
                self.services.wait_until_idle()  # in an hour every job has ended
                loop.offset += 3_700

            def sleep_at_next_status() -> None:
                proxy.add_rule("GET", STATUS, call_before(sleep))

            proxy = self.services.endpoint_proxy
            proxy.add_rule("POST", SUBMIT, call_after(sleep_at_next_status), skip=CHUNKS - 1)
            await self.narrate()

        with self._environment(), asyncio.Runner(loop_factory=_JumpingLoop) as runner:
            runner.run(run())

    def wait_for_store_writes(self) -> None:
        """Wait for writes that a cancelled run had under way in the store's threads."""
        for thread in threading.enumerate():
            if thread.name.startswith("store"):
                thread.join(30)

    def damage(self, damages: Mapping[str, Callable[[StoredObjects, str], object]]) -> None:
        """Damage each clip, named by its audio's key, and delete what is published."""
        for clip, damage in damages.items():
            damage(self.stored, clip)
        self.stored.delete(*self.stored.keys("/narrations/"))

    def published(self) -> Published:
        """What the narration has published, in the bucket or in the folder that `env` names."""
        store = self.env["NARRATION_STORE"]
        if store.startswith("s3://"):
            prefix = self.stored.prefix
            return read_published(lambda key: self.stored.read(f"{prefix}/{key}"), "four-draft")
        return read_published(lambda key: (Path(store) / key).read_bytes(), "four-draft")

    def _on_request(self, request: NthRequest, action: Action) -> None:
        proxies = {"endpoint": self.services.endpoint_proxy, "store": self.services.store_proxy}
        proxies[request.service].add_rule(request.method, request.path, action, skip=request.skip)

    @contextmanager
    def _environment(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.env.items():
                patch.setenv(name, value)
            yield


class _JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock is `offset` seconds ahead."""

    offset = 0.0

    def time(self) -> float:
        return super().time() + self.offset


@cache
def _prefect_settings(api_url: str) -> Settings:
    """Prefect's settings for that server, kept because making them takes a while."""
    from prefect.context import get_settings_context
    from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED

    updates: dict[Any, Any] = {PREFECT_API_URL: api_url, PREFECT_LOGGING_TO_API_ENABLED: False}
    return get_settings_context().settings.copy_with_update(updates=updates)
