"""The flow `sweep`: narrate the scripts in the inbox, one after another."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.narrate import narrate
from narration.planning.inbox import WaitingScript
from narration.settings import read_settings
from narration.store import open_store
from tasks.cancelling import cancel_jobs, cancel_leftover_jobs
from tasks.inbox import list_waiting_scripts, narrate_or_reject
from tasks.maintenance_artifacts import show_sweep


@flow(name="sweep", persist_result=False, on_cancellation=[cancel_jobs])
async def sweep(
    settle_seconds: Annotated[float, Field(ge=0)] = 60,
    max_cost: Annotated[float | None, Field(gt=0)] = None,
) -> dict[str, str]:
    """Narrate every script under `inbox/` that no current narration was made from.

    A script that cannot be narrated is moved to `rejected/`, with the reason beside it. A script that
    fails for another reason stays for the next sweep, three times at most.

    Args:
        settle_seconds: Seconds for which a script must have been unchanged before it is read.
        max_cost: The most that each narration may spend, in USD.

    """
    settings = read_settings()
    store = open_store(settings.store)
    await cancel_leftover_jobs(store, settings)
    outcomes: dict[str, str] = {}

    async def narrate_script(script: WaitingScript) -> None:
        await narrate(narration_id=script.narration_id, script=script.key, max_cost=max_cost)

    for waiting in await list_waiting_scripts(store, settings, settle_seconds):
        outcomes[waiting.key] = await narrate_or_reject(store, waiting, narrate_script)
        await show_sweep(outcomes)
    return outcomes
