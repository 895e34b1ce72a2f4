"""What `narrate run` and `narrate retake` show a person at the end: files, counts, cost, failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flows.cli.plan_text import DRAFT_NOTICE
from narration.display_units import clock, count, dollars
from narration.escaping import single_line
from narration.synthesis.report import RunReport

MAX_REASONS = 20  # shown of why chunks failed; `--json` has them all


def describe_run(report: RunReport) -> str:
    """The outcome of a run in lines."""
    lines = []
    if report.manifest is not None and report.duration is not None:
        lines.append(f"{report.narration_id}: {clock(report.duration)} of narration")
        lines.extend(f"  {kind:<9} {location}" for kind, location in report.files.items())
        lines.append(f"  manifest  {report.manifest}")
    cost = "free" if report.engine == "draft" else dollars(report.cost)
    lines.append(
        f"{count(report.chunks, 'chunk')}: {report.synthesized} synthesized, {report.cached} cached, "
        f"{report.failed} failed, {cost}"
    )
    lines.extend(_failures(report.failures))
    if report.flagged:
        lines.append(f"  listen to {', '.join(map(str, report.flagged))}: no attempt was free of doubt")
    lines.extend(f"  dropped choice: {text}" for text in report.dropped)
    lines.extend(f"  note: {note}" for note in report.notes)
    if report.engine == "draft":
        lines.append(DRAFT_NOTICE)
    return "\n".join(map(single_line, lines))


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
    return [*lines[:MAX_REASONS], f"  and {count(more, 'more reason')}"] if more > 0 else lines


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers in words: `1, 3 to 5`."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    return ", ".join(f"{each[0]} to {each[-1]}" if len(each) > 1 else f"{each[0]}" for each in ranges)
