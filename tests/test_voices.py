"""Voices: what is imported, what is refused, what is only advised against; once, and then by name."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from support.audio import RATE, silence, speak, tone

from narration import preflight
from narration.errors import VoiceError
from narration.settings import Settings
from narration.store import Store, open_store
from narration.store.layout import voice_key
from narration.voices import (
    Voice,
    add_voice,
    catalog,
    choose_voice,
    find_voice,
    import_default_voice,
    list_voices,
    recheck_voice,
)
from narration.voices.checks import SampleProblem, examine_sample
from narration.voices.sources import MAX_TRANSCRIPT_CHARACTERS
from narration.voices.transport import MAX_INLINE_BYTES, VoiceTransport, is_linked

WORDS = "The harbour was quiet that morning, and nobody had seen the grey boat leave before the fog came in."


def recording(*, seconds: float | None = None) -> NDArray[np.float32]:
    """A good sample: real speech with a pause at its end; or tone of any length."""
    if seconds is not None:
        return np.concatenate([tone(seconds - 0.2), silence(0.2)])
    return np.concatenate([speak(WORDS) * np.float32(0.6), silence(0.3)])


def encode(waveform: NDArray[np.float32], rate: int = RATE, container: str = "WAV") -> bytes:
    """An audio file in memory."""
    file = io.BytesIO()
    soundfile.write(file, waveform, rate, format=container)
    return file.getvalue()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def sample(tmp_path: Path) -> str:
    """A good sample in a file."""
    path = tmp_path / "anna.wav"
    path.write_bytes(encode(recording()))
    return str(path)


class Site:
    """Serves `data` at any path; counts how often it was asked."""

    def __init__(self) -> None:
        self.data = encode(recording())
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(site.data)))
                self.end_headers()
                self.wfile.write(site.data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/voices/anna.wav"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site()
    yield served
    served.server.shutdown()
    served.server.server_close()


# Import


def test_a_voice_is_imported_and_found_by_name(store: Store, sample: str) -> None:
    """Its sample is kept byte for byte, since its SHA-256 is the voice's identity."""
    voice = add_voice(store, "anna", sample, WORDS)
    data = Path(sample).read_bytes()
    assert voice.sha256 == hashlib.sha256(data).hexdigest()
    assert (voice.name, voice.transcript, voice.suffix, voice.source) == ("anna", WORDS, ".wav", "anna.wav")
    assert voice.seconds == pytest.approx(recording().size / RATE)
    assert find_voice(store, "anna") == voice
    assert list_voices(store) == [voice]
    assert store.voices.read_sample(voice.key) == data
    assert recheck_voice(store, "anna") == []


@pytest.mark.parametrize(
    ("container", "suffix"),
    [("WAV", ".wav"), ("FLAC", ".flac"), ("OGG", ".ogg"), ("MP3", ".mp3"), ("AIFF", ".aiff")],
)
def test_the_usual_formats_are_taken_as_they_are(
    store: Store, tmp_path: Path, container: str, suffix: str
) -> None:
    """Nothing is transcoded: whatever libsndfile reads of these, the worker reads too."""
    path = tmp_path / "sample.bin"
    path.write_bytes(encode(recording(), container=container))
    voice = add_voice(store, "anna", str(path), WORDS)
    assert voice.suffix == suffix
    assert store.voices.read_sample(voice.key) == path.read_bytes()


def test_stereo_is_judged_by_its_fold(store: Store, tmp_path: Path) -> None:
    """Two sides are heard as one; sides that cancel out are silence."""
    mono = recording()
    path = tmp_path / "stereo.wav"
    path.write_bytes(encode(np.stack([mono, mono * np.float32(0.8)], axis=1)))
    assert add_voice(store, "anna", str(path), WORDS).seconds == pytest.approx(mono.size / RATE)
    path.write_bytes(encode(np.stack([mono, -mono], axis=1)))
    with pytest.raises(VoiceError, match="silent"):
        add_voice(store, "opposed", str(path), WORDS)


