"""Draft engine's espeak-ng processes: how many at once, and what ends them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import espeakng_loader
import numpy as np
import psutil  # type: ignore[import-untyped]  # ships no types
import pytest

from gpu_worker.draft import engine, espeak_process
from gpu_worker.draft.engine import DraftEngine
from narration.contract import ContractError, ErrorCode, SynthesisRequest

TEXT = "In 1998, the committee paid $5.20 to Dr. Smith; nobody objected. Was that wise?"
REQUEST = SynthesisRequest(prompt=TEXT)


def test_another_process_in_another_environment_gives_the_same_samples(tmp_path: Path) -> None:
    """A clip does not depend on the worker's locale, folder or environment."""
    code = (
        "import asyncio, hashlib; from gpu_worker.draft.engine import DraftEngine;"
        "from narration.contract import SynthesisRequest;"
        f"utterance = asyncio.run(DraftEngine().synthesize(SynthesisRequest(prompt={TEXT!r}), None));"
        "print(hashlib.sha256(utterance.waveform).hexdigest())"
    )
    root = Path(engine.__file__).parents[2]
    french = {"LC_ALL": "C", "LANG": "fr_FR.UTF-8", "ESPEAK_DATA_PATH": "/nowhere"}
    places: list[tuple[dict[str, str], Path]] = [({}, root), (french, tmp_path)]
    prints = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(root), **env},
            cwd=folder,
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for env, folder in places
    }
    assert len(prints) == 1


class EspeakWrapper:
    """A script that runs a test's code and then espeak-ng; the engine starts it in espeak-ng's place."""

    def __init__(self, script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._script = script
        self._real = espeak_process.__file__
        monkeypatch.setattr(espeak_process, "__file__", str(script))
        self.run_first("")

    def run_first(self, code: str) -> None:
        """Let every espeak-ng process run `code` first."""
        self._script.write_text(f"{code}\nimport runpy; runpy.run_path({self._real!r}, run_name='__main__')")

    def processes(self) -> list[psutil.Process]:
        """The espeak-ng processes that run now."""
        running = []
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if str(self._script) in child.cmdline():
                    running.append(child)
        return running


@pytest.fixture
def wrapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EspeakWrapper:
    return EspeakWrapper(tmp_path / "before_espeak.py", monkeypatch)


async def test_as_many_processes_run_at_once_as_there_are_cpus(
    wrapper: EspeakWrapper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request has a process of its own; four run at once on four CPUs, and never more."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    for folder in (begun, ended):
        folder.mkdir()
    wrapper.run_first(
        f"""
import atexit, os, pathlib, time
begun, ended = pathlib.Path({str(begun)!r}), pathlib.Path({str(ended)!r})
(begun / str(os.getpid())).touch()
running = len(list(begun.iterdir())) - len(list(ended.iterdir()))
assert running <= 4, running
while len(list(begun.iterdir())) < 4:  # none goes on until four are running
    time.sleep(0.01)
atexit.register((ended / str(os.getpid())).touch)
"""
    )
    draft = DraftEngine(slots=8)
    utterances = await asyncio.gather(
        *(draft.synthesize(SynthesisRequest(prompt="x"), None) for _ in range(8))
    )
    assert len(list(begun.iterdir())) == 8
    assert sum(utterance.timings.queue > 0.01 for utterance in utterances) >= 4


async def test_cancelling_a_request_kills_its_process(
    wrapper: EspeakWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped job leaves no process, and the next request runs."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    wrapper.run_first("import time; time.sleep(300)")
    draft = DraftEngine()
    task = asyncio.create_task(draft.synthesize(SynthesisRequest(prompt="x"), None))
    async with asyncio.timeout(60):
        while not (processes := wrapper.processes()):  # noqa: ASYNC110 -- another process starts it
            await asyncio.sleep(0.01)
    task.cancel()
    async with asyncio.timeout(60):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [child.is_running() for child in processes] == [False]
    wrapper.run_first("")
    async with asyncio.timeout(60):
        assert (await draft.synthesize(SynthesisRequest(prompt="x"), None)).frames > 0


async def test_a_hanging_process_is_killed_after_the_timeout(
    wrapper: EspeakWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text on which espeak-ng hangs is an engine failure, and its slot is free again."""
    monkeypatch.setattr(engine, "ESPEAK_TIMEOUT", 0.2)
    wrapper.run_first("import time; time.sleep(300)")
    with pytest.raises(ContractError) as caught:
        await DraftEngine().synthesize(REQUEST, None)
    assert caught.value.failure.error_code == ErrorCode.ENGINE_FAILURE
    assert wrapper.processes() == []


async def test_a_crash_of_espeak_is_a_typed_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure has the exit status and the last line of stderr."""
    script = tmp_path / "crash.py"
    script.write_text("import sys; sys.exit('no such voice')")
    monkeypatch.setattr(espeak_process, "__file__", str(script))
    with pytest.raises(ContractError, match="status 1: no such voice"):
        await DraftEngine().synthesize(REQUEST, None)


async def test_espeak_works_in_a_deep_installation_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """espeak-ng keeps its data's path in 160 bytes; virtual environments can be deeper than that."""
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    shutil.copytree(espeakng_loader.get_data_path(), deep / "espeak-ng-data")
    expected = (await DraftEngine().synthesize(REQUEST, None)).waveform
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(deep / "espeak-ng-data"))
    assert np.array_equal((await DraftEngine().synthesize(REQUEST, None)).waveform, expected)
