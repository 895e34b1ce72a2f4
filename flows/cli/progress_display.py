"""The progress of a run on stderr: a live row for each step on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flows.cli import terminal
from narration.display_units import clock, count, dollars
from narration.synthesis.progress import Progress, on_progress
from narration.synthesis.remaining_time import RemainingTime

if TYPE_CHECKING:
    from rich.table import Table

Show = Callable[[Progress], None]

REFRESHES_PER_SECOND = 4
BAR_WIDTH = 20  # columns
BAR_NEEDS = 80  # columns of the terminal; a narrower one has no bar


@contextmanager
def progress_display(*, free: bool, began: float) -> Iterator[Callable[[str], None]]:
    """Show the steps of the runs inside, then how the block ended and how long the command took.

    Yields a function that begins a step which no flow reports, such as starting a server. `free` says
    that nothing is paid, which is then shown for the price. `began` is when the command began, by
    `time.monotonic`.
    """
    outcome = "failed after"
    display = _live_rows(free=free) if terminal.is_live(sys.stderr) else _plain_lines()
    try:
        with display as show, on_progress(show):
            yield lambda step: show(Progress(step))
        outcome = "finished in"
    except KeyboardInterrupt:
        outcome = "stopped after"
        raise
    finally:
        terminal.say(f"{outcome} {clock(time.monotonic() - began)}")


@contextmanager
def _plain_lines() -> Iterator[Show]:
    """A line when a step begins: no control codes, nothing that moves."""
    last_step = ""

    def show(progress: Progress) -> None:
        nonlocal last_step
        if progress.step != last_step:
            last_step = progress.step
            note = _at_begin(progress)
            terminal.say(f"{progress.step}: {note}" if note else progress.step)

    yield show


@contextmanager
def _live_rows(*, free: bool) -> Iterator[Show]:
    """A row for each step, which moves until the next step begins."""
    from rich.live import Live  # noqa: PLC0415  # only on a terminal

    console = terminal.console(sys.stderr)
    began: list[float] = []  # of each row
    reports: list[Progress] = []  # the latest of each row
    remaining = RemainingTime()
    done = False

    def show(progress: Progress) -> None:
        if not reports or progress.step != reports[-1].step:
            began.append(time.monotonic())
            reports.append(progress)
        reports[-1] = progress
        if progress.step == "synthesize":
            remaining.add(time.monotonic(), progress.speech_seconds)

    def rows() -> Table:
        ended = [*began[1:], time.monotonic()]
        left = remaining.estimate(reports[-1].expected_seconds) if reports else None
        notes = [_in_row(each, left if each is reports[-1] else None, free=free) for each in reports]
        elapsed = [clock(end - begin) for begin, end in zip(began, ended, strict=False)]
        under_way = None if done or not reports else len(reports) - 1
        return _table(reports, notes, elapsed, under_way, bars=console.width >= BAR_NEEDS)

    with Live(
        console=console,
        get_renderable=rows,
        refresh_per_second=REFRESHES_PER_SECOND,
        redirect_stdout=False,  # stdout is for the result
    ):
        yield show
        done = True


def _table(
    reports: list[Progress], notes: list[str], elapsed: list[str], under_way: int | None, *, bars: bool
) -> Table:
    """A row for each step so far; `under_way` is the index of the one that still moves."""
    from rich.progress_bar import ProgressBar  # noqa: PLC0415  # only on a terminal
    from rich.table import Table  # noqa: PLC0415  # as above
    from rich.text import Text  # noqa: PLC0415  # as above

    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    grid.add_column(no_wrap=True)
    if bars:
        grid.add_column(width=BAR_WIDTH)
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    for row, (progress, note, seconds) in enumerate(zip(reports, notes, elapsed, strict=True)):
        counted = progress.step == "synthesize"
        bar = ProgressBar(
            total=100.0,
            completed=progress.percent if counted else 100.0,
            pulse=row == under_way and not counted,
        )
        cells = [Text(progress.step, style="bold" if row == under_way else ""), Text(note), Text(seconds)]
        grid.add_row(*(cells[:1] + ([bar] if bars else []) + cells[1:]))
    return grid


def _at_begin(progress: Progress) -> str:
    """What there is to do in a step that begins."""
    if progress.step == "synthesize":
        to_do = progress.total - progress.cached - progress.synthesized
        missing = progress.expected_seconds - progress.speech_seconds
        return f"{to_do} of {count(progress.total, 'chunk')}, about {clock(missing)} of speech"
    return _of_step(progress)


def _in_row(progress: Progress, seconds_left: float | None, *, free: bool) -> str:
    """How far a step is."""
    if progress.step != "synthesize":
        return _of_step(progress)
    parts = [
        f"{progress.cached + progress.synthesized} of {count(progress.total, 'chunk')}",
        f"{clock(progress.speech_seconds)} of {clock(progress.expected_seconds)}",
    ]
    if seconds_left is not None:
        parts.append(f"{clock(seconds_left)} left")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    return ", ".join([*parts, "free" if free else dollars(progress.spent)])


def _of_step(progress: Progress) -> str:
    if progress.step == "plan":
        return (
            f"{count(progress.total, 'chunk')}, {progress.cached} cached, "
            f"about {clock(progress.expected_seconds)} of speech"
        )
    if progress.step == "master":
        return f"{clock(progress.speech_seconds)} of speech"
    return ""