def test_the_same_voice_again_changes_nothing(store: Store, sample: str) -> None:
    """Adding is safe to repeat; another sample or transcript under the name is not taken for the same."""
    voice = add_voice(store, "anna", sample, WORDS)
    assert add_voice(store, "anna", sample, f"  {WORDS}\n") == voice
    other = Path(sample).with_name("other.flac")
    other.write_bytes(encode(recording(), container="FLAC"))
    for path, words in ((str(other), WORDS), (sample, WORDS + " Nobody.")):
        with pytest.raises(VoiceError, match="there is a voice anna already"):
            add_voice(store, "anna", path, words)
    assert find_voice(store, "anna") == voice
    assert add_voice(store, "anna", str(other), WORDS, replace=True).sha256 != voice.sha256
    assert find_voice(store, "anna").suffix == ".flac"
    assert store.voices.read_sample(voice.key) == Path(sample).read_bytes()  # what it spoke still names it


def test_a_lost_sample_is_mended_by_adding_it_again(store: Store, sample: str) -> None:
    """The check says so, and the same voice puts its sample back."""
    voice = add_voice(store, "anna", sample, WORDS)
    store._objects.delete(voice.key)
    assert [finding.severity for finding in recheck_voice(store, "anna")] == ["error"]
    store._objects.put(voice.key, b"altered", content_type="audio/wav")
    assert "not the one that was added" in recheck_voice(store, "anna")[0].message
    add_voice(store, "anna", sample, WORDS)
    assert recheck_voice(store, "anna") == []


@pytest.mark.parametrize("name", ["", "Anna", "a b", "../a", "a/b", "con", "-", "a" * 101, "ä"])
def test_a_name_is_a_slug(store: Store, sample: str, name: str) -> None:
    """Names become folders; the message says what they are made of."""
    with pytest.raises(VoiceError, match="a-z, 0-9 and -"):
        add_voice(store, name, sample, WORDS)
    with pytest.raises(VoiceError, match="a-z, 0-9 and -"):
        find_voice(store, name)


def test_an_unknown_voice_is_named_with_the_known_ones(store: Store, sample: str) -> None:
    """The remedy is the command that adds it, and the names there are."""
    with pytest.raises(VoiceError, match=r"no voice bob.*none yet"):
        find_voice(store, "bob")
    add_voice(store, "anna", sample, WORDS)
    with pytest.raises(VoiceError, match=r"narrate voice add bob .*there are: anna"):
        find_voice(store, "bob")
    with pytest.raises(VoiceError, match="no voice bob"):
        recheck_voice(store, "bob")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"name": "anna"}', b"\xff"])
def test_a_voice_that_cannot_be_read_is_a_typed_failure(store: Store, sample: str, data: bytes) -> None:
    """And is replaced like any other."""
    add_voice(store, "anna", sample, WORDS)
    store._objects.put(voice_key("anna"), data, content_type="application/json")
    with pytest.raises(VoiceError, match="cannot be read"):
        find_voice(store, "anna")
    add_voice(store, "anna", sample, WORDS, replace=True)
    assert find_voice(store, "anna").transcript == WORDS


# Transcripts


def test_a_transcript_is_a_file_or_the_words(store: Store, sample: str, tmp_path: Path) -> None:
    """Lines and a byte order mark do not count; in both ways it is the same voice."""
    file = tmp_path / "anna.txt"
    file.write_text("\ufeff" + WORDS.replace(" and", "\r\nand") + "\n", encoding="utf-8")
    assert add_voice(store, "anna", sample, str(file)) == add_voice(store, "anna", sample, WORDS)


