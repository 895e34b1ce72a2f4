"""The flow `retake`: some chunks of a published narration are spoken again, or an earlier take comes back."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field

from flows.produce import produce
from narration.planning import changes_for
from narration.settings import read_settings
from narration.store import open_store, validate_id
from tasks.load import load_narrated
from tasks.runs import cancel_jobs, run_name


@flow(
    name="retake",
    flow_run_name=run_name,
    persist_result=False,
    on_cancellation=[cancel_jobs],
    on_crashed=[cancel_jobs],
)
async def retake(
    narration_id: Annotated[str, Field(title="Narration id", description="A narration that is published.")],
    chunks: Annotated[
        list[int],
        Field(description="Chunk numbers, from 1, as on the review page.", min_length=1),
    ],
    seed: Annotated[
        int | None, Field(description="Seed of the new takes. Empty: derived from the take.", ge=0)
    ] = None,
    texts: Annotated[
        dict[int, str] | None,
        Field(description='Other words for a chunk, by its number: {"3": "Other words."}'),
    ] = None,
    take: Annotated[
        int | None, Field(description="Go back to this take instead of making a new one.", ge=1)
    ] = None,
    engine: Annotated[
        Literal["higgs", "draft"] | None, Field(description="Empty: the worker's setting.")
    ] = None,
    max_cost: Annotated[
        float | None, Field(title="Highest price", description="USD this run may spend at most.", gt=0)
    ] = None,
) -> dict[str, Any]:
    """Take chunks of a narration again, master and publish it; earlier takes stay."""
    changes = changes_for(chunks, seed=seed, texts=texts or {}, take=take)
    settings = read_settings(engine=engine, max_cost=max_cost)
    store = open_store(settings.store)
    script, key, as_narrated = await load_narrated(store, settings, validate_id(narration_id))
    return await produce(store, as_narrated, script, key, narration_id, changes)
