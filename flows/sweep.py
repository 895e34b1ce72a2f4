"""The flow `sweep`: what lies in the inbox and no narration has is narrated, one script after another."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from flows.narrate import narrate
from narration.planning.inbox import WaitingScript
from narration.settings import read_settings
from narration.store import open_store
from tasks.cancelling import cancel_jobs, cancel_left_behind
from tasks.inbox import find_waiting, settle
from tasks.pages import show_sweep


@flow(name="sweep", persist_result=False, on_cancellation=[cancel_jobs])
async def sweep(
    settle_seconds: Annotated[float, Field(ge=0)] = 60,
    max_cost: Annotated[float | None, Field(gt=0)] = None,
) -> dict[str, str]:
    """Narrate every settled script under `inbox/` that no current narration has.

    A bad script is moved to `rejected/` with its reason and never blocks the rest; what fails
    for a reason that may pass stays for the next sweep, three times at most.

    Args:
        settle_seconds: A script must have been unchanged for so long before it is read.
        max_cost: USD that each narration may spend.

    """
    settings = read_settings()
    store = open_store(settings.store)
    await cancel_left_behind(store, settings)
    outcomes: dict[str, str] = {}

    async def speak(script: WaitingScript) -> None:
        await narrate(narration_id=script.narration_id, script=script.key, max_cost=max_cost)

    for waiting in await find_waiting(store, settings, settle_seconds):
        outcomes[waiting.key] = await settle(store, waiting, speak)
        await show_sweep(outcomes)
    return outcomes
