"""Narrations by a speech server: command line, Prefect, local endpoint, the worker's loop, the server."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.audio import speak
from support.narrations import CliWorkspace
from support.speech_server import KEY, MODEL, VOICE, SpeechServer

from narration.audio.files import encode_flac

TRANSCRIPT = "This is what the sample says, in a voice of its own."
SCRIPT = """# Another server

The first paragraph is spoken by a server that this project did not write.

The second one is spoken by the same server, beside the first.
"""


@pytest.fixture
def workspace(cli: CliWorkspace, speech_server: SpeechServer) -> CliWorkspace:
    """A folder without an endpoint, whose worker of its own speaks through the server."""
    env = {name: value for name, value in cli.env.items() if not name.startswith(("RUNPOD_", "NARRATION_"))}
    return CliWorkspace(
        cli.folder,
        env
        | {
            "NARRATION_STORE": str(cli.store),
            "WORKER_ENGINE": "openai",
            "WORKER_SPEECH_URL": speech_server.url,
            "WORKER_SPEECH_KEY": KEY,
            "WORKER_SPEECH_MODEL": MODEL,
            "WORKER_SPEECH_REVISION": "test-1",
        },
    )


def test_a_script_is_narrated_in_a_servers_own_voice(
    workspace: CliWorkspace, speech_server: SpeechServer
) -> None:
    """No voice sample is needed, the manifest names model and no voice, and a second run sends nothing."""
    workspace.env["WORKER_SPEECH_VOICE"] = VOICE
    script = str(workspace.write("talk.md", SCRIPT))
    report = workspace.json("run", script)
    assert (report["narration_id"], report["failed"], report["chunks"]) == ("talk", 0, 3)
    manifest = workspace.manifest("talk")
    assert manifest["model"] == f"openai/{MODEL}@test-1/openai-wav/voice-{VOICE}/engine-1"
    assert manifest["voice"] is None
    assert {chunk["engine"]["server_model"] for chunk in manifest["chunks"]} == {MODEL}
    assert Path(report["files"]["mp3"]).stat().st_size > 0
    assert {request["voice"] for request in speech_server.requests()} == {VOICE}
    speech_server.forget()
    again = workspace.json("run", script)
    assert (again["synthesized"], again["cached"]) == (0, 3)
    assert speech_server.requests() == []
    stored = [path for path in workspace.store.rglob("*") if path.is_file()]
    assert not [path for path in stored if KEY.encode() in path.read_bytes()]


def test_a_script_is_narrated_in_a_voice_that_the_server_clones(
    workspace: CliWorkspace, speech_server: SpeechServer
) -> None:
    """The voice of the store goes with every chunk, its transcript beside it."""
    workspace.env["WORKER_SPEECH_API"] = "vllm-omni"
    sample = workspace.folder / "sample.flac"
    sample.write_bytes(encode_flac(speak(TRANSCRIPT), 24_000))
    added = workspace.narrate("voice", "add", "default", "--sample", str(sample), "--transcript", TRANSCRIPT)
    assert added.returncode == 0, added.stderr
    report = workspace.json("run", str(workspace.write("talk.md", SCRIPT)))
    assert (report["narration_id"], report["failed"], report["engine"]) == ("talk", 0, "higgs")
    manifest = workspace.manifest("talk")
    assert manifest["model"] == f"openai/{MODEL}@test-1/vllm-omni-wav/cloned/engine-1"
    assert manifest["voice"]["transcript"] == TRANSCRIPT
    assert {request["ref_text"] for request in speech_server.requests()} == {TRANSCRIPT}
    seeds = {chunk["seed"] for chunk in manifest["chunks"]}
    assert seeds == {request["seed"] for request in speech_server.requests()}


def test_a_refusal_of_the_server_stops_the_run_with_its_remedy(
    workspace: CliWorkspace, speech_server: SpeechServer
) -> None:
    """A wrong key costs one request, since the first job of a run goes alone, and is not repeated."""
    workspace.env["WORKER_SPEECH_VOICE"] = VOICE
    done = workspace.narrate("run", str(workspace.write("talk.md", SCRIPT)), WORKER_SPEECH_KEY="sk-wrong")
    assert done.returncode == 2
    assert "the speech server answered 401: set WORKER_SPEECH_KEY to its key" in done.stderr
    assert "WORKER_SPEECH_*" in done.stderr
    assert "sk-wrong" not in done.stderr + done.stdout
    assert speech_server.requests() == []


def test_a_voice_beside_a_models_own_is_refused(workspace: CliWorkspace) -> None:
    """The narration would not be in it."""
    script = str(workspace.write("talk.md", SCRIPT))
    done = workspace.narrate("plan", script, "--voice", "anna", WORKER_SPEECH_VOICE=VOICE)
    assert done.returncode == 2
    assert "has a voice of its own, not anna" in done.stderr
