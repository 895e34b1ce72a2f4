"""The command line: what it loads, what it refuses, what it prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows import cli, terminal

SCRIPT = "# Title\n\nOne paragraph that says something.\n\nAnother paragraph that says more.\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "my script.md"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def test_planning_on_a_folder_loads_neither_prefect_nor_an_http_client(script: Path) -> None:
    """`narrate plan` answers before Prefect would have been imported."""
    code = (
        "import sys; from flows.cli import main; main(['plan', sys.argv[1]]); "
        "loaded = {'prefect', 'httpx', 'boto3', 'numpy', 'runpod', 'rich'} & set(sys.modules); "
        "assert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_id_is_made_of_the_files_name(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A person need not think of one."""
    assert cli.main(["plan", str(script)]) == 0
    assert "my-script-draft" in capsys.readouterr().out


def test_the_price_is_shown_with_its_inputs(
    script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An estimate says what it was made of, and whether the speed was measured."""
    monkeypatch.setenv("NARRATION_MODEL", "higgs/1")
    monkeypatch.setenv("RUNPOD_HIGGS_ENDPOINT_ID", "abc")
    monkeypatch.setenv("NARRATION_PRICE_PER_SECOND", "0.001")
    assert cli.main(["voice", "list"]) == 0
    assert cli.main(["plan", str(script)]) == 2  # no voice to plan with
    assert "voice" in capsys.readouterr().err
    monkeypatch.setenv("NARRATION_ENGINE", "draft")
    assert cli.main(["plan", str(script)]) == 0
    assert "draft voice" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["retake", "intro", "1", "--text", "nonsense"], "CHUNK=TEXT"),
        (["retake", "intro", "1", "--text", "1=   "], "CHUNK=TEXT"),
        (["plan", "my script.md", "--id", "-x"], "id"),
        (["plan", "nothing.md"], "nothing.md"),
        (["voice", "add", "me", "--sample", "nothing.wav", "--transcript", "Words."], "nothing.wav"),
        (["voice", "check", "me"], "me"),
    ],
)
@pytest.mark.usefixtures("script")
def test_what_cannot_be_used_is_named(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2 with the cause; argparse's own refusals have the same status."""
    try:
        status = cli.main(arguments)
    except SystemExit as refused:
        status = int(str(refused.code))
    assert status == 2
    assert told in capsys.readouterr().err


def test_a_setting_that_is_none_is_named_as_it_is_set(
    script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person reads the variable's name, not the field's."""
    monkeypatch.setenv("NARRATION_CONCURRENCY", "many")
    assert cli.main(["plan", str(script)]) == 2
    assert "NARRATION_CONCURRENCY" in capsys.readouterr().err


def test_a_key_in_the_environment_is_never_printed(
    script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in a plan nor in a refusal."""
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_SECRETSECRET")
    monkeypatch.setenv("RUNPOD_HIGGS_ENDPOINT_ID", "abc")
    cli.main(["plan", str(script)])
    cli.main(["doctor", "--engine", "higgs", "--store", str(script)])
    printed = capsys.readouterr()
    assert "SECRET" not in printed.out + printed.err


def test_tables_align_their_columns() -> None:
    """Numbers to the right, words to the left, no trailing spaces."""
    drawn = terminal.table([("a", "number"), ("longer", "1")], right=(1,))
    assert drawn == "a       number\nlonger       1"


def test_clocks_show_hours_only_where_there_are_any() -> None:
    """Five minutes and ten hours read at a glance."""
    assert (terminal.clock(354), terminal.clock(36_000)) == ("5:54", "10:00:00")
