"""Settings of a speech server: what must be set, what is refused, and the model id that they make."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gpu_worker.__main__ import main
from narration.model_ids import has_own_voice, speech_model_id

KOKORO = {
    "WORKER_ENGINE": "openai",
    "WORKER_SPEECH_URL": "http://127.0.0.1:8880/v1",
    "WORKER_SPEECH_MODEL": "kokoro",
    "WORKER_SPEECH_REVISION": "kokoro-fastapi-0.3.0",
    "WORKER_SPEECH_VOICE": "af_sky+af_bella",
}
HIGGS_V3 = KOKORO | {
    "WORKER_SPEECH_MODEL": "bosonai/higgs-tts-3-4b",
    "WORKER_SPEECH_REVISION": "sglang-omni-0.5.2-7556c17",
    "WORKER_SPEECH_API": "sglang-omni",
    "WORKER_SPEECH_VOICE": "",
}


def model_id(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """What `python -m gpu_worker model-id` prints, on stdout or stderr."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    capsys.readouterr()
    try:
        main(["model-id"])
    except SystemExit as exit_:
        return str(exit_)
    printed = capsys.readouterr()
    return (printed.out or printed.err).strip()


@pytest.mark.parametrize(
    ("variables", "printed"),
    [
        (KOKORO, "openai/kokoro@kokoro-fastapi-0.3.0/openai-wav/voice-af_sky+af_bella/engine-1"),
        (
            HIGGS_V3,
            "openai/bosonai/higgs-tts-3-4b@sglang-omni-0.5.2-7556c17/sglang-omni-wav/cloned/engine-1",
        ),
    ],
)
def test_the_model_id_says_all_that_decides_the_sound(
    variables: dict[str, str],
    printed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Model, revision, server and audio format, voice or cloned, and the engine's revision."""
    assert model_id(variables, monkeypatch, capsys) == printed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKER_SPEECH_MODEL", "tts-1"),
        ("WORKER_SPEECH_REVISION", "other"),
        ("WORKER_SPEECH_VOICE", "af_heart"),
        ("WORKER_SPEECH_API", "vllm-omni"),
        ("WORKER_SPEECH_FORMAT", "mp3"),
    ],
)
def test_each_setting_that_changes_the_sound_changes_the_model_id(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clips of different servers, models and voices are never taken for one another."""
    assert model_id(KOKORO, monkeypatch, capsys) != model_id({name: value}, monkeypatch, capsys)


@pytest.mark.parametrize(
    "name", ["WORKER_SPEECH_URL", "WORKER_SPEECH_MODEL", "WORKER_SPEECH_REVISION", "WORKER_SPEECH_VOICE"]
)
def test_what_is_not_set_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No server is asked for its model, and none has a default voice here."""
    assert f"{name} is not set" in model_id(KOKORO | {name: ""}, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("WORKER_SPEECH_URL", "127.0.0.1:8880/v1", "http"),
        ("WORKER_SPEECH_URL", "ftp://127.0.0.1/v1", "http"),
        ("WORKER_SPEECH_URL", "http://127.0.0.1:99999/v1", "URL: Value error"),
        ("WORKER_SPEECH_URL", "https://me:hidden@host.example/v1", "WORKER_SPEECH_KEY"),
        ("WORKER_SPEECH_URL", "https://host.example/v1?key=hidden", "WORKER_SPEECH_KEY"),
        ("WORKER_SPEECH_MODEL", "a model", "pattern"),
        ("WORKER_SPEECH_REVISION", "v1/2", "pattern"),
        ("WORKER_SPEECH_VOICE", "a/b", "pattern"),
        ("WORKER_SPEECH_API", "vllm", "vllm-omni"),
        ("WORKER_SPEECH_FORMAT", "aac", "flac"),
        ("WORKER_SPEECH_TIMEOUT", "0", "greater than 0"),
    ],
)
def test_a_bad_setting_is_named_without_its_value(
    name: str,
    value: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An address may hold a password."""
    printed = model_id(KOKORO | {name: value}, monkeypatch, capsys)
    assert printed.startswith(f"{name}: ")
    assert reason in printed
    assert "hidden" not in printed


@pytest.mark.parametrize(
    ("model", "own"),
    [
        (speech_model_id("kokoro", revision="1", server="openai-wav", voice="bob", engine_revision=1), True),
        (
            speech_model_id(
                "me/voice-2", revision="1", server="vllm-omni-wav", voice=None, engine_revision=1
            ),
            False,
        ),
        ("higgs-audio-v2/me/voice-1@0+me/codec@0/engine-1", False),
        ("draft/espeak-ng-1.52/engine-2", False),
        ("", False),
    ],
)
def test_a_model_id_says_whether_its_voice_is_its_own(model: str, own: bool) -> None:
    """Only a speech server's with a voice of its own; a model may be named like one."""
    assert has_own_voice(model) is own


def test_the_engine_of_speech_servers_needs_no_torch() -> None:
    """It runs on any machine: torch, transformers and runpod are not imported with it."""
    code = (
        "import sys; from gpu_worker.open_engine import open_engine; from gpu_worker.settings import *;"
        "open_engine(read_settings()); print({'torch', 'transformers', 'runpod'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=KOKORO, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "set()\n"
