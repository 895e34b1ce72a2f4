"""The command line: what it loads, what it refuses, its help and its exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cyclopts import App
from support.audio import RATE, silence, speak
from support.reports import unfinished_report

from flows.cli import main, reported_run
from narration.errors import ChunksFailed, MasteringError

TRANSCRIPT = "This is what the sample says, word for word, and nothing else is to be heard in it."
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
    soundfile.write("sample.wav", np.concatenate([speak(TRANSCRIPT), silence(0.3)]), RATE)
    assert main.main(["voice", "add", "default", "--sample", "sample.wav", "--transcript", TRANSCRIPT]) == 0
    assert main.main(["plan", str(script)]) == 0
    printed = capsys.readouterr().out
    assert "at 10 seconds of speech per GPU second (assumed)" in printed
    assert "at $0.001 a GPU second" in printed
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
    plan = json.loads(capsys.readouterr().out)
    assert set(plan) == {"narration_id", "model", "voice", "chunks", "totals"}
    assert [chunk["index"] for chunk in plan["chunks"]] == [1, 2]
    fields = {"index", "text", "characters", "digest", "cached", "boundary"}
    assert all(set(chunk) == fields for chunk in plan["chunks"])
    figures = {"chunks", "cached", "characters", "speech_seconds", "gpu_seconds", "price"}
    assert set(plan["totals"]) >= figures
    assert (plan["totals"]["chunks"], plan["totals"]["price"]) == (2, 0)


def test_a_summary_leaves_the_chunks_out(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The totals alone, for a person and in JSON."""
    assert main.main(["plan", str(script), "--summary"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("my-script-draft: 2 chunks, 0 cached")
    assert [line.split()[0] for line in lines[1:]] == ["speech", "price"]
    assert main.main(["plan", str(script), "--summary", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"narration_id", "model", "voice", "totals"}


@pytest.mark.parametrize(
    ("arguments", "named"),
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
        (["plan", "my script.md", "--no-json"], "--no-json"),
        (["plan", "my script.md", "other.md"], "other.md"),
        (["plan"], "SCRIPT"),
        (["plam"], '"plan"'),
    ],
)
@pytest.mark.usefixtures("script")
def test_what_cannot_be_used_is_named(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2 with the cause; words that the parser refuses have the same status."""
    assert main.main(arguments) == 2
    printed = capsys.readouterr()
    assert named in printed.err
    assert not printed.out


def test_of_an_option_given_twice_the_last_holds(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An alias in a shell can be overruled; `--text` alone adds up."""
    assert main.main(["plan", str(script), "--id", "one", "--json", "--id", "two"]) == 0
    assert json.loads(capsys.readouterr().out)["narration_id"] == "two-draft"
    assert main.main(["retake", "intro", "1", "--text", "1=Words.", "--text", "nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_an_invalid_setting_is_named_by_its_variable(
    script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The person reads the variable's name, not the field's."""
    monkeypatch.setenv("NARRATION_CONCURRENCY", "many")
    assert main.main(["plan", str(script)]) == 2
    assert "NARRATION_CONCURRENCY" in capsys.readouterr().err


def test_a_missing_endpoint_names_the_option_for_drafts(capsys: pytest.CaptureFixture[str]) -> None:
    """At a terminal the draft voice is asked for by `--engine draft`."""
    assert main.main(["doctor", "--engine", "higgs"]) == 2
    assert "`--engine draft`" in capsys.readouterr().out


def commands_of(app: App, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, groups of commands included."""
    yield words
    for name in app:
        if not name.startswith("-"):
            yield from commands_of(app[name], (*words, name))


@pytest.mark.parametrize("words", list(commands_of(main.app)), ids=lambda words: " ".join(words) or "narrate")
def test_every_command_has_a_help_with_examples(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """On stdout, with status 0; the examples are whole commands."""
    assert main.main([*words, "--help"]) == 0
    printed = capsys.readouterr()
    assert f"Usage: {' '.join(['narrate', *words])}" in printed.out
    examples = printed.out.split("Examples:\n")[1].splitlines()
    assert examples
    assert all(line.startswith("  narrate ") for line in examples)
    assert not printed.err


@pytest.mark.parametrize("words", [[], ["voice"]])
def test_a_command_that_lacks_its_command_shows_its_help(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`narrate` alone is a question, and ends as a help does."""
    assert main.main(words) == 0
    bare = capsys.readouterr()
    assert main.main([*words, "--help"]) == 0
    assert bare == capsys.readouterr()


def test_the_version_is_the_installed_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints one line."""
    from importlib.metadata import version

    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"narrate {version('narration-pipeline')}\n"


@pytest.mark.parametrize("store", ["here", "my script.md"])
def test_doctor_names_everything_that_is_wrong_at_once(
    script: Path, store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line for each thing a run needs, with what to do about those that are wrong; the same in JSON."""
    monkeypatch.setenv("NARRATION_FFMPEG", "/nowhere/ffmpeg")
    words = ["doctor", "--engine", "higgs", "--store", store]
    assert main.main(words) == 2
    lines = capsys.readouterr().out.splitlines()
    findings = {line.split()[1]: line for line in lines}
    assert "RUNPOD_HIGGS_ENDPOINT_ID" in findings["endpoint"]
    assert "None" not in findings["endpoint"]
    assert "NARRATION_MODEL" in findings["model"]
    assert "NARRATION_FFMPEG" in findings["ffmpeg"]
    if store == script.name:
        assert findings["store"].startswith("wrong")
    else:
        assert findings["store"].startswith("ok")
        assert "narrate voice add default" in findings["voice"]
    assert main.main([*words, "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert [finding["name"] for finding in report["findings"]] == list(findings)


def test_doctor_finds_nothing_wrong_where_nothing_is_configured(capsys: pytest.CaptureFixture[str]) -> None:
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


def test_failed_chunks_give_status_1_and_what_to_do_next(
    script: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed after the first clip is not bad input: the report is printed, and what to do next."""
    monkeypatch.setenv("NARRATION_ENGINE", "draft")
    monkeypatch.setenv("NARRATION_RUNPOD_URL", "http://127.0.0.1:9/v2")
    report = unfinished_report({2: "silent"}).model_dump(mode="json")

    def fail(*_: object, **__: object) -> None:
        raise ChunksFailed("1 of 9", failures={2: "silent"}, report=report, remedy="start it again")

    monkeypatch.setattr(reported_run, "run_flow", fail)
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

    def fail(*_: object, **__: object) -> None:
        error = MasteringError("ffmpeg ended")
        error.clips_stored = stored
        raise error

    monkeypatch.setattr(reported_run, "run_flow", fail)
    assert main.main(["run", str(script)]) == status
