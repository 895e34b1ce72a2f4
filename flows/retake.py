"""The flow `retake`: some chunks of a published narration are spoken again, or an earlier take comes back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field

from flows.pipeline import run_pipeline
from narration.planning import retake_requests
from narration.settings import read_settings
from narration.store import open_store, validate_id
from tasks.cancelling import cancel_jobs
from tasks.load import load_narrated
from tasks.runs import flow_run_id, run_name

ChunkNumber = Annotated[int, Field(ge=1)]


@flow(name="retake", flow_run_name=run_name, persist_result=False, on_cancellation=[cancel_jobs])
async def retake(
    narration_id: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?$")],
    chunks: Annotated[list[ChunkNumber], Field(min_length=1)],
    seed: Annotated[int | None, Field(ge=0)] = None,
    texts: dict[int, str] | None = None,
    take: Annotated[int | None, Field(ge=1)] = None,
    engine: Literal["higgs", "draft"] | None = None,
    max_cost: Annotated[float | None, Field(gt=0)] = None,
) -> dict[str, Any]:
    """Take chunks of a narration again, master and publish it; earlier takes stay.

    Args:
        narration_id: A narration that is published.
        chunks: Chunk numbers, from 1, as on the review page.
        seed: Seed of the new takes. Empty: derived from the take.
        texts: Other words for a chunk, by its number: {"3": "Other words."}
        take: Go back to this take instead of making a new one.
        engine: `draft` for a narration of the draft voice. Empty: the worker's setting.
        max_cost: USD that this run may spend at most.

    """
    changes = retake_requests(chunks, seed=seed, texts=texts or {}, take=take, asked_by=flow_run_id())
    settings = read_settings(engine=engine, max_cost=max_cost)
    store = open_store(settings.store)
    validate_id(narration_id)
    return await run_pipeline(
        store, settings, narration_id, lambda: load_narrated(store, settings, narration_id), changes
    )