@pytest.mark.parametrize(
    ("transcript", "words"),
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
def test_a_transcript_that_says_nothing_is_refused(
    store: Store, sample: str, transcript: str, words: str
) -> None:
    """Before anything is stored."""
    with pytest.raises(VoiceError, match=words):
        add_voice(store, "anna", sample, transcript)
    assert list_voices(store) == []


def test_a_transcript_file_is_text(store: Store, sample: str) -> None:
    """A recording given as its own transcript is told."""
    file = Path(sample).with_suffix(".txt")
    file.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(VoiceError, match=r"anna\.txt.*not UTF-8"):
        add_voice(store, "anna", sample, str(file))


def test_words_too_long_for_a_file_name_are_words(store: Store, sample: str) -> None:
    """A path of a thousand characters is no error of the disk."""
    assert len(add_voice(store, "anna", sample, "word " * 300).transcript) == 1499


# Samples


@pytest.mark.parametrize("path", ["nowhere.wav", ".", "a\x00b"])
def test_a_sample_that_is_not_there_is_named(store: Store, path: str) -> None:
    """By what was given."""
    with pytest.raises(VoiceError, match="sample"):
        add_voice(store, "anna", path, WORDS)


@pytest.mark.parametrize(
    "url",
    [" https://a.example/v.wav?X-Amz-Signature=hunter2", "s3://a/v.wav?sig=hunter2", "ftp://me:hunter2@a/v"],
)
def test_a_url_taken_for_a_file_is_named_without_its_secrets(store: Store, url: str) -> None:
    """VOICE_SAMPLE_URL is a key where it is signed, and a slip of the pen does not change that."""
    with pytest.raises(VoiceError) as caught:
        add_voice(store, "me", url, WORDS)
    assert "hunter2" not in str(caught.value)


def test_a_sample_over_the_limit_is_not_loaded(store: Store, tmp_path: Path) -> None:
    """20 MB is more than 30 s of anything."""
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.truncate(20_000_001)
    with pytest.raises(VoiceError, match="larger than 20 MB"):
        add_voice(store, "anna", str(path), WORDS)


def test_a_sample_is_downloaded_once(store: Store, site: Site) -> None:
    """Its query, which may sign it, is not kept."""
    voice = add_voice(store, "anna", f"{site.url}?token=s3cret", WORDS, allow_private=True)
    assert voice.source == site.url
    assert site.asked == ["/voices/anna.wav?token=s3cret"]
    assert store.voices.read_sample(voice.key) == site.data
    assert b"s3cret" not in (store.voices.read("anna") or (b"", ""))[0]


def test_a_private_address_is_not_downloaded_unasked(store: Store, site: Site) -> None:
    """The guard of the one download holds here too."""
    with pytest.raises(VoiceError, match="not at a public address") as refusal:
        add_voice(store, "anna", site.url, WORDS)
    assert not refusal.value.retryable
    assert site.asked == []


def test_an_address_that_does_not_answer_may_later(store: Store, site: Site) -> None:
    """A failure to download says whether trying again helps, and repeats no secret."""
    site.server.shutdown()
    site.server.server_close()
    with pytest.raises(VoiceError, match="no answer") as failure:
        add_voice(store, "anna", f"{site.url}?token=s3cret", WORDS, allow_private=True)
    assert failure.value.retryable
    assert "s3cret" not in str(failure.value)


# The voice of the settings


def settings(**fields: object) -> Settings:
    return Settings.model_validate({"engine": "higgs", "allow_private_urls": True, **fields})


def test_the_default_voice_is_imported_on_first_use(store: Store, site: Site) -> None:
    """`VOICE_SAMPLE_URL` is asked once; the second time the voice is there, also under a fresh signature."""
    first = choose_voice(store, settings(voice_sample_url=f"{site.url}?sig=1", voice_sample_transcript=WORDS))
    again = choose_voice(store, settings(voice_sample_url=f"{site.url}?sig=2", voice_sample_transcript=WORDS))
    assert first is not None
    assert first.name == "default"
    assert first == again
    assert len(site.asked) == 1


def test_settings_that_name_another_voice_than_the_imported_one_stop(store: Store, site: Site) -> None:
    """Whoever changes the sample's URL or transcript must not go on hearing the old voice unawares."""
    import_default_voice(store, site.url, WORDS, allow_private=True)
    for url, words in ((f"{site.url}2", WORDS), (site.url, "Other words.")):
        with pytest.raises(VoiceError, match="not the one that VOICE_SAMPLE_URL"):
            import_default_voice(store, url, words, allow_private=True)
    assert len(site.asked) == 1


def test_a_url_without_its_transcript_is_refused(store: Store, site: Site) -> None:
    """A voice cannot be cloned without knowing what its sample says."""
    with pytest.raises(VoiceError, match="VOICE_SAMPLE_TRANSCRIPT"):
        choose_voice(store, settings(voice_sample_url=site.url))


def test_planning_downloads_nothing(store: Store, site: Site) -> None:
    """Without importing, a voice that is not in the store yet is named, and the site is not asked."""
    asked = settings(voice_sample_url=site.url, voice_sample_transcript=WORDS)
    with pytest.raises(VoiceError, match="no voice default"):
        choose_voice(store, asked, importing=False)
    assert site.asked == []
    imported = choose_voice(store, asked)
    assert choose_voice(store, asked, importing=False) == imported


def test_the_draft_speaks_with_its_own_voice(store: Store, sample: str) -> None:
    """It clones nothing; but a voice asked for by name must exist all the same."""
    assert choose_voice(store, settings(engine="draft")) is None
    with pytest.raises(VoiceError, match="no voice anna"):
        choose_voice(store, settings(engine="draft", voice="anna"))
    add_voice(store, "anna", sample, WORDS)
    assert choose_voice(store, settings(engine="draft", voice="anna")) is None
    assert choose_voice(store, settings(voice="anna")) == find_voice(store, "anna")


# Checks


def examine(waveform: NDArray[np.float32], rate: int = RATE, transcript: str = WORDS) -> list[SampleProblem]:
    return examine_sample(encode(waveform, rate), transcript)[1]


def test_a_good_sample_has_no_findings() -> None:
    """Speech of a usual level with a quiet end, that says what its transcript says."""
    assert examine(recording()) == []


def loud(peak: float) -> NDArray[np.float32]:
    """A recording with more gain than the format holds."""
    waveform = recording()
    gained: NDArray[np.float32] = np.clip(waveform * np.float32(peak / np.abs(waveform).max()), -1, 1)
    return gained


@pytest.mark.parametrize(
    ("make", "severity", "words"),
    [
        (lambda: recording(seconds=0.9), "error", "under 1"),
        (lambda: recording(seconds=3.0), "warning", "only 3.0 s"),
        (lambda: recording(seconds=25.0), "warning", "25.0 s, which slows"),
        (lambda: recording(seconds=30.5), "error", "over the limit of 30 s"),
        (lambda: silence(6), "error", "silent"),
        (lambda: recording() * np.float32(0.0005), "error", "silent"),
        (lambda: recording() * np.float32(0.01), "warning", "quiet"),
        (lambda: loud(40), "error", "clipped"),
        (lambda: loud(1.5), "warning", "clipped"),
        (lambda: recording()[: -round(0.9 * RATE)], "warning", "ends in sound"),
    ],
)
def test_each_fault_is_found(make: Callable[[], NDArray[np.float32]], severity: str, words: str) -> None:
    """Named with its severity, and with what to do about it."""
    found = [finding for finding in examine(make()) if words in finding.message]
    assert [finding.severity for finding in found] == [severity]
    assert found[0].remedy


def test_a_telephone_recording_is_advised_against() -> None:
    """8 kHz lacks what makes a voice this one."""
    assert any("8000 Hz" in finding.message for finding in examine(recording()[::3], rate=8_000))


@pytest.mark.parametrize("transcript", ["Hm.", WORDS * 8], ids=["too-few-words", "too-many"])
def test_a_transcript_of_something_else_is_noticed(transcript: str) -> None:
    """Words that cannot take as long as the sample does spoil every clip."""
    assert any(
        "transcript takes about" in finding.message for finding in examine(recording(), RATE, transcript)
    )


@pytest.mark.parametrize("data", [b"", b"RIFF", b"not audio at all" * 100, b"\x00" * 5_000, b"<html></html>"])
def test_what_is_no_audio_is_an_error(data: bytes) -> None:
    """Whatever the bytes are, there is one finding, and it says so."""
    seconds, findings = examine_sample(data, WORDS)
    assert seconds == 0
    assert [finding.severity for finding in findings] == ["error"]


def test_a_small_file_that_unfolds_into_hours_is_refused() -> None:
    """A decompression bomb costs no more than the limit's worth of samples."""
    bomb = encode(silence(1_000), container="FLAC")
    assert len(bomb) < 200_000
    assert "over the limit" in examine_sample(bomb, WORDS)[1][0].message


def test_errors_come_first() -> None:
    """What must be mended stands above what could be better."""
    crushed = np.clip(recording()[: round(3 * RATE)] * 40, -1, 1)
    severities = [finding.severity for finding in examine(crushed)]
    assert severities == sorted(severities)
    assert severities[0] == "error"


def test_an_error_keeps_a_voice_out_and_a_warning_does_not(store: Store, tmp_path: Path) -> None:
    """A quiet voice is imported and its check says so; a silent one is not imported."""
    path = tmp_path / "sample.wav"
    path.write_bytes(encode(recording() * np.float32(0.01)))
    voice = add_voice(store, "quiet", str(path), WORDS)
    assert isinstance(voice, Voice)
    assert any("quiet" in finding.message for finding in recheck_voice(store, "quiet"))
    path.write_bytes(encode(silence(5)))
    with pytest.raises(VoiceError, match="voice silent: the sample is silent"):
        add_voice(store, "silent", str(path), WORDS)
    assert store.voices.names() == ["quiet"]


@pytest.fixture
def large(tmp_path: Path) -> str:
    """A good recording, in a file too large to be sent with every chunk."""
    path = tmp_path / "large.wav"
    channels = np.tile(np.repeat(recording(), 2)[:, None], (1, 8))
    soundfile.write(path, channels, 2 * RATE, subtype="PCM_24")
    assert MAX_INLINE_BYTES < path.stat().st_size < 2 * MAX_INLINE_BYTES
    return str(path)


def test_a_sample_too_large_to_travel_is_refused_when_it_is_added(store: Store, large: str) -> None:
    """A folder's samples go along with each request, so a larger one is refused before it is paid."""
    with pytest.raises(VoiceError, match=r"voice anna: the sample has \d\.\d MB, and 6 MB at most .*FLAC"):
        add_voice(store, "anna", large, WORDS)
    assert store.voices.names() == []


def test_a_sample_too_large_to_travel_is_found_in_the_store(
    store: Store, large: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that came there all the same is an error of its check, of `doctor`, and of the run."""
    with monkeypatch.context() as patch:
        patch.setattr(catalog, "MAX_INLINE_BYTES", 20_000_000)
        voice = add_voice(store, "anna", large, WORDS)
    (finding,) = recheck_voice(store, "anna")
    assert (finding.severity, "6 MB at most" in finding.message) == ("error", True)
    told = preflight.check_default_voice(store, settings(voice="anna"))
    assert (told.ok, told.remedy) == (False, finding.remedy)
    with pytest.raises(VoiceError, match="6 MB at most"):
        VoiceTransport.of(store, voice, settings())


def test_a_sample_of_any_size_travels_as_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """From S3 the worker fetches it by itself, once."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = open_store("s3://narrations/here")
    assert is_linked(bucket, "voices/anna/sample.wav")
    voice = Voice(name="anna", sha256="a" * 64, transcript=WORDS, seconds=6, suffix=".wav", source="here")
    assert catalog._can_travel(bucket, voice, MAX_INLINE_BYTES + 1)


def test_naming_a_voice_imports_no_numpy(store: Store, sample: str) -> None:
    """`narrate plan` looks a voice up without paying for what only checks need."""
    add_voice(store, "anna", sample, WORDS)
    code = (
        "import sys; from narration.store import open_store; from narration.voices import find_voice;"
        "find_voice(open_store(sys.argv[1]), 'anna');"
        "print([name for name in ('numpy', 'soundfile', 'httpx', 'boto3') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, store.location], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
