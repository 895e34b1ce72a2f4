"""The flow `narrate`: synthesize, master and publish the narration of a script."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field

from flows.pipeline import run_pipeline
from narration.settings import read_settings
from tasks.cancelling import cancel_jobs
from tasks.load import load_script
from tasks.runs import run_name, start_run


@flow(name="narrate", flow_run_name=run_name, persist_result=False, on_cancellation=[cancel_jobs])
async def narrate(
    narration_id: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?$")],
    script: str | None = None,
    text: Annotated[str | None, Field(max_length=100_000)] = None,
    voice: str | None = None,
    engine: Literal["higgs", "draft"] | None = None,
    loudness: Literal["video", "podcast", "audiobook"] | None = None,
    max_cost: Annotated[float | None, Field(gt=0)] = None,
) -> dict[str, Any]:
    """Narrate a script: synthesize the missing clips, master the narration, publish it with captions.

    Args:
        narration_id: Lowercase letters, digits and hyphens. An id used before replaces its narration.
        script: The script by reference: a key in the store (`scripts/...`, `inbox/...`), an https URL,
            or a path in the folder that the worker allows. Empty: the text below.
        text: The script itself as Markdown, up to 100 kB.
        voice: Name of a voice in the store. Empty: the worker's setting.
        engine: `draft` is the free espeak-ng voice. Empty: the worker's setting.
        loudness: `video` is -14 LUFS, `podcast` -16, `audiobook` -19. Empty: the worker's setting.
        max_cost: The most that this run may spend, in USD.

    """
    settings = read_settings(voice=voice, engine=engine, loudness=loudness, max_cost=max_cost)
    run = start_run(narration_id, settings)
    return await run_pipeline(run, lambda: load_script(run, script, text))
