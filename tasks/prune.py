"""The tasks that find and delete objects that are no longer needed; only what was shown is deleted."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from narration import pruning
from narration.pruning import UnneededObject
from narration.store import Store
from tasks.retrying import store_task


@store_task
async def find_unneeded_objects(store: Store, grace_days: float) -> list[UnneededObject]:
    """Find the objects that are no longer needed and have not changed for `grace_days`."""
    return await asyncio.to_thread(pruning.find_unneeded, store, grace=timedelta(days=grace_days))


@store_task
async def delete_unneeded_objects(
    store: Store, shown: list[UnneededObject], grace_days: float
) -> list[UnneededObject]:
    """Delete the objects that were shown, except those needed again by now; returns the deleted ones."""
    return await asyncio.to_thread(pruning.delete_unneeded, store, shown, grace=timedelta(days=grace_days))
