"""Keys in Prefect's Secret blocks: one block for each variable, named after it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import BlockDocumentCreate, BlockDocumentUpdate
from prefect.exceptions import ObjectNotFound

from infra.job_environment import secret_variables
from infra.plan import Difference, ProvisioningChange
from narration.errors import NarrationError


def block_name(variable: str) -> str:
    """Name of the Secret block for `variable`: RUNPOD_API_KEY is in `narration-runpod-api-key`."""
    return f"narration-{variable.lower().replace('_', '-')}"


def block_reference(variable: str) -> str:
    """What stands in the job's environment in place of the key; workers resolve it at each start."""
    return f"{{{{ prefect.blocks.secret.{block_name(variable)} }}}}"


def stored_secrets(client: SyncPrefectClient) -> dict[str, str]:
    """Values of this project's Secret blocks that exist, by the variable they are for."""
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
    """What it takes for the block of `variable` to hold `value`, which the plan does not show."""
    difference = Difference("value", "(another)", f"(this environment's {variable})")
    return ProvisioningChange(
        what=f"secret block {block_name(variable)}",
        present=variable in stored,
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
            raise NarrationError("the Prefect server knows no Secret blocks") from None
        client.create_block_document(
            BlockDocumentCreate(
                name=name, data={"value": value}, block_type_id=kind.id, block_schema_id=schema.id
            )
        )
    else:
        client.update_block_document(block.id, BlockDocumentUpdate(data={"value": value}))
