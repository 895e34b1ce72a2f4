"""Narrations by the command line, with the real endpoint client, worker, store and ffmpeg."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil  # type: ignore[import-untyped]  # ships no types
import pytest
import soundfile
from support.audio import RATE, silence, speak
from support.narrations import FOUR_CHUNKS, CliWorkspace

TRANSCRIPT = "This is what the sample says, word for word, and nothing else is to be heard in it."


def test_a_second_run_of_a_script_synthesizes_nothing(cli: CliWorkspace) -> None:
    """The first run publishes audio, captions and manifest; the second finds every clip in the store."""
    script = cli.write("four.md", FOUR_CHUNKS)
    first = cli.json("run", str(script))
    assert (first["chunks"], first["synthesized"], first["cached"], first["failed"]) == (4, 4, 0, 0)
    assert first["narration_id"] == "four-draft"
    for location in [first["manifest"], *first["files"].values()]:
        assert Path(location).stat().st_size > 0
    manifest = cli.manifest("four-draft")
    assert manifest["engine"] == "draft"
    assert manifest["title"] == "Four chunks"
    assert [chunk["index"] for chunk in manifest["chunks"]] == [1, 2, 3, 4]
    assert abs(manifest["loudness"]["integrated_lufs"] - -14) <= 0.5
    published = Path(first["manifest"]).read_bytes()
    second = cli.json("run", str(script))
    assert (second["synthesized"], second["cached"]) == (0, 4)
    assert Path(first["manifest"]).read_bytes() == published


def test_a_one_word_edit_costs_one_chunk(cli: CliWorkspace) -> None:
    """A clip is found by its text, wherever it stands in the script."""
    cli.json("run", str(cli.write("four.md", FOUR_CHUNKS)))
    edited = FOUR_CHUNKS.replace("something else", "something new").replace("# Four", "# Five\n\n# Four")
    again = cli.json("run", str(cli.write("four.md", edited)))
    assert again["chunks"] == 5
    assert again["synthesized"] == 2  # the new heading and the edited paragraph


def test_a_paragraph_that_occurs_twice_is_synthesized_once(cli: CliWorkspace) -> None:
    """Two chunks with the same text share one clip."""
    repeated = "The same words are said once more, and they are long enough to stand alone.\n\n"
    between = "And in between there is another paragraph, which is just as long as they are.\n\n"
    answer = cli.json("run", str(cli.write("twice.txt", repeated + between + repeated)))
    assert answer["chunks"] == 3
    assert answer["synthesized"] == 3
    assert len(list((cli.store / "clips").rglob("*.flac"))) == 2


def test_a_run_after_a_killed_one_synthesizes_only_the_missing_clips(cli: CliWorkspace) -> None:
    """SIGKILL loses no stored clip."""
    paragraphs = [f"This is paragraph number {n}, and it says its own number." for n in range(1, 25)]
    script = cli.write("long.txt", "\n\n".join(paragraphs))
    process = cli.start("run", str(script), NARRATION_CONCURRENCY="2")
    deadline = time.monotonic() + 120
    while len(list((cli.store / "clips").rglob("*.json"))) < 8 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    stored = len(list((cli.store / "clips").rglob("*.json")))
    assert 8 <= stored < 24
    again = cli.json("run", str(script))
    assert again["failed"] == 0
    assert again["cached"] >= stored
    assert again["synthesized"] <= 24 - stored


@pytest.mark.timeout(600)  # two starts of everything, on a machine that is busy
@pytest.mark.skipif(sys.platform == "win32", reason="process groups and signals are Unix's")
def test_a_stopped_run_leaves_no_process_behind(tmp_path: Path) -> None:
    """Without settings, a run starts its own Prefect server and worker, which end with it in any case."""
    paragraphs = [f"This is paragraph number {n}, and it says its own number." for n in range(1, 25)]
    (tmp_path / "long.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
    clips = tmp_path / "narrations-store" / "clips"
    errors = tmp_path / "errors.txt"

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "flows.cli", "run", "long.txt", "--json"]
        env = os.environ | {"NARRATION_CONCURRENCY": "2"}
        with errors.open("wb") as stderr:
            return subprocess.Popen(
                command, env=env, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True
            )

    def stored() -> int:
        return len(list(clips.rglob("*.json")))

    for stop, number in ((os.kill, signal.SIGKILL), (os.killpg, signal.SIGINT)):
        before = stored()
        with start() as run:
            until = time.monotonic() + 240
            while stored() == before and run.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            started = psutil.Process(run.pid).children(recursive=True)
            assert len(started) >= 3  # a server, an endpoint, a worker
            stop(run.pid, number)  # Ctrl-C in a terminal reaches every process of the group
        assert run.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
        assert not psutil.wait_procs(started, timeout=60)[1]
        assert before < stored() < 24
    lines = errors.read_text(encoding="utf-8").splitlines()
    assert lines[-1].startswith("narrate: stopped;")
    assert not [line for line in lines if line.startswith("Traceback") or " | ERROR" in line]


TERMINATED = """
import os, signal
from flows.cli.flow_run import run_flow

