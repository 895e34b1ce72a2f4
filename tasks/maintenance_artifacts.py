"""What the flows `sweep`, `prune` and `review` show in the Prefect UI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact

from narration.escaping import escape_markdown
from narration.pruning import UnneededObject

MAX_ROWS = 1_000  # of a table; with more a browser becomes slow


@contextmanager
def best_effort() -> Iterator[None]:
    """Log an artifact that Prefect does not take, and go on: it must not fail a run that is paid for."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # any failure of the server
        get_run_logger().warning("an artifact of this run could not be created: %s", type(error).__name__)


async def show_sweep(outcomes: Mapping[str, str]) -> None:
    """A table of the scripts in the inbox, with the outcome of each so far."""
    rows = [
        {"script": escape_markdown(key), "outcome": escape_markdown(outcome)}
        for key, outcome in outcomes.items()
    ]
    with best_effort():
        await acreate_table_artifact(table=rows, key="sweep", description="Scripts of the inbox")


async def show_prune(unneeded: Sequence[UnneededObject], *, deleted: bool) -> None:
    """A table of the objects that are no longer needed, or were deleted."""
    size = sum(entry.info.size for entry in unneeded) / 1e6
    verb = "deleted" if deleted else "would be deleted; run again with `really_delete`"
    rows = [
        {"key": escape_markdown(entry.info.key), "bytes": entry.info.size, "why": entry.reason}
        for entry in unneeded[:MAX_ROWS]
    ]
    with best_effort():
        await acreate_table_artifact(
            table=rows, key="prune", description=f"{len(unneeded)} objects, {size:.1f} MB: {verb}"
        )


async def show_review(narration_id: str, link: str) -> None:
    """A link to the review page."""
    with best_effort():
        await acreate_markdown_artifact(
            f"# {narration_id}\n\n[Review page]({link})", key=f"review-{narration_id}"
        )
