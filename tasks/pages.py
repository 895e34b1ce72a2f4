"""Policy of what a person sees of the store's chores: what a sweep did, what pruning found, a review page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from prefect import get_run_logger
from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact

from narration.escaping import escape_markdown
from narration.pruning import UnneededObject

MAX_ROWS = 1_000  # of a table; a browser shows more only with pain


@contextmanager
def best_effort() -> Iterator[None]:
    """What cannot be shown must not cost what was made: it is noted, and the run goes on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # whatever ails the server
        get_run_logger().warning("a page of this run could not be shown: %s", type(error).__name__)


async def show_sweep(outcomes: Mapping[str, str]) -> None:
    """What became of each script of the inbox so far."""
    rows = [
        {"script": escape_markdown(key), "outcome": escape_markdown(outcome)}
        for key, outcome in outcomes.items()
    ]
    with best_effort():
        await acreate_table_artifact(table=rows, key="sweep", description="Scripts of the inbox")


async def show_prune(unneeded: Sequence[UnneededObject], *, deleted: bool) -> None:
    """What pruning found."""
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
    """Where the review page is."""
    with best_effort():
        await acreate_markdown_artifact(
            f"# {narration_id}\n\n[Review page]({link})", key=f"review-{narration_id}"
        )
