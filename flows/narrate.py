"""The flow `narrate`: a script becomes a published narration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field

from flows.pipeline import run_pipeline
from narration.settings import read_settings
from narration.store import open_store, validate_id
from tasks.cancelling import cancel_jobs
from tasks.load import load_script
from tasks.runs import run_name


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
    """Narrate a script: synthesize what is missing, master it, publish it with captions and a manifest.

    Args:
        narration_id: Lowercase letters, digits and hyphens. The same id again replaces the narration.
        script: The script by reference: a key in the store (`scripts/...`, `inbox/...`), an https URL,
            or a path in the folder that the worker allows. Leave it empty to use the text below.
        text: The script itself as Markdown, up to 100 kB.
        voice: Name of a voice in the store. Empty: the worker's default.
        engine: `draft` speaks with espeak-ng, for free. Empty: the worker's setting.
        loudness: `video` is -14 LUFS, `podcast` -16, `audiobook` -19. Empty: the worker's setting.
        max_cost: USD that this run may spend at most.

    """
    settings = read_settings(voice=voice, engine=engine, loudness=loudness, max_cost=max_cost)
    store = open_store(settings.store)
    validate_id(narration_id)
    return await run_pipeline(
        store, settings, narration_id, lambda: load_script(store, settings, script, text)
    )
