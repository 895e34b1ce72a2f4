"""The flow `review`: publish the review page of a narration again, with new links."""

from __future__ import annotations

from typing import Annotated

from prefect import flow
from pydantic import Field

from narration.settings import read_settings
from narration.store import open_store
from tasks.maintenance_artifacts import show_review
from tasks.publish import publish_review_again
from tasks.runs import run_name


@flow(name="review", flow_run_name=run_name, persist_result=False)
async def review(
    narration_id: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?$")],
) -> None:
    """Publish the review page of a narration again: in S3 its links expire after a week.

    Args:
        narration_id: Id of a published narration, with or without its `-draft`.

    """
    store = open_store(read_settings().store)
    link = await publish_review_again(store, narration_id)
    await show_review(narration_id, link)
