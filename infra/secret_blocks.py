"""Prefect Secret blocks for keys: one block for each environment variable, named after it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import BlockDocumentCreate, BlockDocumentUpdate
from prefect.exceptions import ObjectNotFound

from infra.provisioning import Difference, ProvisioningChange
from infra.run_environment import secret_variables
from narration.errors import NarrationError


def block_name(variable: str) -> str:
    """The name of the Secret block for `variable`: RUNPOD_API_KEY is kept in `narration-runpod-api-key`."""
    return f"narration-{variable.lower().replace('_', '-')}"


def block_reference(variable: str) -> str:
    """The reference in a run's environment in place of the key; workers resolve it when a run starts."""
    return f"{{{{ prefect.blocks.secret.{block_name(variable)} }}}}"


def stored_secrets(client: SyncPrefectClient) -> dict[str, str]:
    """The values of this project's existing Secret blocks, by variable."""
    values: dict[str, str] = {}
    for variable in secret_variables():
        try:
            block = client.read_block_document_by_name(block_name(variable), "secret", include_secrets=True)
        except ObjectNotFound:
            continue
        values[variable] = str(block.data.get("value"))
    return values


def secret_change(
    client: SyncPrefectClient, variable: str, value: str, stored: Mapping[str, str]
) -> ProvisioningChange:
    """The change that puts `value` into the block of `variable`; its text does not show the value."""
    difference = Difference("value", "(another)", f"(this environment's {variable})")
    return ProvisioningChange(
        object_name=f"secret block {block_name(variable)}",
        exists=variable in stored,
        differences=() if stored.get(variable) == value else (difference,),
        apply=partial(_save_secret, client, block_name(variable), value),
    )


def _save_secret(client: SyncPrefectClient, name: str, value: str) -> None:
    try:
        block = client.read_block_document_by_name(name, "secret")
    except ObjectNotFound:
        kind = client.read_block_type_by_slug("secret")
        schema = client.get_most_recent_block_schema_for_block_type(kind.id)
        if schema is None:
            raise NarrationError("the Prefect server has no schema for Secret blocks") from None
        client.create_block_document(
            BlockDocumentCreate(
                name=name, data={"value": value}, block_type_id=kind.id, block_schema_id=schema.id
            )
        )
    else:
        client.update_block_document(block.id, BlockDocumentUpdate(data={"value": value}))
