"""The flow `narrate`: a script becomes a published narration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field

from flows.produce import produce
from narration.settings import read_settings
from narration.store import open_store, validate_id
from tasks.load import load_script
from tasks.runs import cancel_jobs, run_name


@flow(
    name="narrate",
    flow_run_name=run_name,
    persist_result=False,
    on_cancellation=[cancel_jobs],
    on_crashed=[cancel_jobs],
)
async def narrate(
    narration_id: Annotated[
        str,
        Field(
            title="Narration id",
            description="Lowercase letters, digits and hyphens; the same id again replaces the narration.",
            pattern=r"^[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?$",
        ),
    ],
    script: Annotated[
        str | None,
        Field(
            description="The script by reference: a key in the store (`scripts/…`, `inbox/…`), an https URL, "
            "or a path in the folder the worker allows. Leave empty to use the text below."
        ),
    ] = None,
    text: Annotated[
        str | None, Field(description="The script itself as Markdown, up to 100 kB.", max_length=100_000)
    ] = None,
    voice: Annotated[
        str | None, Field(description="Name of a voice in the store. Empty: the worker's default.")
    ] = None,
    engine: Annotated[
        Literal["higgs", "draft"] | None,
        Field(description="`draft` speaks with espeak-ng, for free. Empty: the worker's setting."),
    ] = None,
    loudness: Annotated[
        Literal["video", "podcast", "audiobook"] | None,
        Field(description="-14, -16 or -19 LUFS. Empty: the worker's setting."),
    ] = None,
    max_cost: Annotated[
        float | None, Field(title="Highest price", description="USD this run may spend at most.", gt=0)
    ] = None,
) -> dict[str, Any]:
    """Narrate a script: synthesize what is missing, master it, publish it with captions and a manifest."""
    settings = read_settings(voice=voice, engine=engine, loudness=loudness, max_cost=max_cost)
    store = open_store(settings.store)
    loaded, key = await load_script(store, settings, script, text)
    return await produce(store, settings, loaded, key, validate_id(narration_id))
