"""Where a voice comes from: its sample from a file or a URL, its transcript from a file or as words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.audio_files import encoded
from support.voices import WORDS, SampleServer, recording, serving_a_sample

from narration.errors import VoiceError
from narration.store import VoiceCollection, open_store
from narration.voices import add_voice, list_voices
from narration.voices.sources import MAX_TRANSCRIPT_CHARACTERS


@pytest.fixture
def voices(tmp_path: Path) -> VoiceCollection:
    return open_store(str(tmp_path / "store")).voices


@pytest.fixture
def sample(tmp_path: Path) -> str:
    """A good sample in a file."""
    path = tmp_path / "anna.wav"
    path.write_bytes(encoded(recording()))
    return str(path)


@pytest.fixture
def server() -> Iterator[SampleServer]:
    with serving_a_sample() as server:
        yield server


def test_a_transcript_is_a_file_or_the_words(voices: VoiceCollection, sample: str, tmp_path: Path) -> None:
    """Line breaks and a byte order mark do not count: both ways give the same voice."""
    file = tmp_path / "anna.txt"
    file.write_text("\ufeff" + WORDS.replace(" and", "\r\nand") + "\n", encoding="utf-8")
    assert add_voice(voices, "anna", sample, str(file)) == add_voice(voices, "anna", sample, WORDS)


@pytest.mark.parametrize(
    ("transcript", "reason"),
    [
        ("", "no words"),
        (" \n\t", "no words"),
        ("…!?", "no words"),
        ("a" * (MAX_TRANSCRIPT_CHARACTERS + 1), "over 2000 characters"),
        ("missing.txt", "No such file"),
        ("folder/missing.md", "No such file"),
        ("nul\x00.txt", "no file has such a name"),
    ],
)
def test_a_transcript_without_usable_words_is_refused(
    voices: VoiceCollection, sample: str, transcript: str, reason: str
) -> None:
    """Nothing is stored."""
    with pytest.raises(VoiceError, match=reason):
        add_voice(voices, "anna", sample, transcript)
    assert list_voices(voices) == []


def test_a_transcript_file_is_text(voices: VoiceCollection, sample: str) -> None:
    """A file that is not UTF-8, such as a recording, is refused by name."""
    file = Path(sample).with_suffix(".txt")
    file.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(VoiceError, match=r"anna\.txt.*not UTF-8"):
        add_voice(voices, "anna", sample, str(file))


def test_words_too_long_for_a_file_name_are_words(voices: VoiceCollection, sample: str) -> None:
    """Text that no path can be is taken as the words themselves."""
    assert len(add_voice(voices, "anna", sample, "word " * 300).transcript) == 1499


@pytest.mark.parametrize("path", ["nowhere.wav", ".", "a\x00b"])
def test_a_missing_sample_is_a_voice_error(voices: VoiceCollection, path: str) -> None:
    """A file that does not exist, a folder, and a name that no file can have."""
    with pytest.raises(VoiceError, match="sample"):
        add_voice(voices, "anna", path, WORDS)


@pytest.mark.parametrize(
    "url",
    [" https://a.example/v.wav?X-Amz-Signature=hunter2", "s3://a/v.wav?sig=hunter2", "ftp://me:hunter2@a/v"],
)
def test_a_url_taken_for_a_file_is_shown_without_its_secrets(voices: VoiceCollection, url: str) -> None:
    """A signed VOICE_SAMPLE_URL with a typing error is not repeated in the message."""
    with pytest.raises(VoiceError) as caught:
        add_voice(voices, "me", url, WORDS)
    assert "hunter2" not in str(caught.value)


def test_a_sample_over_the_limit_is_not_loaded(voices: VoiceCollection, tmp_path: Path) -> None:
    """20 MB are more than 30 s of any usual format."""
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.truncate(20_000_001)
    with pytest.raises(VoiceError, match="larger than 20 MB"):
        add_voice(voices, "anna", str(path), WORDS)


def test_a_sample_is_downloaded_once(voices: VoiceCollection, server: SampleServer) -> None:
    """The URL's query, which may be a signature, is not stored."""
    voice = add_voice(voices, "anna", f"{server.url}?token=s3cret", WORDS, allow_private=True)
    assert voice.source == server.url
    assert server.requested == ["/voices/anna.wav?token=s3cret"]
    assert voices.read_sample(voice.key) == server.data
    stored = voices.read("anna")
    assert stored is not None
    assert b"s3cret" not in stored.data


def test_a_private_address_is_not_downloaded(voices: VoiceCollection, server: SampleServer) -> None:
    """Samples are downloaded from public addresses only, unless private ones are allowed."""
    with pytest.raises(VoiceError, match="not at a public address") as refusal:
        add_voice(voices, "anna", server.url, WORDS)
    assert not refusal.value.retryable
    assert server.requested == []


def test_a_server_that_does_not_answer_is_a_retryable_failure(
    voices: VoiceCollection, server: SampleServer
) -> None:
    """Trying again may help; the message repeats no secret."""
    server.stop()
    with pytest.raises(VoiceError, match="no answer") as failure:
        add_voice(voices, "anna", f"{server.url}?token=s3cret", WORDS, allow_private=True)
    assert failure.value.retryable
    assert "s3cret" not in str(failure.value)
