"""Voices in the store: added once, then found by name."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.audio import RATE
from support.audio_files import ID3V2, encoded
from support.voices import WORDS, recording

from narration.errors import VoiceError
from narration.store import VoiceCollection, open_store
from narration.voices import add_voice, find_voice, list_voices, recheck_voice


@pytest.fixture
def voices(tmp_path: Path) -> VoiceCollection:
    return open_store(str(tmp_path / "store")).voices


@pytest.fixture
def sample(tmp_path: Path) -> str:
    """A good sample in a file."""
    path = tmp_path / "anna.wav"
    path.write_bytes(encoded(recording()))
    return str(path)


def stored_sample(voices: VoiceCollection, key: str) -> Path:
    """The file in which a store in a folder keeps a sample."""
    return Path(voices.location) / key


def test_a_voice_is_added_and_found_by_name(voices: VoiceCollection, sample: str) -> None:
    """Its sample is stored byte for byte, since its SHA-256 is the voice's identity."""
    voice = add_voice(voices, "anna", sample, WORDS)
    data = Path(sample).read_bytes()
    assert voice.sha256 == hashlib.sha256(data).hexdigest()
    assert (voice.name, voice.transcript, voice.suffix, voice.source) == ("anna", WORDS, ".wav", "anna.wav")
    assert voice.seconds == pytest.approx(recording().size / RATE)
    assert find_voice(voices, "anna") == voice
    assert list_voices(voices) == [voice]
    assert voices.read_sample(voice.key) == data
    assert recheck_voice(voices, "anna") == []


@pytest.mark.parametrize(
    ("container", "suffix"),
    [("WAV", ".wav"), ("FLAC", ".flac"), ("OGG", ".ogg"), ("MP3", ".mp3"), ("AIFF", ".aiff")],
)
def test_formats_that_the_worker_decodes_are_stored_as_they_are(
    voices: VoiceCollection, tmp_path: Path, container: str, suffix: str
) -> None:
    """None of them is converted: what libsndfile reads in the pipeline, it reads in the worker."""
    path = tmp_path / "sample.bin"
    path.write_bytes(encoded(recording(), container))
    voice = add_voice(voices, "anna", str(path), WORDS)
    assert voice.suffix == suffix
    assert voices.read_sample(voice.key) == path.read_bytes()


@pytest.mark.parametrize(
    ("data", "suffix"),
    [
        pytest.param(encoded(recording(), "RF64"), ".wav", id="rf64"),
        pytest.param(encoded(recording(), "W64"), ".w64", id="w64"),
        pytest.param(ID3V2 + encoded(recording(), "FLAC"), ".flac", id="tagged flac"),
    ],
)
def test_a_rare_container_is_stored_as_it_is(
    voices: VoiceCollection, tmp_path: Path, data: bytes, suffix: str
) -> None:
    """The suffix is that of the audio, also behind a tag; the voice is found again."""
    path = tmp_path / "sample.bin"
    path.write_bytes(data)
    voice = add_voice(voices, "anna", str(path), WORDS)
    assert (voice.suffix, voice.converted_from) == (suffix, None)
    assert find_voice(voices, "anna") == voice
    assert voices.read_sample(voice.key) == data


def test_stereo_is_judged_by_the_average_of_its_sides(voices: VoiceCollection, tmp_path: Path) -> None:
    """Sides that cancel out are silence."""
    mono = recording()
    path = tmp_path / "stereo.wav"
    path.write_bytes(encoded(np.stack([mono, mono * np.float32(0.8)], axis=1)))
    assert add_voice(voices, "anna", str(path), WORDS).seconds == pytest.approx(mono.size / RATE)
    path.write_bytes(encoded(np.stack([mono, -mono], axis=1)))
    with pytest.raises(VoiceError, match="silent"):
        add_voice(voices, "opposed", str(path), WORDS)


def test_the_same_voice_again_changes_nothing(voices: VoiceCollection, sample: str) -> None:
    """Adding may be repeated; another sample or transcript under the name is refused without `replace`."""
    voice = add_voice(voices, "anna", sample, WORDS)
    assert add_voice(voices, "anna", sample, f"  {WORDS}\n") == voice
    other = Path(sample).with_name("other.flac")
    other.write_bytes(encoded(recording(), "FLAC"))
    for path, words in ((str(other), WORDS), (sample, WORDS + " Nobody.")):
        with pytest.raises(VoiceError, match="there is a voice anna already"):
            add_voice(voices, "anna", path, words)
    assert find_voice(voices, "anna") == voice
    assert add_voice(voices, "anna", str(other), WORDS, replace=True).sha256 != voice.sha256
    assert find_voice(voices, "anna").suffix == ".flac"
    assert voices.read_sample(voice.key) == Path(sample).read_bytes()  # stored clips still name it


def test_a_lost_sample_is_restored_by_adding_the_voice_again(voices: VoiceCollection, sample: str) -> None:
    """The check reports a missing or altered sample, and the same voice added again stores it anew."""
    voice = add_voice(voices, "anna", sample, WORDS)
    stored = stored_sample(voices, voice.key)
    stored.unlink()
    assert [problem.severity for problem in recheck_voice(voices, "anna")] == ["error"]
    stored.write_bytes(b"altered")
    assert "not the one that was added" in recheck_voice(voices, "anna")[0].message
    add_voice(voices, "anna", sample, WORDS)
    assert recheck_voice(voices, "anna") == []


@pytest.mark.parametrize("name", ["", "Anna", "a b", "../a", "a/b", "con", "-", "a" * 101, "ä"])
def test_a_name_is_a_slug(voices: VoiceCollection, sample: str, name: str) -> None:
    """A name becomes a folder; the message states its allowed characters."""
    with pytest.raises(VoiceError, match="a-z, 0-9 and -"):
        add_voice(voices, name, sample, WORDS)
    with pytest.raises(VoiceError, match="a-z, 0-9 and -"):
        find_voice(voices, name)


def test_an_unknown_voice_is_refused_with_the_known_names(voices: VoiceCollection, sample: str) -> None:
    """The remedy is the command that adds the voice, and the names of those in the store."""
    with pytest.raises(VoiceError, match=r"no voice bob.*none yet"):
        find_voice(voices, "bob")
    add_voice(voices, "anna", sample, WORDS)
    with pytest.raises(VoiceError, match=r"narrate voice add bob .*there are: anna"):
        find_voice(voices, "bob")
    with pytest.raises(VoiceError, match="no voice bob"):
        recheck_voice(voices, "bob")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"name": "anna"}', b"\xff"])
def test_a_stored_voice_that_cannot_be_read_is_a_voice_error(
    voices: VoiceCollection, sample: str, data: bytes
) -> None:
    """It can be replaced like any other."""
    voice = add_voice(voices, "anna", sample, WORDS)
    stored_sample(voices, voice.key).with_name("voice.json").write_bytes(data)
    with pytest.raises(VoiceError, match="cannot be read"):
        find_voice(voices, "anna")
    add_voice(voices, "anna", sample, WORDS, replace=True)
    assert find_voice(voices, "anna").transcript == WORDS


def test_finding_a_voice_imports_no_numpy(voices: VoiceCollection, sample: str) -> None:
    """`narrate plan` finds a voice without importing what only the checks need."""
    add_voice(voices, "anna", sample, WORDS)
    code = (
        "import sys; from narration.store import open_store; from narration.voices import find_voice;"
        "find_voice(open_store(sys.argv[1]).voices, 'anna');"
        "print([name for name in ('numpy', 'soundfile', 'httpx', 'boto3') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, voices.location], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
