"""Policy of what a person sees in the Prefect UI: a progress that moves, a table of chunks, a summary."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)

from narration.escaping import escape_markdown
from narration.manifest import Manifest
from narration.planning import Plan, PlannedChunk
from narration.publishing.commands import retake_command
from narration.store import Store
from narration.synthesis.progress import Progress, tell
from narration.synthesis.report import RunReport
from narration.synthesis.run_state import RunState
from tasks.pages import MAX_ROWS, best_effort

SECONDS_BETWEEN_UPDATES = 2.0  # of the progress artifact
SECONDS_BETWEEN_TELLS = 0.5  # of a terminal: each walks over all chunks, once for each clip would be too much
TABLE_TEXT = 120  # characters of a chunk's text shown


def tell_step(step: str, plan: Plan, tally: RunState) -> None:
    """Tell a listening terminal how far the run is."""
    made, cached, failed = tally.counts(plan)
    waiting = sum(
        entry.clip is None and entry.digest not in tally.made and entry.digest not in tally.failed
        for entry in plan.chunks
    )
    tell(Progress(step, len(plan.chunks), cached - waiting, made, failed, tally.budget.spent))


@asynccontextmanager
async def progress_shown(plan: Plan, tally: RunState) -> AsyncIterator[None]:
    """Keep terminal and progress artifact moving while clips are made."""
    artifact: UUID | None = None
    shown = _percent(plan, tally)
    with best_effort():
        artifact = await acreate_progress_artifact(
            progress=shown,
            key=f"progress-{plan.narration_id}",
            description=f"Clips of {plan.narration_id} at hand",
        )

    async def move() -> None:
        nonlocal shown
        now = _percent(plan, tally)
        if artifact is not None and now != shown:
            with best_effort():
                await aupdate_progress_artifact(artifact, progress=now)
                shown = now

    async def keep_moving() -> None:
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_UPDATES)
            await move()

    async def keep_telling() -> None:
        while True:
            tell_step("synthesize", plan, tally)
            await asyncio.sleep(SECONDS_BETWEEN_TELLS)

    going_on = [asyncio.create_task(keep_moving()), asyncio.create_task(keep_telling())]
    try:
        yield
    finally:
        for task in going_on:
            task.cancel()
        tell_step("synthesize", plan, tally)
    await move()


def _percent(plan: Plan, tally: RunState) -> float:
    at_hand = sum(entry.clip is not None or entry.digest in tally.made for entry in plan.chunks)
    return round(100 * at_hand / len(plan.chunks), 1)


async def show_chunks(plan: Plan, tally: RunState) -> None:
    """A table of chunks: what each is, where its clip came from, what it cost.

    Of more than `MAX_ROWS` those a person has something to do with stay: what failed, then what
    is doubtful, then what this run made.
    """
    rows = [_row(entry, tally) for entry in plan.chunks]
    left_out = ""
    if len(rows) > MAX_ROWS:
        left_out = f". {len(rows) - MAX_ROWS} of {len(rows)} are left out; the manifest has them all"
        rows = sorted(sorted(rows, key=_unremarkable)[:MAX_ROWS], key=lambda row: int(row["chunk"]))
    with best_effort():
        await acreate_table_artifact(
            table=rows,
            key=f"chunks-{plan.narration_id}",
            description=f"Chunks of **{plan.narration_id}**{_draft_note(plan.engine)}{left_out}",
        )


def _unremarkable(row: dict[str, Any]) -> tuple[bool, bool, bool]:
    """Sorts what a person should see to the front."""
    return row["state"] != "failed", not row["doubts"], row["state"] != "synthesized"


def _row(entry: PlannedChunk, tally: RunState) -> dict[str, Any]:
    made = tally.new(entry.digest)
    failure = tally.failed.get(entry.digest)
    clip = tally.made[entry.digest].clip if entry.digest in tally.made else entry.clip
    text = entry.text if len(entry.text) <= TABLE_TEXT else entry.text[: TABLE_TEXT - 1] + "…"
    state = "failed" if failure else "synthesized" if made else "cached"
    sidecar = clip.sidecar if clip else None
    faults = sidecar.quality.get("faults", []) if sidecar else []
    return {
        "chunk": entry.chunk.index,
        "state": state,
        "seconds": round(clip.seconds, 2) if clip else None,
        "take": entry.choice.take,
        "attempts": len(sidecar.refused) + 1 if sidecar else None,
        "seed": str(sidecar.seed) if sidecar else None,
        "cost $": round(tally.budget.price_of(made.execution_seconds), 6) if made else 0,
        "doubts": escape_markdown("; ".join(faults) if failure is None else str(failure)[:300]),
        "text": escape_markdown(text),
    }


async def show_summary(store: Store, report: RunReport, manifest: Manifest) -> None:
    """What came out, with links where the store is reached by links."""
    lines = [
        f"# {report.narration_id}",
        _draft_note(report.engine).strip(" ()"),
        (
            f"{report.chunks} chunks: {report.synthesized} synthesized, {report.cached} cached, "
            f"{report.failed} failed. Cost ${report.cost:.4f}."
        ),
    ]
    if report.duration is not None:
        lines.append(f"Duration {report.duration:.1f} s.")
    lines += [f"- {escape_markdown(note)}" for note in report.notes]
    with best_effort():
        lines += await asyncio.to_thread(_where, store, report, manifest)
        if report.flagged:
            lines.append(_what_to_retake(report, manifest, store.location))
        await acreate_markdown_artifact(
            "\n\n".join(line for line in lines if line), key=f"summary-{report.narration_id}"
        )


def _where(store: Store, report: RunReport, manifest: Manifest) -> list[str]:
    """Where each file is, the review page first; with a link where a person has no other way to it."""
    lines = []
    for entry in sorted(manifest.files, key=lambda entry: entry.kind != "html"):
        name = "review page" if entry.kind == "html" else entry.kind
        link = f"[open]({store.link(entry.key)}), " if store.is_remote else ""
        lines.append(f"- {name}: {link}`{store.locate(entry.key)}`")
    lines.append(f"- manifest: `{report.manifest}`")
    if store.is_remote:
        lines.append("The links end after 7 days; the deployment `review` makes a new review page.")
    return lines


def _what_to_retake(report: RunReport, manifest: Manifest, store: str) -> str:
    command = retake_command(manifest.id, report.flagged, store=store, engine=manifest.engine)
    listed = ", ".join(map(str, report.flagged))
    return (
        f"No attempt was free of doubt for chunks {listed}. Listen, then run the deployment `retake`, or "
        f"`{command}`."
    )


async def show_failure(plan: Plan, tally: RunState, remedy: str) -> None:
    """Which chunks have no clip, why, and what to do next; nothing for a run without failures."""
    failures = tally.failures(plan)
    if not failures:
        return
    lines = [
        f"# {plan.narration_id}: {len(failures)} of {len(plan.chunks)} chunks failed",
        f"The others are stored. To go on: {remedy}.",
        *(
            f"- chunk {index}: {escape_markdown(reason)}"
            for index, reason in list(failures.items())[:MAX_ROWS]
        ),
    ]
    with best_effort():
        await acreate_markdown_artifact("\n\n".join(lines), key=f"summary-{plan.narration_id}")


def _draft_note(engine: str) -> str:
    return " (draft voice: espeak-ng, not the cloned voice)" if engine == "draft" else ""
