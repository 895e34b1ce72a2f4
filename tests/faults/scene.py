"""One narration to be disturbed: a store of its own, and ways to run it, look at it and damage it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from support.narrations import FOUR_CHUNKS
from support.proxy import Action, does_afterwards, does_first, drops
from support.stores import BUCKET, aws_env, plain_client

from faults.backstage import KEY, Backstage

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from prefect.settings import Settings

_numbers = count()


@dataclass(frozen=True, eq=False)
class Published:
    """What a narration left in the store for the world: files by kind, and the manifest."""

    files: dict[str, bytes]
    manifest: dict[str, Any]

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Published) and self.files == other.files and self.lasting() == other.lasting()
        )

    def __repr__(self) -> str:
        return json.dumps(self.lasting(), indent=1)

    __hash__ = None  # type: ignore[assignment]  # holds dicts

    def lasting(self) -> dict[str, Any]:
        """The manifest without times, attempts and cost, and without the page, which holds signed links."""
        kept = {name: value for name, value in self.manifest.items() if name not in {"created", "cost"}}
        kept["files"] = [entry for entry in kept["files"] if entry["kind"] != "html"]
        mine = {"attempt", "refused", "cached", "execution_seconds", "seed"}
        kept["chunks"] = [
            {name: value for name, value in chunk.items() if name not in mine} for chunk in kept["chunks"]
        ]
        return kept


def published_by(read: Callable[[str], bytes], narration_id: str) -> Published:
    """What a store shows of a narration; `read` gives the bytes of a key."""
    manifest = json.loads(read(f"narrations/{narration_id}/manifest.json"))
    pages = ("html",)
    files = {entry["kind"]: read(entry["key"]) for entry in manifest["files"] if entry["kind"] not in pages}
    return Published(files, manifest)


class SleepyLoop(asyncio.SelectorEventLoop):
    """An event loop on a machine that may sleep: its clock jumps ahead."""

    slept = 0.0  # s

    def time(self) -> float:
        return super().time() + self.slept


@dataclass(frozen=True)
class Moment:
    """When a narration makes the request of `method` and `path` that comes after the first `skip`."""

    proxy: Literal["client", "s3"]
    method: str
    path: str
    skip: int = 0


@cache
def _prefect_settings(api_url: str) -> Settings:
    """Prefect's own settings, as runs against that server have them; to make them takes a while."""
    from prefect.context import get_settings_context
    from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED

    chosen: dict[Any, Any] = {PREFECT_API_URL: api_url, PREFECT_LOGGING_TO_API_ENABLED: False}
    return get_settings_context().settings.copy_with_update(updates=chosen)


