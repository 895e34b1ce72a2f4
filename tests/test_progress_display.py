"""The progress of a run: lines in a pipe, moving rows on a terminal, the time that is left."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator

import pytest
from support.terminals import run_in_terminal

from flows.cli.progress_display import progress_display
from narration.synthesis.progress import Progress, report_progress
from narration.synthesis.remaining_time import WINDOW_SECONDS, RemainingTime

PLAN = Progress("plan", total=4, cached=1, speech_seconds=10, expected_seconds=80)
HALF = Progress(
    "synthesize", total=4, cached=1, synthesized=1, spent=0.0612, speech_seconds=30, expected_seconds=75
)
MASTER = Progress(
    "master", total=4, cached=1, synthesized=3, spent=0.1149, speech_seconds=70, expected_seconds=70
)

SHOW = """
import time
from flows.cli.progress_display import progress_display
from narration.synthesis.progress import Progress, report_progress
with progress_display(free=False, began=time.monotonic() - 61.2) as begin_step:
    begin_step("start Prefect")
    time.sleep(0.6)
    for synthesized, seconds in ((0, 10), (1, 30), (2, 50)):
        report_progress(Progress("synthesize", 4, 1, synthesized, 0, 0.03 * synthesized, seconds, 75))
        time.sleep(0.6)
    report_progress(Progress("master", 4, 1, 3, 0, 0.09, 70, 70))
"""


def shown_lines(capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    printed = capsys.readouterr()
    assert not printed.out
    yield from printed.err.splitlines()


def test_in_a_pipe_each_step_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What there is to do when the step begins, without control codes; stdout stays empty."""
    with progress_display(free=False, began=time.monotonic()) as begin_step:
        begin_step("start Prefect")
        for progress in (PLAN, HALF, HALF, MASTER, Progress("publish")):
            report_progress(progress)
    assert list(shown_lines(capsys)) == [
        "start Prefect",
        "plan: 4 chunks, 1 cached, about 1:20 of speech",
        "synthesize: 2 of 4 chunks, about 0:45 of speech",
        "master: 1:10 of speech",
        "publish",
        "finished in 0:00",
    ]


def test_the_last_line_is_the_time_since_the_command_began(capsys: pytest.CaptureFixture[str]) -> None:
    """Reading and planning before the first step count too."""
    with progress_display(free=True, began=time.monotonic() - 3_661):
        pass
    assert list(shown_lines(capsys)) == ["finished in 1:01:01"]


@pytest.mark.parametrize(
    ("error", "outcome"), [(KeyboardInterrupt, "stopped after"), (RuntimeError, "failed after")]
)
def test_the_last_line_tells_how_a_run_ended(
    error: type[BaseException], outcome: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that failed or was stopped did not finish."""
    with pytest.raises(error), progress_display(free=True, began=time.monotonic() - 61.2):
        raise error
    assert list(shown_lines(capsys)) == [f"{outcome} 1:01"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")
@pytest.mark.parametrize("columns", [60, 100])
def test_a_terminal_shows_counts_speech_time_left_and_price(columns: int) -> None:
    """One row a step, which moves; a narrow terminal breaks it between words."""
    status, shown = run_in_terminal([sys.executable, "-c", SHOW], columns=columns)
    words = " ".join(re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", " ", shown).split())
    assert status == 0
    assert "start Prefect" in words
    assert re.search(r"2 of 4 chunks, 0:30 of 1:15, 0:0\d left, (0:0\d )?\$0\.03", words)
    assert words.endswith("finished in 1:04")
    assert ("━" in shown) is (columns >= 80)


def test_the_time_left_follows_the_pace_of_the_last_minute() -> None:
    """The first job of a run goes alone, so the pace of the whole run would promise too much."""
    remaining = RemainingTime()
    remaining.add(0.0, 0.0)
    assert remaining.estimate(600) is None
    remaining.add(60.0, 10.0)
    assert remaining.estimate(70) == pytest.approx(360)
    for second in range(61, 200):
        remaining.add(float(second), 10.0 * (second - 59))
    assert remaining.estimate(10.0 * (199 - 59) + 300) == pytest.approx(30)
    assert WINDOW_SECONDS == 60


def test_nothing_is_left_once_all_is_spoken() -> None:
    """Speech that came out longer than planned leaves no negative time."""
    remaining = RemainingTime()
    remaining.add(0.0, 0.0)
    remaining.add(1.0, 80.0)
    assert remaining.estimate(70) == 0
