"""A device that fails or hangs: every request fails as retryable, every job is answered, the worker exits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from support.engines import CONVERSATIONS, OPTIONS, open_engine, synthesize
from support.hub import run_python

from gpu_worker.higgs.device_loss import DeviceHung
from infra.local_runpod.endpoint import LocalEndpointOptions, serve_endpoint
from narration.contract import ContractError, ErrorCode

ROOT = Path(__file__).parents[1]


async def test_a_lost_device_fails_every_request_and_ends_the_worker(
    model_folder: Path, codec_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests in progress and later ones fail as retryable, and `on_fatal` is called once."""
    fatal: list[BaseException] = []
    async with open_engine(model_folder, codec_folder, on_fatal=fatal.append) as loaded:
        engine = loaded.engine
        monkeypatch.setattr(loaded.runner, "run", _lose_device)
        in_progress = (synthesize(engine, conversation) for conversation in CONVERSATIONS)
        outcomes = [
            *await asyncio.gather(*in_progress, return_exceptions=True),
            *await asyncio.gather(synthesize(engine, CONVERSATIONS[0]), return_exceptions=True),
        ]
    for one in outcomes:
        assert isinstance(one, ContractError)
        assert (one.failure.error_code, one.failure.retryable) == (ErrorCode.ENGINE_FAILURE, True)
    assert [type(error) for error in fatal] == [torch.AcceleratorError]


async def test_a_device_lost_in_the_codec_ends_the_worker_too(
    model_folder: Path, codec_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The codec's thread reports it as the step loop's does."""
    fatal: list[BaseException] = []
    async with open_engine(model_folder, codec_folder, on_fatal=fatal.append) as loaded:
        monkeypatch.setattr(loaded.codec, "decode", _lose_device)
        with pytest.raises(ContractError) as failed:
            await synthesize(loaded.engine, CONVERSATIONS[0])
    failure = failed.value.failure
    assert (failure.error_code, failure.retryable) == (ErrorCode.ENGINE_FAILURE, True)
    assert [type(error) for error in fatal] == [torch.AcceleratorError]


def _lose_device(*_: Any) -> Any:
    raise torch.AcceleratorError("device gone")


def test_the_process_ends_with_status_1(model_folder: Path, codec_folder: Path) -> None:
    """At once and with the reason in the log, so that the platform replaces the worker."""
    code = """
import asyncio, sys, torch
from pathlib import Path
from gpu_worker.higgs.engine import EngineOptions, HiggsEngine
from gpu_worker.higgs.model_runner import ModelRunner
from narration.contract import SynthesisRequest

def lose_device(*_):
    raise torch.AcceleratorError("device gone")

options = EngineOptions(slots=1, slot_length=256, prefix_cache_bytes=0, voices=1)
folders = map(Path, sys.argv[1:])
engine = HiggsEngine.load(*folders, model="m", device="cpu", options=options)
ModelRunner.run = lose_device

async def serve():
    request = SynthesisRequest(prompt="x", max_new_tokens=20)
    await asyncio.gather(engine.synthesize(request, None), return_exceptions=True)
    await asyncio.sleep(60)  # as RunPod's loop, which does not end with a failed job

asyncio.run(serve())
"""
    root = Path(__file__).parents[1]
    ended = run_python("-c", code, model_folder, codec_folder, PYTHONPATH=root, OMP_NUM_THREADS=1)
    assert ended.returncode == 1, ended.stderr
    assert "the device or the engine is lost (AcceleratorError)" in ended.stderr


@pytest.mark.parametrize("part", ["run", "encode", "decode"])
async def test_a_hanging_device_is_found_and_ends_the_worker(
    part: str, model_folder: Path, codec_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step, an encoding or a decoding that does not come back: requests fail once the window is too old."""
    fatal: list[BaseException] = []
    released = threading.Event()
    options = replace(OPTIONS, window_limit=0.5)
    async with open_engine(model_folder, codec_folder, options, on_fatal=fatal.append) as loaded:
        owner = loaded.runner if part == "run" else loaded.codec
        work = getattr(owner, part)

        def hang(*arguments: Any) -> Any:
            released.wait(60)
            return work(*arguments)

        monkeypatch.setattr(owner, part, hang)
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(
                *(synthesize(loaded.engine, conversation) for conversation in CONVERSATIONS),
                return_exceptions=True,
            )
        failures = [one for one in outcomes if isinstance(one, ContractError)]
        assert {one.failure.error_code for one in failures} == {ErrorCode.ENGINE_FAILURE}
        assert len(failures) == len(CONVERSATIONS) if part == "run" else failures
        assert [type(error) for error in fatal] == [DeviceHung]
        released.set()


async def test_work_within_its_time_is_left_alone(model_folder: Path, codec_folder: Path) -> None:
    """With a watchdog many windows pass, one after another, and no request fails."""
    fatal: list[BaseException] = []
    options = replace(OPTIONS, window_limit=30)
    async with open_engine(model_folder, codec_folder, options, on_fatal=fatal.append) as loaded:
        clips = await asyncio.gather(*(synthesize(loaded.engine, one) for one in CONVERSATIONS))
    assert len(clips) == len(CONVERSATIONS)
    assert fatal == []


WORKER = """
import sys, threading, time, torch
from pathlib import Path
from gpu_worker import handler
from gpu_worker.higgs.engine import EngineOptions, HiggsEngine
from gpu_worker.higgs.model_runner import ModelRunner
from gpu_worker.settings import read_settings

options = EngineOptions(slots=8, slot_length=384, prefix_cache_bytes=0, voices=1)
engine = HiggsEngine.load(*map(Path, sys.argv[1:]), model="m", device="cpu", options=options)

def lose_device(runner, sequences, steps):
    if len(tuple(sequences)) == 8:
        raise torch.AcceleratorError("device gone")
    time.sleep(0.01)
    return run(runner, sequences, 0)

run, ModelRunner.run = ModelRunner.run, lose_device
handler.serve(engine, read_settings())
"""


def _run_worker(folders: tuple[str, str], variables: dict[str, str]) -> int:
    """Run `WORKER` to its end; its exit status."""
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORKER_ENGINE": "higgs"}
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, *folders], env=environment | variables, start_new_session=True
    ) as worker:
        try:
            return worker.wait(120)
        finally:
            if sys.platform == "win32":
                worker.kill()
            else:  # the SDK's pinging process too, which in a container ends with process 1
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.pid, signal.SIGKILL)


async def test_a_worker_that_loses_its_device_answers_every_job(
    endless_model_folder: Path, codec_folder: Path
) -> None:
    """Eight jobs in its slots: each gets a failure that may be tried again, within RunPod's real loop."""
    options = LocalEndpointOptions(workers=0, api_key="key")
    async with serve_endpoint(options) as endpoint, httpx.AsyncClient(timeout=60) as client:
        url = f"{endpoint.base_url}/{endpoint.endpoint_id}"
        headers = {"Authorization": f"Bearer {endpoint.api_key}"}
        request = {"input": {"prompt": "Hello.", "max_new_tokens": 300}}
        jobs = [(await client.post(f"{url}/run", json=request, headers=headers)).json() for _ in range(8)]
        folders = (str(endless_model_folder), str(codec_folder))
        status = await asyncio.to_thread(_run_worker, folders, endpoint.worker_variables("lost"))
        answers = [
            (await client.get(f"{url}/status/{job['id']}", headers=headers)).json().get("output")
            for job in jobs
        ]
    assert status == 1
    assert [(answer or {}).get("error_code") for answer in answers] == ["engine_failure"] * 8
    assert all(answer["retryable"] for answer in answers)
