"""The tasks that publish a narration, and its review page again."""

from __future__ import annotations

import asyncio

from narration.manifest import Manifest
from narration.planning import SynthesizedNarration
from narration.publishing import publisher
from narration.rendering.render import RenderedNarration, narration_fingerprint
from narration.store import Store
from narration.synthesis.run_state import NarrationRun
from tasks.progress import show_step
from tasks.retrying import store_task


@store_task
async def find_published(run: NarrationRun, narration: SynthesizedNarration) -> Manifest | None:
    """The published manifest if it is of this very narration and its files exist; else None."""
    manifest = narration.plan.manifest
    if manifest is None or manifest.id != narration.plan.narration_id:
        return None
    if manifest.fingerprint != narration_fingerprint(narration):
        return None
    files = run.store.files

    def complete() -> bool:
        return all(files.has(entry.key, entry.size) for entry in manifest.files)

    return manifest if await asyncio.to_thread(complete) else None


@store_task
async def publish_narration(run: NarrationRun, rendered: RenderedNarration) -> Manifest:
    """Upload the files of the narration and replace its manifest."""
    show_step("publish", rendered.narration.plan, run.state)
    return await asyncio.to_thread(publisher.publish, run.store, rendered, run.state)


@store_task
async def publish_review_again(store: Store, narration_id: str) -> str:
    """Publish the review page of a narration again, with new links; returns a link to it."""
    return await asyncio.to_thread(publisher.renew_review, store, narration_id)
