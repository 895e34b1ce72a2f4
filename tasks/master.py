"""Policy of mastering: off the event loop, in a folder of its own that is gone afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from narration.planning import Plan
from narration.rendering.render import RenderedNarration, explain_disk_errors, render
from narration.settings import Settings
from narration.store import AudioClip, Store
from tasks.retrying import store_task


@store_task
async def master(
    store: Store, settings: Settings, plan: Plan, clips: Mapping[str, AudioClip], folder: Path
) -> RenderedNarration:
    """Arrange, master and caption the narration in `folder`. A cancelled run ends ffmpeg too."""
    stop = threading.Event()
    work = asyncio.create_task(asyncio.to_thread(render, plan, clips, store, settings, folder, stop))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([work])
        work.exception()  # that it was stopped is no news; unasked for, asyncio would log it
        raise


@asynccontextmanager
async def temporary_folder() -> AsyncIterator[Path]:
    """A temporary folder for one narration's clips and masters."""
    with explain_disk_errors("the temporary folder"):
        made = TemporaryDirectory(prefix="narration-", ignore_cleanup_errors=True)
    with made as folder:
        yield Path(folder)
