"""How a sample is sent to the worker: within each request, up to a size, or by a link into S3."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from support.audio_files import encoded
from support.voices import WORDS, recording

from narration import preflight
from narration.errors import VoiceError
from narration.settings import Settings
from narration.store import Store, open_store
from narration.voices import Voice, add_voice, recheck_voice
from narration.voices.transport import MAX_INLINE_BYTES, VoiceTransport, explain_oversize, is_linked


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A good recording, in a file too large to be sent with every chunk."""
    path = tmp_path / "large.wav"
    channels = np.tile(np.repeat(recording(), 2)[:, None], (1, 8))
    path.write_bytes(encoded(channels, "WAV", "PCM_24", rate=48_000))
    assert MAX_INLINE_BYTES < path.stat().st_size < 2 * MAX_INLINE_BYTES
    return path


def settings(**fields: object) -> Settings:
    return Settings.model_validate({"engine": "higgs", **fields})


def store_voice(store: Store, name: str, data: bytes) -> Voice:
    """A voice in the store that was not checked when it was stored."""
    sha256 = hashlib.sha256(data).hexdigest()
    voice = Voice(name=name, sha256=sha256, transcript=WORDS, seconds=6, suffix=".wav", source="large.wav")
    store.voices.put_sample(name, sha256, data, suffix=".wav", content_type="audio/wav")
    store.voices.replace(name, voice.to_json(), if_match=None)
    return voice


def test_a_sample_too_large_to_be_sent_is_refused_when_it_is_added(store: Store, large: Path) -> None:
    """A store in a folder has no links, so that each request carries the sample."""
    with pytest.raises(VoiceError, match=r"voice anna: the sample has \d\.\d MB, and 6 MB at most .*FLAC"):
        add_voice(store.voices, "anna", str(large), WORDS)
    assert store.voices.names() == []


def test_a_sample_too_large_to_be_sent_is_found_in_the_store(store: Store, large: Path) -> None:
    """A stored one is an error of its check, of `doctor`, and of the run."""
    voice = store_voice(store, "anna", large.read_bytes())
    (problem,) = recheck_voice(store.voices, "anna")
    assert (problem.severity, "6 MB at most" in problem.message) == ("error", True)
    check = preflight.check_default_voice(store, settings(voice="anna"))
    assert (check.ok, check.remedy) == (False, problem.remedy)
    with pytest.raises(VoiceError, match="6 MB at most"):
        VoiceTransport.of(store.voices, voice, settings())


def test_a_sample_of_any_size_is_sent_as_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """From S3 the worker downloads it itself."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    voices = open_store("s3://narrations/here").voices
    assert is_linked(voices, "voices/anna/sample.wav")
    voice = Voice(name="anna", sha256="a" * 64, transcript=WORDS, seconds=6, suffix=".wav", source="here")
    assert explain_oversize(voices, voice, MAX_INLINE_BYTES + 1) is None
