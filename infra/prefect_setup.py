"""Sets up a Prefect server for narrations: work pool, concurrency limit, Secret blocks, automations.

`python -m infra.prefect_setup [--dry-run]` reads the environment and `.env`, shows what differs on the
server at PREFECT_API_URL, and makes it so. Run again, it changes nothing.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import get_current_settings
from prefect.workers.process import ProcessWorker

from infra.automations import automations
from infra.job_environment import (
    ENDPOINT_LIMIT,
    JobEnvironment,
    job_environment,
    managed_variables,
    secret_variables,
)
from infra.plan import ProvisioningChange, apply_changes, compare, flatten, run_script
from infra.secret_blocks import block_reference, secret_change, stored_secrets
from narration.errors import NarrationError, SettingsError
from narration.settings import Settings, read_settings

WORK_POOL = "narration"

Template = dict[str, Any]


def plan(
    client: SyncPrefectClient,
    settings: Settings,
    environ: Mapping[str, str],
    *,
    watch: Sequence[AutomationCore] | None = None,
) -> list[ProvisioningChange]:
    """What differs on the server from what `settings` and `environ` ask for, in the order to apply it.

    `watch`: automations other than those of `automations()`, such as ones of less patience.
    """
    environment = job_environment(settings, environ)
    present = stored_secrets(client)
    return [
        *(secret_change(client, name, value, present) for name, value in environment.secrets.items()),
        _work_pool(client, environment, kept=present),
        _limit(client, settings.endpoint_limit or ENDPOINT_LIMIT, settings.concurrency),
        *_automations(client, automations() if watch is None else watch),
    ]


def _work_pool(
    client: SyncPrefectClient, environment: JobEnvironment, *, kept: Iterable[str]
) -> ProvisioningChange:
    """The process work pool; `kept` are variables whose block exists though nothing sets them here."""
    try:
        pool = client.read_work_pool(WORK_POOL)
    except ObjectNotFound:
        pool = None
    if pool is not None and pool.type != ProcessWorker.type:
        raise SettingsError(
            f"work pool {WORK_POOL} is of type {pool.type}",
            remedy="delete or rename it; it must be of type process",
        )
    template: Template = copy.deepcopy(
        pool.base_job_template if pool else ProcessWorker.get_default_base_job_template()
    )
    variable = template["variables"]["properties"]["env"]
    present: dict[str, str] = variable.get("default") or {}
    managed = managed_variables()
    wanted = {name: value for name, value in present.items() if name not in managed}
    wanted |= environment.plain
    wanted |= {name: block_reference(name) for name in (*kept, *environment.secrets)}
    variable["default"] = wanted
    return ProvisioningChange(
        what=f"work pool {WORK_POOL} (type process), environment of its runs",
        present=pool is not None,
        differences=compare(_without_keys(present), wanted),
        apply=partial(_save_work_pool, client, template, exists=pool is not None),
    )


def _without_keys(variables: Mapping[str, str]) -> dict[str, str]:
    """`variables`, less the values that a key was given by hand, which must not be shown."""
    keys = {name: block_reference(name) for name in secret_variables()}
    return {
        name: value if keys.get(name, value) == value else "(a value in the clear)"
        for name, value in variables.items()
    }


def _save_work_pool(client: SyncPrefectClient, template: Template, *, exists: bool) -> None:
    if exists:
        client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))
    else:
        client.create_work_pool(
            WorkPoolCreate(name=WORK_POOL, type=ProcessWorker.type, base_job_template=template)
        )


def _limit(client: SyncPrefectClient, name: str, slots: int) -> ProvisioningChange:
    wanted: dict[str, object] = {"limit": slots, "active": True, "slot_decay_per_second": 0.0}
    try:
        limit = client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        limit = None
    present = {field: getattr(limit, field) for field in wanted} if limit else {}
    return ProvisioningChange(
        what=f"global concurrency limit {name}, jobs in flight",
        present=limit is not None,
        differences=compare(present, wanted),
        apply=partial(_save_limit, client, name, slots, exists=limit is not None),
    )


def _save_limit(client: SyncPrefectClient, name: str, slots: int, *, exists: bool) -> None:
    if exists:
        update = GlobalConcurrencyLimitUpdate(limit=slots, active=True, slot_decay_per_second=0.0)
        client.update_global_concurrency_limit(name, update)
    else:
        create = GlobalConcurrencyLimitCreate(
            name=name, limit=slots, active=True, active_slots=0, slot_decay_per_second=0.0
        )
        client.create_global_concurrency_limit(create)


def _automations(client: SyncPrefectClient, wanted: Sequence[AutomationCore]) -> list[ProvisioningChange]:
    changes = []
    for automation in wanted:
        found = client.read_automations_by_name(automation.name)
        present = _comparable(found[0]) if found else {}
        changes.append(
            ProvisioningChange(
                what=f"automation '{automation.name}'",
                present=bool(found),
                differences=compare(present, _comparable(automation)),
                apply=partial(_save_automation, client, automation, found[0].id if found else None),
            )
        )
    return changes


def _save_automation(client: SyncPrefectClient, automation: AutomationCore, identity: UUID | None) -> None:
    if identity is None:
        client.create_automation(automation)
    else:
        client.update_automation(identity, automation)


def _comparable(automation: AutomationCore) -> dict[str, object]:
    """What this script decides about an automation, sets in one order, actions by position."""
    fields = automation.model_dump(
        mode="json", include={"description", "enabled", "trigger", "actions"}, exclude_none=True
    )
    fields["actions"] = {str(number): action for number, action in enumerate(fields["actions"], 1)}
    return {
        name: sorted(value, key=str) if isinstance(value, list) else value
        for name, value in flatten(fields).items()
    }


def _run(*, dry_run: bool) -> None:
    url = get_current_settings().api.url
    if url is None:
        raise SettingsError(
            "PREFECT_API_URL is not set, so there is no server to set up",
            remedy="start one (`prefect server start`) and set PREFECT_API_URL=http://127.0.0.1:4200/api",
        )
    try:
        with get_client(sync_client=True) as client:
            apply_changes(plan(client, read_settings(), os.environ), dry_run=dry_run)
    except httpx.TransportError as error:
        raise NarrationError(
            f"no Prefect server answers at {url}: {type(error).__name__}", remedy="start it, then run again"
        ) from None
    except PrefectHTTPStatusError as error:
        reason = f"HTTP {error.response.status_code} for {error.request.url.path}"
        raise NarrationError(f"the Prefect server at {url} refused: {reason}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse `arguments`, set the server up; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.prefect_setup",
        description="Set up the Prefect server at PREFECT_API_URL for narrations: the work pool 'narration' "
        "with the environment of its runs, the concurrency limit on the endpoint, a Secret block for each "
        "key, and the automations that look after crashed runs. What is set in the environment and .env "
        "here is what the runs will get. Run again, it changes nothing.",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would change and change nothing")
    chosen = parser.parse_args(arguments)
    return run_script(lambda: _run(dry_run=chosen.dry_run))


if __name__ == "__main__":
    sys.exit(main())
