"""The voice that settings choose: one by name, `default` from VOICE_SAMPLE_URL, or the draft engine's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.audio_files import encoded
from support.voices import WORDS, SampleServer, recording, serving_a_sample

from narration.errors import VoiceError
from narration.settings import Settings
from narration.store import VoiceCollection, open_store
from narration.voices import add_voice, choose_voice, find_voice, import_default_voice


@pytest.fixture
def voices(tmp_path: Path) -> VoiceCollection:
    return open_store(str(tmp_path / "store")).voices


@pytest.fixture
def server() -> Iterator[SampleServer]:
    with serving_a_sample() as server:
        yield server


def settings(**fields: object) -> Settings:
    return Settings.model_validate({"engine": "higgs", "allow_private_urls": True, **fields})


def test_the_default_voice_is_added_on_first_use(voices: VoiceCollection, server: SampleServer) -> None:
    """`VOICE_SAMPLE_URL` is downloaded once; later the stored voice is used, also under a new signature."""
    fields = {"voice_sample_transcript": WORDS}
    first = choose_voice(voices, settings(voice_sample_url=f"{server.url}?sig=1", **fields))
    again = choose_voice(voices, settings(voice_sample_url=f"{server.url}?sig=2", **fields))
    assert first is not None
    assert first.name == "default"
    assert first == again
    assert len(server.requested) == 1


def test_settings_that_name_another_voice_than_the_stored_one_are_refused(
    voices: VoiceCollection, server: SampleServer
) -> None:
    """A run with another sample URL or transcript does not go on with the old voice."""
    import_default_voice(voices, server.url, WORDS, allow_private=True)
    for url, words in ((f"{server.url}2", WORDS), (server.url, "Other words.")):
        with pytest.raises(VoiceError, match="not the one that VOICE_SAMPLE_URL"):
            import_default_voice(voices, url, words, allow_private=True)
    assert len(server.requested) == 1


def test_a_url_without_its_transcript_is_refused(voices: VoiceCollection, server: SampleServer) -> None:
    """A voice cannot be cloned without the words of its sample."""
    with pytest.raises(VoiceError, match="VOICE_SAMPLE_TRANSCRIPT"):
        choose_voice(voices, settings(voice_sample_url=server.url))


def test_planning_downloads_nothing(voices: VoiceCollection, server: SampleServer) -> None:
    """Without `importing`, a voice that is not in the store yet is an error, and no request is sent."""
    chosen = settings(voice_sample_url=server.url, voice_sample_transcript=WORDS)
    with pytest.raises(VoiceError, match="no voice default"):
        choose_voice(voices, chosen, importing=False)
    assert server.requested == []
    imported = choose_voice(voices, chosen)
    assert choose_voice(voices, chosen, importing=False) == imported


def test_the_draft_engine_uses_no_stored_voice(voices: VoiceCollection, tmp_path: Path) -> None:
    """It has a voice of its own; but a voice chosen by name must exist all the same."""
    assert choose_voice(voices, settings(engine="draft")) is None
    with pytest.raises(VoiceError, match="no voice anna"):
        choose_voice(voices, settings(engine="draft", voice="anna"))
    sample = tmp_path / "anna.wav"
    sample.write_bytes(encoded(recording()))
    add_voice(voices, "anna", str(sample), WORDS)
    assert choose_voice(voices, settings(engine="draft", voice="anna")) is None
    assert choose_voice(voices, settings(voice="anna")) == find_voice(voices, "anna")


def test_a_model_with_a_voice_of_its_own_uses_no_stored_voice(
    voices: VoiceCollection, server: SampleServer
) -> None:
    """No sample is downloaded for it, and a voice chosen by name is refused: the clips would not be in it."""
    kokoro = "openai/kokoro@1/openai-wav/voice-af_heart/engine-1"
    sample = {"voice_sample_url": server.url, "voice_sample_transcript": WORDS}
    assert choose_voice(voices, settings(model=kokoro, **sample)) is None
    assert server.requested == []
    with pytest.raises(VoiceError, match="has a voice of its own, not anna"):
        choose_voice(voices, settings(model=kokoro, voice="anna"))
    cloned = "openai/chatterbox@1/vllm-omni-wav/cloned/engine-1"
    assert choose_voice(voices, settings(model=cloned, **sample)) is not None
