"""The flow `prune`: what nobody needs any more is shown and, when told to, deleted."""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from narration.settings import read_settings
from narration.store import open_store
from tasks.pages import show_prune
from tasks.prune import delete_unneeded, find_unneeded
from tasks.sealing import sealed


@flow(name="prune", persist_result=False)
async def prune(
    really_delete: bool = False,
    grace_days: Annotated[float, Field(ge=1)] = 7,
) -> dict[str, Any]:
    """Find clips that no narration names, and superseded masters and captions; delete them if told to.

    Args:
        really_delete: Delete what was found. Unticked: only show it.
        grace_days: What has changed within these days is left alone.

    """
    store = open_store(read_settings().store)
    unneeded = await find_unneeded(store, grace_days)
    await show_prune(unneeded, deleted=False)
    if really_delete:
        unneeded = await delete_unneeded(store, sealed(unneeded), grace_days)
        await show_prune(unneeded, deleted=True)
    return {
        "objects": len(unneeded),
        "bytes": sum(entry.info.size for entry in unneeded),
        "deleted": really_delete,
    }
