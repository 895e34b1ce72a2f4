"""Policy of the inbox: what is rejected, what is tried again, and how often."""

from __future__ import annotations

import asyncio

from prefect import task
from prefect.cache_policies import NO_CACHE

from narration import inbox
from narration.errors import InputError, NarrationError
from narration.inbox import MAX_TRIES, Unreadable, Waiting
from narration.settings import Settings
from narration.store import Store
from tasks.retrying import BRIEFLY, is_transient


@task(
    retries=len(BRIEFLY), retry_delay_seconds=BRIEFLY, retry_condition_fn=is_transient, cache_policy=NO_CACHE
)
async def find_waiting(store: Store, settings: Settings, settle_seconds: float) -> list[Waiting | Unreadable]:
    """The settled scripts that no current narration has, oldest first."""
    return await asyncio.to_thread(inbox.find_waiting, store, settings, settle_seconds=settle_seconds)


async def reject(store: Store, waiting: Waiting | Unreadable, error: InputError) -> str:
    """Move a script that cannot be narrated out of the way, with the reason beside it."""
    moved = await asyncio.to_thread(store.reject, waiting.key, str(error))
    if isinstance(waiting, Waiting):
        await asyncio.to_thread(store.forget_tries, waiting.sha256)
    return f"rejected to {moved}: {error}"


async def give_up_or_wait(store: Store, waiting: Waiting, error: NarrationError) -> str:
    """Leave a script for the next sweep, or reject it after the last try."""
    tries = await asyncio.to_thread(store.count_try, waiting.sha256)
    if tries < MAX_TRIES:
        return f"failed, stays for the next sweep ({tries} of {MAX_TRIES} tries): {error}"
    gave_up = InputError(f"failed {tries} times, last with: {error}")
    return await reject(store, waiting, gave_up)


async def narrated(store: Store, waiting: Waiting) -> str:
    """The script is done; it stays in the inbox, where its narration is known by its content."""
    await asyncio.to_thread(store.forget_tries, waiting.sha256)
    return f"narrated as {waiting.narration_id}"
