"""What the command line writes: tables, amounts, and nothing that controls the terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.reports import unfinished_report
from support.terminals import run_in_terminal

from flows.cli import main, run_text, terminal
from narration.display_units import clock, dollars
from narration.errors import NarrationError

FORGERY = "\x1b[2J\x9b1m\u202e\r\n  narration all is well"
WIDE = "A paragraph with 你好 and 😀 in it, which goes on for longer than any narrow terminal is wide."
STYLE = re.compile(r"\x1b\[[\d;]*m")  # colours, bold, dim: all that a table may send to a terminal

needs_pty = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals of this kind")


def narrate(*words: str) -> list[str]:
    """The command `narrate` with these words."""
    return [sys.executable, "-m", "flows.cli", *words]


def test_tables_align_their_columns() -> None:
    """Numbers to the right, words to the left, no trailing spaces."""
    drawn = terminal.table([("a", "number"), ("longer", "1")], right=(1,))
    assert drawn == "a       number\nlonger       1"


def test_nothing_that_a_store_or_a_script_holds_controls_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Other words for a chunk and a voice's transcript neither move the cursor nor forge a line."""
    report = unfinished_report({2: FORGERY}).model_copy(update={"dropped": (FORGERY,), "notes": (FORGERY,)})
    drawn = terminal.table([("voice", "transcript"), ("me", FORGERY)])
    terminal.result(f"{drawn}\n{run_text.describe_run(report)}")
    terminal.say(f"narrate: \x1b]0;title\x07{drawn}")
    terminal.result_json({"text": FORGERY})
    printed = capsys.readouterr()
    lines = (printed.out + printed.err).splitlines()
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("  narration all") for line in lines)
    assert json.loads(printed.out.splitlines()[-1]) == {"text": FORGERY}


@pytest.mark.parametrize("words", [["run", f"{FORGERY}.md"], ["plan", f"--{FORGERY}"], [FORGERY]])
def test_a_files_name_forges_no_line_of_an_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An error is one line, whatever it quotes; a second one may point at the help."""
    assert main.main(words) == 2
    error, *others = capsys.readouterr().err.splitlines()
    assert error.startswith("narrate: ")
    assert error.isprintable()
    assert all("--help` shows what the command takes" in line for line in others)
    assert NarrationError(FORGERY, remedy=FORGERY).message.isprintable()
    assert str(NarrationError(FORGERY, remedy=FORGERY)).isprintable()


@needs_pty
@pytest.mark.parametrize("columns", [60, 120])
def test_a_plan_fits_the_terminal_it_is_shown_on(tmp_path: Path, columns: int) -> None:
    """No line is longer than the terminal is wide, and styles are all that is sent beside the words."""
    (tmp_path / "talk.md").write_text(f"# Title\n\n{WIDE} {WIDE}\n", encoding="utf-8")
    status, shown = run_in_terminal(narrate("plan", "talk.md"), columns=columns)
    lines = STYLE.sub("", shown).splitlines()
    assert status == 0
    assert all(len(line.rstrip()) <= columns for line in lines)
    assert all(line.isprintable() for line in lines)
    assert lines[0].split() == ["#", "chars", "pause", "text"]
    assert any(line.rstrip().endswith("…") for line in lines)
    assert "\x1b[1m" in shown


@needs_pty
def test_a_terminal_without_colours_gets_none(tmp_path: Path) -> None:
    """NO_COLOR is obeyed, in errors and in tables."""
    (tmp_path / "talk.md").write_text("One paragraph.\n", encoding="utf-8")
    _, coloured = run_in_terminal(narrate("plan", "nothing.md"))
    assert "\x1b[31m" in coloured
    for words in (["plan", "nothing.md"], ["plan", "talk.md"], ["doctor"]):
        _, shown = run_in_terminal(narrate(*words), NO_COLOR="1")
        assert not re.search(r"\x1b\[[\d;]*3\d", shown)


def test_an_encoding_that_lacks_a_character_stops_nothing(tmp_path: Path) -> None:
    """Windows' cp1252 shows `?` for it; JSON keeps it, escaped."""
    (tmp_path / "talk.md").write_text(f"# Title\n\n{WIDE}\n", encoding="utf-8")
    env = os.environ | {"PYTHONIOENCODING": "cp1252"}
    for words in (["plan", "talk.md"], ["plan", "talk.md", "--json"], ["--help"]):
        done = subprocess.run(narrate(*words), env=env, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        printed = done.stdout.decode("cp1252")
        if "--json" in words:
            assert json.loads(printed)["chunks"][-1]["text"] == WIDE
        elif "plan" in words:
            assert "A paragraph with ?? and ? in it" in printed


@pytest.mark.skipif(sys.platform == "win32", reason="Windows reports a closed pipe as another error")
def test_a_reader_that_ends_early_is_no_error(tmp_path: Path) -> None:
    """`narrate plan talk.md | head` prints its lines and no traceback."""
    (tmp_path / "talk.md").write_text("\n\n".join([WIDE * 3] * 2_000), encoding="utf-8")
    with subprocess.Popen(
        narrate("plan", "talk.md"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_chunks_that_failed_for_one_reason_share_its_line() -> None:
    """A full disk is said once, and not for each of a thousand chunks."""
    failures = dict.fromkeys([3, 5, 6, 7, 9], "no room left") | {4: "silent"}
    report = unfinished_report(failures)
    assert run_text.describe_run(report).splitlines()[1:] == [
        "  chunks 3, 5 to 7, 9: no room left",
        "  chunk 4: silent",
    ]
    many = report.model_copy(update={"failures": {index: f"reason {index}" for index in range(1, 31)}})
    assert run_text.describe_run(many).splitlines()[-1] == "  and 10 more reasons"


def test_clocks_show_hours_only_where_there_are_any() -> None:
    """Five minutes and ten hours read at a glance."""
    assert (clock(354), clock(36_000)) == ("5:54", "10:00:00")


def test_money_is_shown_in_whole_cents() -> None:
    """Without four zeros; less than a cent is not nothing."""
    assert [dollars(amount) for amount in (0.1149, 12.5, 0.0031, 0)] == [
        "$0.11",
        "$12.50",
        "under $0.01",
        "$0.00",
    ]


def test_a_draft_is_free_and_not_zero_dollars() -> None:
    """What costs nothing is said to be free; what a run paid is said in dollars."""
    report = unfinished_report({}).model_copy(update={"cost": 0.1149})
    assert run_text.describe_run(report).endswith("0 failed, $0.11")
    draft = report.model_copy(update={"engine": "draft", "cost": 0.0})
    assert "0 failed, free" in run_text.describe_run(draft)
