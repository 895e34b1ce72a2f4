"""Narrates the scripts of the inbox: which failures reject a script, leave it, or stop the sweep."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from narration.errors import (
    EndpointRefused,
    InputError,
    NarrationError,
    ScriptError,
    SettingsError,
    StoreError,
    VoiceError,
)
from narration.planning import inbox
from narration.planning.inbox import MAX_TRIES, UnreadableScript, WaitingScript
from narration.settings import Settings
from narration.store import ScriptCollection, ScriptFailureCollection, Store
from tasks.retrying import store_task

STOPS_THE_SWEEP = (SettingsError, VoiceError, EndpointRefused)
"""Failures that every other script would meet too."""


@store_task
async def list_waiting_scripts(
    store: Store, settings: Settings, settle_seconds: float
) -> list[WaitingScript | UnreadableScript]:
    """The scripts that no current narration was made from, oldest first."""
    return await asyncio.to_thread(inbox.find_waiting_scripts, store, settings, settle_seconds=settle_seconds)


async def narrate_or_reject(
    store: Store,
    waiting: WaitingScript | UnreadableScript,
    narrate: Callable[[WaitingScript], Awaitable[object]],
) -> str:
    """Narrate one script of the inbox, reject it, or leave it for the next sweep; returns what was done.

    Raises only failures that every script would meet: no script may hold up the others.
    """
    try:
        if isinstance(waiting, UnreadableScript):
            return await _reject_unreadable(store, waiting)
        return await _narrate(store, waiting, narrate)
    except STOPS_THE_SWEEP:
        raise
    except NarrationError as error:  # while the outcome is stored: the script is gone, or the store fails
        return f"left as it is: {error}"


async def _reject_unreadable(store: Store, unreadable: UnreadableScript) -> str:
    """Reject an object that is no script; one that the store cannot read it cannot move either."""
    if not isinstance(unreadable.error, ScriptError):
        raise unreadable.error
    return await reject_script(store.scripts, unreadable, unreadable.error)


async def _narrate(
    store: Store, waiting: WaitingScript, narrate: Callable[[WaitingScript], Awaitable[object]]
) -> str:
    try:
        await narrate(waiting)
    except ScriptError as error:
        return await _reject_waiting(store, waiting, error)
    except STOPS_THE_SWEEP:
        raise
    except NarrationError as error:
        return await _count_or_reject(store, waiting, str(error))
    except Exception as error:  # noqa: BLE001  # a bug with one script must not block the others
        reason = f"{type(error).__name__}; see the log of its run"
        return await _count_or_reject(store, waiting, reason)
    with suppress(StoreError):
        await clear_failures(store.script_failures, waiting)
    return f"narrated as {waiting.narration_id}"


async def _count_or_reject(store: Store, waiting: WaitingScript, reason: str) -> str:
    """Count a failed try; the script stays for the next sweep, and is rejected after the last try."""
    tries = await count_failure(store.script_failures, waiting)
    if tries < MAX_TRIES:
        return f"failed, stays for the next sweep ({tries} of {MAX_TRIES} tries): {reason}"
    return await _reject_waiting(store, waiting, InputError(f"failed {tries} times, last with: {reason}"))


async def _reject_waiting(store: Store, waiting: WaitingScript, error: InputError) -> str:
    outcome = await reject_script(store.scripts, waiting, error)
    with suppress(StoreError):
        await clear_failures(store.script_failures, waiting)
    return outcome


@store_task
async def reject_script(
    scripts: ScriptCollection, waiting: WaitingScript | UnreadableScript, error: InputError
) -> str:
    """Move a script that cannot be narrated to `rejected/`, with the reason beside it."""
    rejected_key = await asyncio.to_thread(scripts.reject, waiting.key, str(error))
    return f"rejected to {rejected_key}: {error}"


@store_task
async def count_failure(failures: ScriptFailureCollection, waiting: WaitingScript) -> int:
    """Count a failed narration of a script; returns how many there were."""
    return await asyncio.to_thread(failures.add, waiting.sha256)


@store_task
async def clear_failures(failures: ScriptFailureCollection, waiting: WaitingScript) -> None:
    """Delete the count of a script's failures: it was narrated, or rejected."""
    await asyncio.to_thread(failures.clear, waiting.sha256)
