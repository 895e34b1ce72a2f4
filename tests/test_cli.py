"""The command line: what it loads, what it refuses, what it prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.audio import RATE, silence, speak

from flows.cli import flow_run, main, terminal
from narration.errors import ChunksFailed, MasteringError, NarrationError
from narration.synthesis.report import RunReport

SAID = "This is what the sample says, word for word, and nothing else is to be heard in it."
SCRIPT = "# Title\n\nOne paragraph that says something.\n\nAnother paragraph that says more.\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "my script.md"
    path.write_text(SCRIPT, encoding="utf-8")
    return path


def test_planning_on_a_folder_loads_neither_prefect_nor_an_http_client(script: Path) -> None:
    """`narrate plan` answers before Prefect would have been imported."""
    code = (
        "import sys; from flows.cli.main import main; main(['plan', sys.argv[1]]); "
        "loaded = {'prefect', 'httpx', 'boto3', 'numpy', 'runpod', 'rich'} & set(sys.modules); "
        "assert not loaded, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_id_is_made_of_the_files_name(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A person need not think of one."""
    assert main.main(["plan", str(script)]) == 0
    assert "my-script-draft" in capsys.readouterr().out


def test_the_price_is_shown_with_its_inputs(
    script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An estimate says what it was made of, and whether the speed was measured."""
    monkeypatch.setenv("NARRATION_MODEL", "higgs/1")
    monkeypatch.setenv("RUNPOD_HIGGS_ENDPOINT_ID", "abc")
    monkeypatch.setenv("NARRATION_PRICE_PER_SECOND", "0.001")
    assert main.main(["plan", str(script)]) == 2  # no voice to plan with
    assert "voice" in capsys.readouterr().err
    soundfile.write("sample.wav", np.concatenate([speak(SAID), silence(0.3)]), RATE)
    assert main.main(["voice", "add", "default", "--sample", "sample.wav", "--transcript", SAID]) == 0
    assert main.main(["plan", str(script)]) == 0
    told = capsys.readouterr().out
    assert "at 10 seconds of speech per GPU second (assumed)" in told
    assert "at $0.001 a GPU second" in told
    monkeypatch.setenv("NARRATION_SPEED", "25")
    assert main.main(["plan", str(script)]) == 0
    assert "at 25 seconds of speech per GPU second (measured)" in capsys.readouterr().out
    assert main.main(["plan", str(script), "--json"]) == 0
    totals = json.loads(capsys.readouterr().out)["totals"]
    assert totals["gpu_seconds"] == pytest.approx(totals["speech_seconds"] / 25, abs=0.01)
    assert totals["price"] == pytest.approx(totals["gpu_seconds"] * 0.001, abs=1e-5)


def test_a_plan_has_the_fields_that_programs_rely_on(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Chunks are numbered from 1; a draft is free and said to be one."""
    assert main.main(["plan", str(script)]) == 0
    assert "draft voice" in capsys.readouterr().out
    assert main.main(["plan", str(script), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"narration_id", "model", "voice", "chunks", "totals"}
    assert [chunk["index"] for chunk in told["chunks"]] == [1, 2]
    fields = {"index", "text", "characters", "digest", "cached", "boundary"}
    assert all(set(chunk) == fields for chunk in told["chunks"])
    figures = {"chunks", "cached", "characters", "speech_seconds", "gpu_seconds", "price"}
    assert set(told["totals"]) >= figures
    assert (told["totals"]["chunks"], told["totals"]["price"]) == (2, 0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["retake", "intro", "1", "--text", "nonsense"], "CHUNK=TEXT"),
        (["retake", "intro", "1", "--text", "1=   "], "CHUNK=TEXT"),
        (["retake", "intro", "1", "--text", "²=Other words."], "CHUNK=TEXT"),  # a digit, and no number
        (["plan", "my script.md", "--id", "-x"], "id"),
        (["plan", "my script.md", "--id", ""], "narration id"),
        (["run", "my script.md", "--max-cost", "0"], "--max-cost: '0'"),
        (["run", "my script.md", "--max-cost", "nan"], "--max-cost: 'nan'"),
        (["run", "my script.md", "--max-cost", "cheap"], "--max-cost: 'cheap'"),
        (["retake", "intro", "0"], "'0' is not a number from 1"),
        (["retake", "intro", "1", "--take", "-1"], "'-1' is not a number from 1"),
        (["retake", "intro", "1", "--seed", "-1"], "'-1' is not a whole number from 0"),
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
        status = main.main(arguments)
    except SystemExit as refused:
        status = int(str(refused.code))
    assert status == 2
    assert told in capsys.readouterr().err


def test_a_setting_that_is_none_is_named_as_it_is_set(
    script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person reads the variable's name, not the field's."""
    monkeypatch.setenv("NARRATION_CONCURRENCY", "many")
    assert main.main(["plan", str(script)]) == 2
    assert "NARRATION_CONCURRENCY" in capsys.readouterr().err


@pytest.mark.parametrize("store", ["here", "my script.md"])
def test_doctor_names_everything_that_is_wrong_at_once(
    script: Path, store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line for each thing a run needs, with what to do about those that are wrong; the same in JSON."""
    monkeypatch.setenv("NARRATION_FFMPEG", "/nowhere/ffmpeg")
    asked = ["doctor", "--engine", "higgs", "--store", store]
    assert main.main(asked) == 2
    lines = capsys.readouterr().out.splitlines()
    found = {line.split()[1]: line for line in lines}
    assert "RUNPOD_HIGGS_ENDPOINT_ID" in found["endpoint"]
    assert "None" not in found["endpoint"]
    assert "NARRATION_MODEL" in found["model"]
    assert "NARRATION_FFMPEG" in found["ffmpeg"]
    if store == script.name:
        assert found["store"].startswith("wrong")
    else:
        assert found["store"].startswith("ok")
        assert "narrate voice add default" in found["voice"]
    assert main.main([*asked, "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [finding["name"] for finding in told["findings"]] == list(found)


def test_doctor_is_content_with_a_laptop_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing configured is nothing wrong: drafts are spoken here."""
    assert main.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", name] for name in ("store", "ffmpeg", "endpoint", "model", "voice")
    ]


def test_a_key_in_the_environment_is_never_printed(
    script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in a plan nor in a refusal."""
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_SECRETSECRET")
    monkeypatch.setenv("RUNPOD_HIGGS_ENDPOINT_ID", "abc")
    main.main(["plan", str(script)])
    main.main(["doctor", "--engine", "higgs", "--store", str(script)])
    printed = capsys.readouterr()
    assert "SECRET" not in printed.out + printed.err


@pytest.mark.parametrize("grouped", [False, True])
def test_being_terminated_is_being_stopped(grouped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM, which Prefect raises wherever the run is, ends like Ctrl-C and not in a traceback."""
    from prefect.exceptions import TerminationSignal

    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    signal = TerminationSignal(signal=15)

    async def flow() -> dict[str, Any]:
        raise BaseExceptionGroup("tasks", [signal]) if grouped else signal

    with pytest.raises(KeyboardInterrupt):
        flow_run.run_flow(flow)


def test_tables_align_their_columns() -> None:
    """Numbers to the right, words to the left, no trailing spaces."""
    drawn = terminal.table([("a", "number"), ("longer", "1")], right=(1,))
    assert drawn == "a       number\nlonger       1"


FORGERY = "\x1b[2J\x9b1m\u202e\r\n  narration all is well"


def test_nothing_that_a_store_or_a_script_holds_commands_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Other words for a chunk and a voice's transcript neither move the cursor nor forge a line."""
    report = unfinished({2: FORGERY}).model_copy(update={"dropped": (FORGERY,), "notes": (FORGERY,)})
    drawn = terminal.table([("voice", "transcript"), ("me", FORGERY)])
    terminal.result(f"{drawn}\n{terminal.describe_run(report)}")
    terminal.say(f"narrate: \x1b]0;title\x07{drawn}")
    terminal.result_json({"text": FORGERY})
    printed = capsys.readouterr()
    lines = (printed.out + printed.err).splitlines()
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("  narration all") for line in lines)
    assert json.loads(printed.out.splitlines()[-1]) == {"text": FORGERY}


def test_a_files_name_forges_no_line_of_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """An error is one line, whatever it quotes."""
    assert main.main(["run", f"{FORGERY}.md"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert NarrationError(FORGERY, remedy=FORGERY).message.isprintable()
    assert str(NarrationError(FORGERY, remedy=FORGERY)).isprintable()


def unfinished(failures: dict[int, str]) -> RunReport:
    """The report of a run of nine chunks, some of which failed."""
    return RunReport(
        narration_id="long",
        manifest=None,
        files={},
        duration=None,
        chunks=9,
        synthesized=9 - len(failures),
        cached=0,
        failed=len(failures),
        failures=failures,
        engine="higgs",
    )


def test_failed_chunks_are_status_1_with_the_way_on(
    script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed after the first clip is not bad input: the report is printed, and what to do next."""
    monkeypatch.setenv("NARRATION_ENGINE", "draft")
    monkeypatch.setenv("NARRATION_RUNPOD_URL", "http://127.0.0.1:9/v2")
    report = unfinished({2: "silent"}).model_dump(mode="json")

    def fail(_: object) -> None:
        raise ChunksFailed("1 of 9", failures={2: "silent"}, report=report, remedy="start it again")

    monkeypatch.setattr(main, "run_flow", fail)
    assert main.main(["run", str(script), "--json"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["failures"] == {"2": "silent"}
    assert printed.err == "narrate: start it again\n"


@pytest.mark.parametrize(("stored", "status"), [(True, 1), (False, 2)])
def test_an_error_is_bad_input_only_while_nothing_was_stored(
    script: Path, stored: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mastering that fails after the clips were made is status 1: the same command goes on from there."""
    monkeypatch.setenv("NARRATION_ENGINE", "draft")
    monkeypatch.setenv("NARRATION_RUNPOD_URL", "http://127.0.0.1:9/v2")

    def fail(_: object) -> None:
        error = MasteringError("ffmpeg ended")
        error.clips_stored = stored
        raise error

    monkeypatch.setattr(main, "run_flow", fail)
    assert main.main(["run", str(script)]) == status


def test_chunks_that_failed_for_one_reason_share_its_line() -> None:
    """A full disk is said once, and not for each of a thousand chunks."""
    failures = dict.fromkeys([3, 5, 6, 7, 9], "no room left") | {4: "silent"}
    report = unfinished(failures)
    assert terminal.describe_run(report).splitlines()[1:] == [
        "  chunks 3, 5 to 7, 9: no room left",
        "  chunk 4: silent",
    ]
    many = report.model_copy(update={"failures": {index: f"reason {index}" for index in range(1, 31)}})
    assert terminal.describe_run(many).splitlines()[-1] == "  and 10 more reasons"


def test_clocks_show_hours_only_where_there_are_any() -> None:
    """Five minutes and ten hours read at a glance."""
    assert (terminal.clock(354), terminal.clock(36_000)) == ("5:54", "10:00:00")
