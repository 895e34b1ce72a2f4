"""The task that renders a narration, in a thread and into a temporary folder that is deleted afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from narration.planning import SynthesizedNarration
from narration.rendering.render import RenderedNarration, explain_disk_errors, render
from narration.store import ClipCollection
from narration.synthesis.run_state import NarrationRun
from tasks.progress import show_step
from tasks.retrying import store_task


@asynccontextmanager
async def render_narration(
    run: NarrationRun, narration: SynthesizedNarration
) -> AsyncIterator[RenderedNarration]:
    """The narration's master and captions, as files that exist until the block ends."""
    show_step("master", narration.plan, run.state)
    with explain_disk_errors("the temporary folder"):
        temporary = TemporaryDirectory(prefix="narration-", ignore_cleanup_errors=True)
    with temporary as folder:
        yield await master(run.store.clips, narration, Path(folder))


@store_task
async def master(clips: ClipCollection, narration: SynthesizedNarration, folder: Path) -> RenderedNarration:
    """Arrange, master and caption the narration in `folder`; cancelling the run ends ffmpeg too."""
    stop = threading.Event()
    rendering = asyncio.create_task(asyncio.to_thread(render, clips, narration, folder, stop))
    try:
        return await asyncio.shield(rendering)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([rendering])
        rendering.exception()  # marks the expected error as seen, or asyncio would log it
        raise
