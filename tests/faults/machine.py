"""What can be wrong with the machine that the pipeline runs on, for as long as a block lasts."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.prefect_servers import RestartableServer
from support.proxy import does_first

from narration.audio.ffmpeg import find_ffmpeg
from narration.store import atomic

if TYPE_CHECKING:
    from collections.abc import Callable

    from faults.scene import Scene


@contextmanager
def full_disk() -> Iterator[None]:
    """A store in a folder takes one clip, and half of each further one."""
    clips, write_atomically = count(), atomic.write_atomically

    def full(path: Path, write: Callable[[Path], object]) -> None:
        write_atomically(path, _half_then_no_room if path.suffix == ".flac" and next(clips) else write)

    with pytest.MonkeyPatch.context() as disk:
        disk.setattr("narration.store.folder.write_atomically", full)
        yield


def _half_then_no_room(partial: Path) -> None:
    partial.write_bytes(b"half of")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def no_temporary_folder(gone: Path) -> Iterator[None]:
    """Temporary files belong into a folder that is not there."""
    with pytest.MonkeyPatch.context() as machine:
        machine.setattr("tempfile.tempdir", str(gone))
        yield


@contextmanager
def artifacts_refused() -> Iterator[None]:
    """Prefect takes no artifact."""

    async def refuse(**_: object) -> None:
        raise ConnectionError("refused")

    with pytest.MonkeyPatch.context() as pages:
        for kind in ("progress", "table", "markdown"):
            pages.setattr(f"tasks.report.acreate_{kind}_artifact", refuse)
        yield


def dying_ffmpeg(folder: Path) -> Path:
    """An ffmpeg that dies the first time that it is to work, as where memory is short."""
    dying, died = folder / "ffmpeg", folder / "died"
    dying.write_text(
        f"#!/bin/sh\n"
        f'case "$*" in *pipe:*) [ -e "{died}" ] || {{ : > "{died}"; kill -9 $$; }} ;; esac\n'
        f'exec "{find_ffmpeg()}" "$@"\n'
    )
    dying.chmod(0o755)
    return dying


def stopped_without_prefect(scene: Scene, home: Path, sent: signal.Signals) -> tuple[int, str]:
    """The command, whose Prefect server goes for good half way, and which is then sent a signal.

    Returns its exit status, and what it said.
    """
    env = dict(scene.env)
    with RestartableServer(home) as prefect:
        scene.env |= {
            "PREFECT_API_URL": prefect.url,
            "PREFECT_CLIENT_MAX_RETRIES": "1",  # of a minute's worth
        }
        gone = threading.Event()
        scene.backstage.client.rule("POST", "/run$", does_first(prefect.end, does_first(gone.set)), skip=1)
        process = scene.start()
        assert gone.wait(120)
        process.send_signal(sent)
        _, told = process.communicate(timeout=120)
    scene.env = env
    return process.returncode, told
