"""Policy of the inbox: what is rejected, what is tried again and how often, what stops the sweep."""

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
from narration.store import Store
from tasks.retrying import store_task

STOPS_THE_SWEEP = (SettingsError, VoiceError, EndpointRefused)
"""What every other script would meet too."""


@store_task
async def find_waiting(
    store: Store, settings: Settings, settle_seconds: float
) -> list[WaitingScript | UnreadableScript]:
    """The settled scripts that no current narration has, oldest first."""
    return await asyncio.to_thread(inbox.find_waiting_scripts, store, settings, settle_seconds=settle_seconds)


async def settle(
    store: Store,
    waiting: WaitingScript | UnreadableScript,
    narrate: Callable[[WaitingScript], Awaitable[object]],
) -> str:
    """Narrate one script of the inbox, or put it aside; what came of it, in words.

    Raises only what is no script's fault: nothing that befalls one script may hold up the others.
    """
    try:
        if isinstance(waiting, UnreadableScript):
            return await _put_aside(store, waiting)
        return await _narrate(store, waiting, narrate)
    except STOPS_THE_SWEEP:
        raise
    except NarrationError as error:  # while noting the outcome: the script is gone, or the store stutters
        return f"left as it is: {error}"


async def _put_aside(store: Store, unreadable: UnreadableScript) -> str:
    """Reject what cannot be a script; what the store does not give cannot be moved either."""
    if not isinstance(unreadable.error, ScriptError):
        raise unreadable.error
    return await reject(store, unreadable, unreadable.error)


async def _narrate(
    store: Store, waiting: WaitingScript, narrate: Callable[[WaitingScript], Awaitable[object]]
) -> str:
    try:
        await narrate(waiting)
    except ScriptError as error:
        return await _dismiss(store, waiting, error)
    except STOPS_THE_SWEEP:
        raise
    except NarrationError as error:
        return await _give_up_or_wait(store, waiting, str(error))
    except Exception as error:  # noqa: BLE001  # a bug that one script meets must not block the rest
        reason = f"{type(error).__name__}; the log of its run says more"
        return await _give_up_or_wait(store, waiting, reason)
    with suppress(StoreError):
        await forget_tries(store, waiting)
    return f"narrated as {waiting.narration_id}"


async def _give_up_or_wait(store: Store, waiting: WaitingScript, reason: str) -> str:
    """Leave a script for the next sweep, or reject it after the last try."""
    tries = await count_try(store, waiting)
    if tries < MAX_TRIES:
        return f"failed, stays for the next sweep ({tries} of {MAX_TRIES} tries): {reason}"
    return await _dismiss(store, waiting, InputError(f"failed {tries} times, last with: {reason}"))


async def _dismiss(store: Store, waiting: WaitingScript, error: InputError) -> str:
    outcome = await reject(store, waiting, error)
    with suppress(StoreError):
        await forget_tries(store, waiting)
    return outcome


@store_task
async def reject(store: Store, waiting: WaitingScript | UnreadableScript, error: InputError) -> str:
    """Move a script that cannot be narrated out of the way, with the reason beside it."""
    moved = await asyncio.to_thread(store.scripts.reject, waiting.key, str(error))
    return f"rejected to {moved}: {error}"


@store_task
async def count_try(store: Store, waiting: WaitingScript) -> int:
    """Note that a script has failed once more; how often it has by now."""
    return await asyncio.to_thread(store.script_failures.add, waiting.sha256)


@store_task
async def forget_tries(store: Store, waiting: WaitingScript) -> None:
    """Its failures are history: it was narrated, or given up."""
    await asyncio.to_thread(store.script_failures.clear, waiting.sha256)
