"""Faults of the machine that the pipeline runs on, each for the length of a `with` block or of one run."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.prefect_servers import RestartableServer
from support.proxy_actions import call_before

from faults.narration_requests import SUBMIT
from narration.audio.ffmpeg import find_ffmpeg
from narration.store import atomic

if TYPE_CHECKING:
    from faults.narration_case import NarrationCase


@contextmanager
def full_disk() -> Iterator[None]:
    """A store in a folder has room for one clip, and for half of each further one."""
    clips, write_atomically = count(), atomic.write_atomically

    def write_or_fail(path: Path, write: Callable[[Path], object]) -> None:
        write_atomically(path, _write_half if path.suffix == ".flac" and next(clips) else write)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("narration.store.folder.write_atomically", write_or_fail)
        yield


def _write_half(partial: Path) -> None:
    partial.write_bytes(b"half of")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def no_temporary_folder(missing: Path) -> Iterator[None]:
    """The folder for temporary files does not exist."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(missing))
        yield


@contextmanager
def artifacts_refused() -> Iterator[None]:
    """Prefect accepts no artifact."""

    async def refuse(**_: object) -> None:
        raise ConnectionError("refused")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.progress.acreate_progress_artifact", refuse)
        for kind in ("table", "markdown"):
            patch.setattr(f"tasks.run_artifacts.acreate_{kind}_artifact", refuse)
        yield


def dying_ffmpeg(folder: Path) -> Path:
    """A shell script in `folder` that runs ffmpeg, but kills itself when it first gets audio.

    It leaves the file `died` beside it.
    """
    script, died = folder / "ffmpeg", folder / "died"
    script.write_text(
        f"#!/bin/sh\n"
        f'case "$*" in *pipe:*) [ -e "{died}" ] || {{ : > "{died}"; kill -9 $$; }} ;; esac\n'
        f'exec "{find_ffmpeg()}" "$@"\n'
    )
    script.chmod(0o755)
    return script


def stop_without_prefect(case: NarrationCase, home: Path, stop: signal.Signals) -> tuple[int, str]:
    """Run the command, kill its Prefect server after the first job, then send the command `stop`.

    Returns the command's exit status and what it wrote to stderr.
    """
    env = dict(case.env)
    with RestartableServer(home) as prefect:
        case.env |= {
            "PREFECT_API_URL": prefect.url,
            "PREFECT_CLIENT_MAX_RETRIES": "1",  # by default a minute of them
        }
        killed = threading.Event()

        def kill_prefect() -> None:
            prefect.end()
            killed.set()

        case.services.endpoint_proxy.add_rule("POST", SUBMIT, call_before(kill_prefect), skip=1)
        process = case.start_command()
        assert killed.wait(120)
        process.send_signal(stop)
        _, stderr = process.communicate(timeout=120)
    case.env = env
    return process.returncode, stderr