class Scene:
    """One narration: a store of its own, and ways to run it, look at it and damage it."""

    def __init__(self, backstage: Backstage, prefect_url: str, **env: str) -> None:
        self.backstage = backstage
        self.prefix = f"chaos/{os.getpid()}-{next(_numbers)}"
        self.id = "four-draft"
        self.text = FOUR_CHUNKS
        self.prefect_url = prefect_url
        self.env = aws_env(backstage.s3.url) | {
            "NARRATION_STORE": f"s3://{BUCKET}/{self.prefix}",
            "NARRATION_ENGINE": "draft",
            "NARRATION_RUNPOD_URL": f"{backstage.client.url}/v2",
            "RUNPOD_HIGGS_ENDPOINT_ID": backstage.endpoint.endpoint_id,
            "RUNPOD_API_KEY": KEY,
            "PREFECT_API_URL": prefect_url,
            **env,
        }

    async def narrate(self) -> dict[str, Any]:
        """The flow, in this process; its report, or what it raises."""
        from prefect.context import SettingsContext, get_settings_context

        from flows.narrate import narrate

        profile = get_settings_context().profile
        with SettingsContext(profile=profile, settings=_prefect_settings(self.prefect_url)):
            report: dict[str, Any] = await narrate(narration_id="four", text=self.text)
            return report

    def run(self) -> dict[str, Any]:
        """The flow to its end."""
        with self.environment():
            return asyncio.run(self.narrate())

    @contextmanager
    def environment(self) -> Iterator[None]:
        """This scene's settings are this process's."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.env.items():
                patch.setenv(name, value)
            yield

    def start(self) -> subprocess.Popen[str]:
        """The command, in a process of its own, to be killed."""
        script = "four.md"
        with open(script, "w", encoding="utf-8") as file:  # noqa: PTH123  # the test's own folder
            file.write(self.text)
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "run", script, "--json"],
            env=os.environ | self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def strike(self, moment: Moment, action: Action) -> None:
        """Let `action` meet the request that `moment` names."""
        proxy = {"client": self.backstage.client, "s3": self.backstage.s3}[moment.proxy]
        proxy.rule(moment.method, moment.path, action, skip=moment.skip)

    def cancel_at(self, moment: Moment) -> None:
        """The flow, cancelled at that moment."""

        async def run() -> None:
            loop, flow = asyncio.get_running_loop(), asyncio.create_task(self.narrate())

            def cancel() -> None:
                loop.call_soon_threadsafe(flow.cancel)

            self.strike(moment, does_first(cancel))
            with pytest.raises(asyncio.CancelledError):
                await flow

        with self.environment():
            asyncio.run(run())

    def sleep_an_hour(self) -> None:
        """The flow to its end, on a machine that falls asleep while its jobs are spoken."""

        async def run() -> None:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SleepyLoop)

            def sleep() -> None:
                self.backstage.wait_until_idle()  # in an hour every job has ended
                loop.slept += 3_700

            def sleep_at_the_next_look() -> None:
                client.rule("GET", "/status/", does_first(sleep))

            client = self.backstage.client
            client.rule("POST", "/run$", does_afterwards(sleep_at_the_next_look), skip=3)
            await self.narrate()

        with self.environment(), asyncio.Runner(loop_factory=SleepyLoop) as runner:
            runner.run(run())

    def run_twice(self) -> list[dict[str, Any]]:
        """The flow two times at once."""

        async def both() -> list[dict[str, Any]]:
            return list(await asyncio.gather(self.narrate(), self.narrate()))

        with self.environment():
            return asyncio.run(both())

    def let_writes_land(self) -> None:
        """Wait for what was under way to the store when a run was cancelled."""
        for thread in threading.enumerate():
            if thread.name.startswith("store"):
                thread.join(30)

    def kill_at(self, moment: Moment) -> bool:
        """The command, killed at that moment; whether it came before the command's end."""
        process = self.start()
        self.strike(moment, does_first(process.kill, drops))
        process.communicate(timeout=240)
        return process.returncode == -signal.SIGKILL

    def damage(self, kinds: Mapping[str, Callable[[Scene, str], object]]) -> None:
        """Do to each clip, named by its audio's key, what is told of it; nothing is published any more."""
        for clip, deed in kinds.items():
            deed(self, clip)
        self.delete(*self.keys("/narrations/"))

    @property
    def s3(self) -> S3Client:
        """The store's server, without proxy."""
        return _plain(self.backstage.upstream)

    def keys(self, *parts: str) -> list[str]:
        """Keys of the scene's objects that contain every one of `parts`, sorted."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=self.prefix + "/")
        found = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return sorted(key for key in found if all(part in key for part in parts))

    def digests(self, *parts: str) -> set[str]:
        """Digests of what is stored under such keys."""
        return {key.rpartition("/")[2].partition(".")[0] for key in self.keys(*parts)}

    def read(self, key: str) -> bytes:
        """An object's bytes."""
        return self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def replace(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Put other bytes in an object's place, as a program would that knows nothing of this store."""
        data = change(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=data)

    def delete(self, *keys: str) -> None:
        """Delete objects behind the store's back."""
        for key in keys:
            self.s3.delete_object(Bucket=BUCKET, Key=key)

    def published(self) -> Published:
        """What the world sees."""
        store = self.env["NARRATION_STORE"]
        if store.startswith("s3://"):
            return published_by(lambda key: self.read(f"{self.prefix}/{key}"), self.id)
        return published_by(lambda key: (Path(store) / key).read_bytes(), self.id)

    def leftovers(self) -> list[str]:
        """Job records that nobody needs any more."""
        return self.keys("/jobs/")


_clients: dict[str, S3Client] = {}


def _plain(endpoint: str) -> S3Client:
    if endpoint not in _clients:
        _clients[endpoint] = plain_client(endpoint)
    return _clients[endpoint]
