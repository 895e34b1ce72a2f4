"""The flow `prune`: show the objects in the store that are no longer needed, and delete them on request."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from narration.settings import read_settings
from narration.store import open_store
from tasks.maintenance_artifacts import show_prune
from tasks.prune import delete_unneeded_objects, find_unneeded_objects


@flow(name="prune", persist_result=False)
async def prune(
    really_delete: bool = False,
    grace_days: Annotated[float, Field(ge=1)] = 7,
) -> dict[str, Any]:
    """Find clips that no narration uses and files that were replaced; delete them if `really_delete`.

    Args:
        really_delete: Delete the objects found. Unticked: only show them.
        grace_days: Objects that changed within these days are kept.

    """
    store = open_store(read_settings().store)
    unneeded = await find_unneeded_objects(store, grace_days)
    await show_prune(unneeded, deleted=False)
    if really_delete:
        unneeded = await delete_unneeded_objects(store, unneeded, grace_days)
        await show_prune(unneeded, deleted=True)
    return {
        "objects": len(unneeded),
        "bytes": sum(entry.info.size for entry in unneeded),
        "deleted": really_delete,
    }
