"""What a person sees at the terminal: progress on stderr, results on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from narration.escaping import single_line
from narration.planning import Plan
from narration.synthesis.progress import Progress, on_progress
from narration.synthesis.report import RunReport

DONE, FAILED, BAD_INPUT = 0, 1, 2  # exit statuses
STOPPED = 130  # by Ctrl-C, as shells have it
MAX_REASONS = 20  # shown of why chunks failed; `--json` has them all
DRAFT_NOTICE = "This is the draft voice (espeak-ng): for hearing the timing, not for publishing."


def say(text: str) -> None:
    """A line for the person; stdout stays for results."""
    print(_harmless(text), file=sys.stderr, flush=True)  # noqa: T201  # the terminal is this module's duty


def result(text: str) -> None:
    """A line of the result, on stdout."""
    print(_harmless(text), flush=True)  # noqa: T201  # the terminal is this module's duty


def result_json(value: object) -> None:
    """The result as one JSON object on stdout; what a terminal would obey is escaped in it."""
    text = json.dumps(value, ensure_ascii=False)
    result("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text))


def _harmless(text: str) -> str:
    """`text` of any lines: what a narration's words, a file or a store hold commands no terminal."""
    return "\n".join(map(single_line, text.split("\n")))


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Rows in aligned columns, a line each; `right` names the columns that align to the right."""
    rows = [[single_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


@contextmanager
def progress_bar() -> Iterator[None]:
    """Show a run's progress as it moves: a live bar on a terminal, a line per step elsewhere."""
    from rich.console import Console  # noqa: PLC0415  # `plan` does without
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    from rich.progress import Progress as Bar  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    last_step = ""
    with Bar(*columns, console=console, transient=False, disable=not console.is_terminal) as bar:
        row = bar.add_task("starting", total=None, note="")

        def show(progress: Progress) -> None:
            nonlocal last_step
            at_hand = progress.cached + progress.synthesized
            note = f"{progress.cached} cached"
            note += f", {progress.failed} failed" if progress.failed else ""
            note += f", ${progress.spent:.4f}" if progress.spent else ""
            bar.update(
                row, description=progress.step, total=progress.total or None, completed=at_hand, note=note
            )
            if not console.is_terminal and progress.step != last_step:
                say(f"{progress.step}: {at_hand} of {progress.total} clips at hand")
            last_step = progress.step

        with on_progress(show):
            yield


def describe_plan(plan: Plan) -> str:
    """The plan for a person: chunks, then totals with the price's inputs."""
    rows = [("#", "", "chars", "pause", "text")]
    for planned in plan.chunks:
        text = planned.text if len(planned.text) <= 68 else planned.text[:67] + "…"
        mark = "cached" if planned.clip else "new"
        rows.append((str(planned.chunk.index), mark, str(len(planned.text)), planned.chunk.boundary, text))
    estimate = plan.estimate
    source = "measured" if estimate.speed_measured else "assumed"
    lines = [
        table(rows, right=(0, 2)),
        "",
        (
            f"{plan.narration_id}: {_chunks(len(plan.chunks))}, {plan.cached} cached, "
            f"{len(plan.missing)} to synthesize"
        ),
        f"speech     about {clock(estimate.speech_seconds)}",
    ]
    if plan.engine == "draft":
        lines.append(f"price      nothing. {DRAFT_NOTICE}")
    else:
        lines.append(
            f"GPU        about {estimate.gpu_seconds:.0f} s, at {estimate.speed:g} seconds of speech "
            f"per GPU second ({source})"
        )
        lines.append(
            f"price      about ${estimate.price:.4f}, at ${estimate.price_per_second:g} a GPU second; "
            "cold starts and idle time come on top"
        )
    lines.extend(
        f"dropped    the choices for a chunk that is gone: {single_line(entry.source_text[:60])}"
        for entry in plan.dropped
    )
    return "\n".join(lines)


def describe_run(report: RunReport) -> str:
    """The outcome for a person."""
    lines = []
    if report.manifest is not None and report.duration is not None:
        lines.append(f"{report.narration_id}: {clock(report.duration)} of narration")
        lines.extend(f"  {kind:<9} {location}" for kind, location in report.files.items())
        lines.append(f"  manifest  {report.manifest}")
    lines.append(
        f"{_chunks(report.chunks)}: {report.synthesized} synthesized, {report.cached} cached, "
        f"{report.failed} failed" + (f", ${report.cost:.4f}" if report.cost else "")
    )
    lines.extend(_failures(report.failures))
    if report.flagged:
        lines.append(f"  listen to {', '.join(map(str, report.flagged))}: no attempt was free of doubt")
    lines.extend(f"  dropped choice: {text}" for text in report.dropped)
    lines.extend(f"  note: {note}" for note in report.notes)
    if report.engine == "draft":
        lines.append(DRAFT_NOTICE)
    return "\n".join(map(single_line, lines))


def _chunks(count: int) -> str:
    return f"{count} chunk" if count == 1 else f"{count} chunks"


def _failures(failures: Mapping[int, str]) -> list[str]:
    """A line for each reason, with all the chunks that failed for it."""
    chunks: dict[str, list[int]] = {}
    for index, reason in failures.items():
        chunks.setdefault(reason, []).append(index)
    lines = [
        f"  {'chunk' if len(indices) == 1 else 'chunks'} {_ranges(indices)}: {reason}"
        for reason, indices in chunks.items()
    ]
    more = len(lines) - MAX_REASONS
    return [*lines[:MAX_REASONS], f"  and {more} more reasons"] if more > 0 else lines


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers in words: `1, 3 to 5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
