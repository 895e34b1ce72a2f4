"""Policy of pruning: nothing is deleted that was not shown, nor what is needed again by then."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from narration import pruning
from narration.pruning import UnneededObject
from narration.store import Store
from tasks.retrying import store_task


@store_task
async def find_unneeded(store: Store, grace_days: float) -> list[UnneededObject]:
    """What nobody needs any more."""
    return await asyncio.to_thread(pruning.find_unneeded, store, grace=timedelta(days=grace_days))


@store_task
async def delete_unneeded(
    store: Store, shown: list[UnneededObject], grace_days: float
) -> list[UnneededObject]:
    """Delete what `find_unneeded` found, as far as it is still not needed; returns what is gone."""
    return await asyncio.to_thread(pruning.delete_unneeded, store, shown, grace=timedelta(days=grace_days))
