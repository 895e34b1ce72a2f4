"""The flow `retake`: synthesize chunks of a published narration again, or return to an earlier take."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field

from flows.pipeline import run_pipeline
from narration.planning import retake_requests
from narration.settings import read_settings
from tasks.cancelling import cancel_jobs
from tasks.load import load_published
from tasks.runs import flow_run_id, run_name, start_run

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
    """Make new takes of chunks of a narration, or return to earlier ones; master and publish it again.

    Args:
        narration_id: Id of a published narration.
        chunks: Chunk numbers, from 1, as on the review page.
        seed: Seed of the new takes. Empty: a seed of its own for each.
        texts: Another text for a chunk, by its number: {"3": "Other words."}
        take: Number of an earlier take to return to. Empty: make a new one.
        engine: `draft` for a narration in the draft voice. Empty: the worker's setting.
        max_cost: The most that this run may spend, in USD.

    """
    retakes = retake_requests(chunks, seed=seed, texts=texts or {}, take=take, asked_by=flow_run_id())
    settings = read_settings(engine=engine, max_cost=max_cost)
    run = start_run(narration_id, settings, retakes)
    return await run_pipeline(run, lambda: load_published(run))