async def run():
    from prefect import flow

    @flow
    async def terminated():
        os.kill(os.getpid(), signal.SIGTERM)

    return await terminated()

try:
    run_flow(run)
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGTERM")
def test_a_run_terminated_within_its_flow_still_prints_its_message(cli: CliWorkspace) -> None:
    """At the end of such a flow Prefect sends SIGTERM again, to the handler that was set before."""
    command = [sys.executable, "-c", TERMINATED]
    done = subprocess.run(command, env=cli.env, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr


def test_plan_prints_the_chunks_and_writes_nothing(cli: CliWorkspace) -> None:
    """Planning reads only the store, not the endpoint, and numbers chunks from 1."""
    script = cli.write("four.md", FOUR_CHUNKS)
    plan = cli.json(
        "plan", str(script), RUNPOD_HIGGS_ENDPOINT_ID="nowhere", NARRATION_RUNPOD_URL="http://127.0.0.1:9/v2"
    )
    assert [chunk["index"] for chunk in plan["chunks"]] == [1, 2, 3, 4]
    assert plan["totals"]["cached"] == 0
    assert plan["totals"]["speech_seconds"] > 5
    assert not cli.store.exists()


def test_a_damaged_clip_is_made_again_and_never_published(cli: CliWorkspace) -> None:
    """A clip whose bytes differ from its sidecar counts as missing."""
    script = cli.write("four.md", FOUR_CHUNKS)
    first = cli.json("run", str(script))
    clips = sorted((cli.store / "clips").rglob("*.flac"))
    flipped = bytearray(clips[0].read_bytes())
    flipped[len(flipped) // 2] ^= 0xFF
    clips[0].write_bytes(flipped)
    clips[1].write_bytes(clips[1].read_bytes()[:100])
    script.write_text(FOUR_CHUNKS + "\nOne more paragraph makes mastering necessary.\n", encoding="utf-8")
    again = cli.json("run", str(script))
    assert again["failed"] == 0
    assert again["synthesized"] == 3
    assert again["files"]["mp3"] != first["files"]["mp3"]


BAD = [
    (["run", "missing.md"], "missing.md"),
    (["run", "empty.md"], "empty.md"),
    (["run", "binary.md"], "binary.md"),
    (["run", "silent.md"], "silent.md"),
    (["run", "four.md", "--voice", "nobody"], "nobody"),
    (["run", "four.md", "--id", "Not A Slug"], "Not A Slug"),
    (["run", "four.md", "--store", "ftp://place"], "ftp"),
    (["run", "four.md", "--store", "four.md"], "four.md"),
]


@pytest.mark.parametrize(
    ("arguments", "named"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else None
)
def test_bad_input_is_refused_by_name_before_anything_is_written(
    cli: CliWorkspace, arguments: list[str], named: str
) -> None:
    """Exit status 2 and a message with the cause; there is no store afterwards."""
    cli.write("four.md", FOUR_CHUNKS)
    cli.write("empty.md", " \n\n ")
    cli.write("silent.md", "---\n\n***\n")
    (cli.folder / "binary.md").write_bytes(b"Hello \xff\xfe\x00 there")
    done = cli.narrate(*arguments)
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert "Traceback" not in done.stderr
    assert not cli.store.exists()


def test_an_unreachable_endpoint_is_reported_in_seconds(cli: CliWorkspace) -> None:
    """No job is submitted, and the message names the address."""
    script = cli.write("four.md", FOUR_CHUNKS)
    began = time.monotonic()
    done = cli.narrate("run", str(script), NARRATION_RUNPOD_URL="http://127.0.0.1:9/v2")
    assert done.returncode == 2, done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert time.monotonic() - began < 60


def test_a_price_above_the_limit_is_refused_before_anything_is_paid(cli: CliWorkspace) -> None:
    """--max-cost refuses a run whose expected price is higher, naming both."""
    script = cli.write("four.md", FOUR_CHUNKS)
    sample = cli.folder / "sample.wav"
    soundfile.write(sample, np.concatenate([speak(TRANSCRIPT), silence(0.3)]), RATE)
    added = cli.narrate("voice", "add", "default", "--sample", str(sample), "--transcript", TRANSCRIPT)
    assert added.returncode == 0, added.stderr
    higgs = {"NARRATION_ENGINE": "higgs", "NARRATION_MODEL": "higgs/1"}
    done = cli.narrate("run", str(script), "--max-cost", "0.0001", **higgs)
    assert done.returncode == 2, done.stderr
    assert "more than the limit of $0.0001" in done.stderr
    assert not list(cli.store.glob("jobs/*/*"))


def test_json_is_the_only_thing_on_stdout(cli: CliWorkspace) -> None:
    """Programs can parse it as it is."""
    done = cli.narrate("run", str(cli.write("four.md", FOUR_CHUNKS)), "--json")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) >= {
        "narration_id",
        "manifest",
        "files",
        "duration",
        "chunks",
        "synthesized",
        "cached",
        "failed",
        "engine",
    }
