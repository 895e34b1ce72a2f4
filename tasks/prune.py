"""Policy of pruning: nothing is deleted that was not shown."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE

from narration.pruning import Unneeded, find_unneeded
from narration.store import Store
from tasks.retrying import BRIEFLY, is_transient


@task(
    retries=len(BRIEFLY), retry_delay_seconds=BRIEFLY, retry_condition_fn=is_transient, cache_policy=NO_CACHE
)
async def look(store: Store, grace_days: float) -> list[Unneeded]:
    """What nobody needs any more."""
    return await asyncio.to_thread(find_unneeded, store, grace=timedelta(days=grace_days))


@task(
    retries=len(BRIEFLY), retry_delay_seconds=BRIEFLY, retry_condition_fn=is_transient, cache_policy=NO_CACHE
)
async def delete(store: Store, unneeded: list[Unneeded]) -> None:
    """Delete what `look` found."""

    def each() -> None:
        for entry in unneeded:
            store.delete_object(entry.key)

    await asyncio.to_thread(each)
