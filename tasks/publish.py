"""Policy of publishing: tried again while the store stutters, told to the world once it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from prefect.events import emit_event

from narration.manifest import Manifest
from narration.planning import Plan
from narration.publishing import publisher
from narration.rendering.render import RenderedNarration, narration_fingerprint
from narration.settings import Settings
from narration.store import AudioClip, Store
from narration.synthesis.report import RunReport
from narration.synthesis.run_state import RunState
from tasks.retrying import store_task

PUBLISHED = "narration.published"


@store_task
async def published_already(
    store: Store, settings: Settings, plan: Plan, clips: Mapping[str, AudioClip]
) -> Manifest | None:
    """The manifest that the store has, if publishing would bring the same narration again."""
    manifest = plan.manifest
    if manifest is None or manifest.id != plan.narration_id:
        return None
    if manifest.fingerprint != narration_fingerprint(plan, clips, settings):
        return None

    def intact(published: Manifest) -> bool:
        return all(store.files.has(entry.key, entry.size) for entry in published.files)

    return manifest if await asyncio.to_thread(intact, manifest) else None


@store_task
async def publish(
    store: Store,
    settings: Settings,
    plan: Plan,
    clips: Mapping[str, AudioClip],
    finished: RenderedNarration,
    tally: RunState,
) -> Manifest:
    """Upload the files and replace the manifest."""
    return await asyncio.to_thread(
        publisher.publish,
        store,
        plan,
        clips,
        finished,
        fingerprint=narration_fingerprint(plan, clips, settings),
        settings=settings,
        tally=tally,
    )


@store_task
async def renew_review(store: Store, narration_id: str) -> str:
    """Publish the review page again, with new links; a link to it."""
    return await asyncio.to_thread(publisher.renew_review, store, narration_id)


def announce(report: RunReport) -> None:
    """Emit the event `narration.published`, with the manifest's stable address."""
    emit_event(
        event=PUBLISHED,
        resource={
            "prefect.resource.id": f"narration.{report.narration_id}",
            "prefect.resource.name": report.narration_id,
        },
        payload={
            "narration_id": report.narration_id,
            "manifest": report.manifest,
            "duration": report.duration,
            "engine": report.engine,
        },
    )
