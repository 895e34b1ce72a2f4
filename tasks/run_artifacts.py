"""What a run shows at Prefect: a table of its chunks, a summary of its result or failure, and an event."""

from __future__ import annotations

import asyncio
from typing import Any

from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from prefect.events import emit_event

from narration.escaping import escape_markdown
from narration.manifest import Manifest
from narration.planning import Plan, PlannedChunk, SynthesizedNarration
from narration.publishing import report_of
from narration.publishing.retake_command import retake_command
from narration.store import Store
from narration.synthesis.report import RunReport
from narration.synthesis.run_state import NarrationRun, RunState
from tasks.maintenance_artifacts import MAX_ROWS, best_effort
from tasks.runs import how_to_retry

PUBLISHED = "narration.published"  # name of an event
TABLE_TEXT = 120  # characters of a chunk's text shown


async def require_every_clip(run: NarrationRun, plan: Plan) -> SynthesizedNarration:
    """Show the table of chunks; raises `ChunksFailed`, with what to do next, where some chunk has no clip."""
    await show_chunks(plan, run.state)
    remedy = ""
    if run.state.failure_reasons(plan):
        remedy = how_to_retry(plan)
        await show_failure(plan, run.state, remedy)
    return run.state.require_all(plan, remedy=remedy)


async def report_published(run: NarrationRun, plan: Plan, manifest: Manifest) -> dict[str, Any]:
    """Show the summary of a published narration and emit its event; returns the run's report."""
    report = report_of(run.store, plan, manifest, run.state)
    _emit_published(report)
    await show_summary(run.store, report, manifest)
    return report.model_dump(mode="json")


def _emit_published(report: RunReport) -> None:
    """Emit the event `narration.published`, with the address of the manifest."""
    emit_event(
        event=PUBLISHED,
        resource={
            "prefect.resource.id": f"narration.{report.narration_id}",
            "prefect.resource.name": report.narration_id,
        },
        payload={
            "narration_id": report.narration_id,
            "manifest": report.manifest,
            "duration": report.duration,
            "engine": report.engine,
        },
    )


async def show_chunks(plan: Plan, state: RunState) -> None:
    """A table of the chunks: text, where the clip comes from, its attempts, cost and faults.

    Of more chunks than `MAX_ROWS` it has those that a person may want to act on: first the failed,
    then those with faults, then those synthesized by this run.
    """
    rows = [chunk_row(entry, state) for entry in plan.chunks]
    left_out = ""
    if len(rows) > MAX_ROWS:
        left_out = f". {len(rows) - MAX_ROWS} of {len(rows)} are left out; the manifest has them all"
        rows = sorted(sorted(rows, key=_last_to_show)[:MAX_ROWS], key=lambda row: int(row["chunk"]))
    with best_effort():
        await acreate_table_artifact(
            table=rows,
            key=f"chunks-{plan.narration_id}",
            description=f"Chunks of **{plan.narration_id}**{_draft_note(plan.engine)}{left_out}",
        )


def _last_to_show(row: dict[str, Any]) -> tuple[bool, bool, bool]:
    """Sort key: the rows that a person may want to act on come first."""
    return row["state"] != "failed", not row["doubts"], row["state"] != "synthesized"


def chunk_row(entry: PlannedChunk, state: RunState) -> dict[str, Any]:
    """The row of a chunk in the table, by column."""
    synthesized = state.synthesized_here(entry.digest)
    failure = state.failures.get(entry.digest)
    clip = state.synthesized[entry.digest].clip if entry.digest in state.synthesized else entry.clip
    text = entry.text if len(entry.text) <= TABLE_TEXT else entry.text[: TABLE_TEXT - 1] + "…"
    sidecar = clip.sidecar if clip else None
    faults = sidecar.quality.get("faults", []) if sidecar else []
    return {
        "chunk": entry.chunk.index,
        "state": "failed" if failure else "synthesized" if synthesized else "cached",
        "seconds": round(clip.seconds, 2) if clip else None,
        "take": entry.take,
        "attempts": len(sidecar.refused) + 1 if sidecar else None,
        "seed": str(sidecar.seed) if sidecar else None,
        "cost $": round(state.budget.price_of(synthesized.execution_seconds), 6) if synthesized else 0,
        "doubts": escape_markdown("; ".join(faults) if failure is None else str(failure)[:300]),
        "text": escape_markdown(text),
    }


async def show_summary(store: Store, report: RunReport, manifest: Manifest) -> None:
    """A summary of a published narration: its counts, its files, and the chunks to listen to."""
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
        lines += await asyncio.to_thread(_locations, store, report, manifest)
        if report.flagged:
            lines.append(_retake_advice(report, manifest, store.location))
        await acreate_markdown_artifact(
            "\n\n".join(line for line in lines if line), key=f"summary-{report.narration_id}"
        )


def _locations(store: Store, report: RunReport, manifest: Manifest) -> list[str]:
    """A line for each published file, the review page first; with a link where the store is in S3."""
    lines = []
    for entry in sorted(manifest.files, key=lambda entry: entry.kind != "html"):
        name = "review page" if entry.kind == "html" else entry.kind
        link = f"[open]({store.link(entry.key)}), " if store.is_remote else ""
        lines.append(f"- {name}: {link}`{store.locate(entry.key)}`")
    lines.append(f"- manifest: `{report.manifest}`")
    if store.is_remote:
        lines.append("The links expire after 7 days; the deployment `review` publishes a new review page.")
    return lines


def _retake_advice(report: RunReport, manifest: Manifest, store: str) -> str:
    command = retake_command(manifest.id, report.flagged, store=store, engine=manifest.engine)
    chunks = ", ".join(map(str, report.flagged))
    return (
        f"Every attempt at chunks {chunks} had faults. Listen to them, then run the deployment `retake`, or "
        f"`{command}`."
    )


async def show_failure(plan: Plan, state: RunState, remedy: str) -> None:
    """A summary of a failed run: the chunks without a clip, why they failed, and what to do next."""
    reasons = state.failure_reasons(plan)
    lines = [
        f"# {plan.narration_id}: {len(reasons)} of {len(plan.chunks)} chunks failed",
        f"The others are stored. To go on: {remedy}.",
        *(
            f"- chunk {index}: {escape_markdown(reason)}"
            for index, reason in list(reasons.items())[:MAX_ROWS]
        ),
    ]
    with best_effort():
        await acreate_markdown_artifact("\n\n".join(lines), key=f"summary-{plan.narration_id}")


def _draft_note(engine: str) -> str:
    return " (draft voice: espeak-ng, not the cloned voice)" if engine == "draft" else ""
