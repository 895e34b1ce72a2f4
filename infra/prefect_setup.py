"""Sets up a Prefect server for narrations: work pool, concurrency limit, Secret blocks, automations.

`python -m infra.prefect_setup [--dry-run]` reads the environment and `.env`, shows what differs on the
server at PREFECT_API_URL, and changes it. Run again, it changes nothing.
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
from infra.provisioning import ProvisioningChange, apply_changes, compare, flatten, run_script
from infra.run_environment import (
    ENDPOINT_LIMIT,
    RunEnvironment,
    managed_variables,
    run_environment,
    secret_variables,
)
from infra.secret_blocks import block_reference, secret_change, stored_secrets
from narration.errors import NarrationError, SettingsError
from narration.settings import Settings, read_settings

WORK_POOL = "narration"

Template = dict[str, Any]


def find_changes(
    client: SyncPrefectClient,
    settings: Settings,
    environ: Mapping[str, str],
    *,
    desired_automations: Sequence[AutomationCore] | None = None,
) -> list[ProvisioningChange]:
    """The changes that set up the server for `settings` and `environ`, in the order to apply them.

    `desired_automations`: those of `automations()` unless a test gives others, with shorter timeouts.
    """
    environment = run_environment(settings, environ)
    stored = stored_secrets(client)
    return [
        *(secret_change(client, name, value, stored) for name, value in environment.secrets.items()),
        _work_pool_change(client, environment, with_block=stored),
        _limit_change(client, settings.endpoint_limit or ENDPOINT_LIMIT, settings.concurrency),
        *_automation_changes(client, automations() if desired_automations is None else desired_automations),
    ]


def _work_pool_change(
    client: SyncPrefectClient, environment: RunEnvironment, *, with_block: Iterable[str]
) -> ProvisioningChange:
    """The change of the process work pool; variables in `with_block` stay if `environment` lacks them."""
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
    actual: dict[str, str] = variable.get("default") or {}
    managed = managed_variables()
    desired = {name: value for name, value in actual.items() if name not in managed}
    desired |= environment.plain
    desired |= {name: block_reference(name) for name in (*with_block, *environment.secrets)}
    variable["default"] = desired
    return ProvisioningChange(
        object_name=f"work pool {WORK_POOL} (type process), environment of its runs",
        exists=pool is not None,
        differences=compare(_without_keys(actual), desired),
        apply=partial(_save_work_pool, client, template, exists=pool is not None),
    )


def _without_keys(variables: Mapping[str, str]) -> dict[str, str]:
    """`variables` without the values of keys that somebody put there by hand, which must not be shown."""
    references = {name: block_reference(name) for name in secret_variables()}
    return {
        name: value if references.get(name, value) == value else "(a value in the clear)"
        for name, value in variables.items()
    }


def _save_work_pool(client: SyncPrefectClient, template: Template, *, exists: bool) -> None:
    if exists:
        client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))
    else:
        client.create_work_pool(
            WorkPoolCreate(name=WORK_POOL, type=ProcessWorker.type, base_job_template=template)
        )


def _limit_change(client: SyncPrefectClient, name: str, slots: int) -> ProvisioningChange:
    desired: dict[str, object] = {"limit": slots, "active": True, "slot_decay_per_second": 0.0}
    try:
        limit = client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        limit = None
    actual = {field: getattr(limit, field) for field in desired} if limit else {}
    return ProvisioningChange(
        object_name=f"global concurrency limit {name}, jobs in flight",
        exists=limit is not None,
        differences=compare(actual, desired),
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


def _automation_changes(
    client: SyncPrefectClient, desired: Sequence[AutomationCore]
) -> list[ProvisioningChange]:
    changes = []
    for automation in desired:
        existing = next(iter(client.read_automations_by_name(automation.name)), None)
        changes.append(
            ProvisioningChange(
                object_name=f"automation '{automation.name}'",
                exists=existing is not None,
                differences=compare(_comparable(existing) if existing else {}, _comparable(automation)),
                apply=partial(_save_automation, client, automation, existing.id if existing else None),
            )
        )
    return changes


def _save_automation(client: SyncPrefectClient, automation: AutomationCore, existing_id: UUID | None) -> None:
    if existing_id is None:
        client.create_automation(automation)
    else:
        client.update_automation(existing_id, automation)


def _comparable(automation: AutomationCore) -> dict[str, object]:
    """The fields of an automation that this script sets, with sets in one order and actions by position."""
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
            apply_changes(find_changes(client, read_settings(), os.environ), dry_run=dry_run)
    except httpx.TransportError as error:
        raise NarrationError(
            f"no Prefect server answers at {url}: {type(error).__name__}",
            remedy="start the server, then run again",
        ) from None
    except PrefectHTTPStatusError as error:
        reason = f"HTTP {error.response.status_code} for {error.request.url.path}"
        raise NarrationError(f"the Prefect server at {url} refused: {reason}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse `arguments` and set up the server; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.prefect_setup",
        description="Set up the Prefect server at PREFECT_API_URL for narrations: the work pool 'narration' "
        "with the environment of its runs, the concurrency limit on the endpoint, a Secret block for each "
        "key, and the automations for crashed runs. Runs get the settings that the environment and .env have "
        "here. Run again, it changes nothing.",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would change and change nothing")
    parsed = parser.parse_args(arguments)
    return run_script(lambda: _run(dry_run=parsed.dry_run))


if __name__ == "__main__":
    sys.exit(main())
