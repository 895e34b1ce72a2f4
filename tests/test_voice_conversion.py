"""Recordings in formats that the worker does not decode: converted to FLAC, or refused with a remedy."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from support.audio import RATE, silence, tone
from support.audio_files import by_ffmpeg, encoded
from support.voices import WORDS, recording

from gpu_worker.voices import check
from narration.audio import ffmpeg
from narration.audio.files import decode
from narration.errors import MasteringError, VoiceError
from narration.store import VoiceCollection, open_store
from narration.voices import add_voice, find_voice, recheck_voice
from narration.voices.conversion import convert_to_flac, make_decodable

FORMATS = {
    "m4a": ("-c:a", "aac"),
    "alac.m4a": ("-c:a", "alac"),
    "mp4": ("-c:a", "aac", "-movflags", "+faststart"),
    "webm": ("-c:a", "libopus"),
    "mka": ("-c:a", "libvorbis"),
    "wma": (),
    "aac": (),
    "caf": (),
    "amr": ("-ar", "8000"),
    "wv": (),
    "au": (),
    "flac.ogg": ("-c:a", "flac"),
    "g726.wav": ("-c:a", "adpcm_g726", "-ar", "8000"),
}
PICTURE = ("-f", "lavfi", "-i", "color=red:s=32x32:d=1:r=1")
M4A = by_ffmpeg(recording(), *FORMATS["m4a"], suffix=".m4a")


@pytest.fixture
def voices(tmp_path: Path) -> VoiceCollection:
    return open_store(str(tmp_path / "store")).voices


def refusal(data: bytes) -> VoiceError:
    with pytest.raises(VoiceError) as caught:
        make_decodable(data)
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("name", FORMATS)
def test_what_ffmpeg_decodes_is_stored_as_flac(name: str, voices: VoiceCollection, tmp_path: Path) -> None:
    """As mono of 16 bits at its own rate, with the sound of the recording; the worker decodes it."""
    path = tmp_path / f"memo.{name}"
    path.write_bytes(by_ffmpeg(recording(), *FORMATS[name], suffix=f".{name}"))
    voice = add_voice(voices, "anna", str(path), WORDS)
    data = voices.read_sample(voice.key)
    described = soundfile.info(io.BytesIO(data))
    assert (described.format, described.subtype, described.channels) == ("FLAC", "PCM_16", 1)
    assert (voice.suffix, voice.source) == (".flac", path.name)
    assert voice.sha256 == hashlib.sha256(data).hexdigest()
    assert voice.converted_from == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not any(problem.severity == "error" for problem in recheck_voice(voices, "anna"))
    waveform = check(data, WORDS, voice.sha256).waveform
    assert waveform.size == pytest.approx(recording().size, abs=RATE * 0.1)
    assert similarity(waveform, recording()) > 0.8  # AMR has nothing above 4 kHz


def similarity(waveform: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Correlation of two waveforms at the delay at which it is highest; some encoders add one."""
    size = 2 * max(waveform.size, other.size)
    products = np.fft.rfft(waveform, size) * np.conj(np.fft.rfft(other, size))
    return float(np.fft.irfft(products).max() / (np.linalg.norm(waveform) * np.linalg.norm(other)))


def test_a_recording_with_a_cover_picture_is_converted() -> None:
    """A picture beside the audio is no video."""
    data = by_ffmpeg(
        recording(),
        *(*PICTURE, "-map", "0", "-map", "1", "-c:v", "mjpeg"),
        *("-disposition:v", "attached_pic"),
        suffix=".m4a",
    )
    assert decode(make_decodable(data))[0].size == pytest.approx(recording().size, abs=2_400)


@pytest.mark.parametrize(
    ("options", "suffix", "message"),
    [
        pytest.param((*PICTURE, "-shortest"), ".mp4", "has video", id="video"),
        pytest.param((*PICTURE, "-map", "1"), ".mp4", "no audio", id="no audio"),
        pytest.param(("-map", "0", "-map", "0"), ".m4a", "2 audio streams", id="two streams"),
        pytest.param(
            (
                *("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", "0" * 32),
                *("-encryption_kid", "1" * 32),
            ),
            ".mp4",
            "encrypted",
            id="encrypted",
        ),
        pytest.param(("-ac", "16", "-c:a", "pcm_s16be"), ".caf", "16 channels", id="16 channels"),
        pytest.param(("-ar", "4000"), ".caf", "4000 Hz", id="4 kHz"),
    ],
)
def test_a_file_that_is_not_one_recording_is_refused(
    options: tuple[str, ...], suffix: str, message: str
) -> None:
    """The message says what the file holds, and the remedy what to give instead."""
    assert message in refusal(by_ffmpeg(recording(), *options, suffix=suffix)).message


@pytest.mark.parametrize(
    ("suffix", "message"),
    [(".m4a", r"3600.00 s are over the limit of 30 s"), (".aac", "over the limit of 30 s")],
)
def test_an_hour_is_refused_in_time(suffix: str, message: str) -> None:
    """No more than the limit is decoded; also where the container does not announce the duration."""
    data = by_ffmpeg(silence(3_600), "-b:a", "8k", suffix=suffix)
    started = time.perf_counter()
    assert message in refusal(data).message
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("name", ["m4a", "mp4", "webm", "wma", "aac", "mka"])
@pytest.mark.parametrize("keep", [0.3, 0.8])
def test_a_truncated_recording_is_refused(name: str, keep: float) -> None:
    """It is not taken for a shorter one: half a sample says half of its transcript."""
    data = by_ffmpeg(recording(), *FORMATS[name], suffix=f".{name}")
    assert "truncated" in refusal(data[: round(len(data) * keep)]).message


def test_a_recording_shorter_than_its_container_announces_is_refused() -> None:
    """Cut between two samples it decodes without an error, but to half of its duration."""
    data = by_ffmpeg(recording(), *FORMATS["au"], suffix=".au")
    assert "truncated: 2.8 of 5.5 s decode" in refusal(data[: len(data) // 4 * 2 + 20]).message


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>not found</html>" * 50, id="a page"),
        pytest.param(bytes(5_000), id="zeros"),
        pytest.param(np.random.default_rng(1).bytes(5_000), id="noise"),
    ],
)
def test_a_file_without_audio_is_refused(data: bytes) -> None:
    """The remedy lists the formats to give."""
    error = refusal(data)
    assert "no audio" in error.message
    assert "M4A" in error.remedy


DASH = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" profiles="urn:mpeg:dash:profile:isoff-live:2011" type="static"
 mediaPresentationDuration="PT5S" minBufferTime="PT1S"><Period><AdaptationSet contentType="audio">
<Representation id="0" mimeType="audio/mp4" codecs="mp4a.40.2" bandwidth="128000"><BaseURL>{other}</BaseURL>
<SegmentList duration="5"><SegmentURL media="{other}"/></SegmentList>
</Representation></AdaptationSet></Period></MPD>"""
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:6,\n{other}\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    "playlist", [DASH, HLS, "ffconcat version 1.0\nfile '{other}'\n"], ids=["dash", "hls", "ffconcat"]
)
def test_a_playlist_is_not_followed(playlist: str, tmp_path: Path) -> None:
    """ffmpeg opens no other file and no address that a sample names."""
    other = tmp_path / "other.m4a"
    other.write_bytes(by_ffmpeg(recording(), "-movflags", "frag_keyframe+empty_moov", suffix=".m4a"))
    assert "no audio" in refusal(playlist.format(other=f"file://{other}").encode()).message


def test_a_truncated_or_damaged_known_format_is_not_given_to_ffmpeg() -> None:
    """ffmpeg would take it for a shorter recording; the check refuses it."""
    for container in ("WAV", "FLAC", "OGG", "AIFF"):
        whole = encoded(recording(), container)
        half = whole[: len(whole) // 2]
        assert make_decodable(half) is half


def test_sound_beyond_full_scale_is_scaled_down() -> None:
    """A float recording keeps its shape and does not look clipped afterwards."""
    loud = by_ffmpeg(recording() * np.float32(5), "-c:a", "pcm_f32be", suffix=".caf")
    waveform, _ = decode(convert_to_flac(loud))
    assert 0.98 < float(np.abs(waveform).max()) < 0.999
    assert np.corrcoef(waveform, recording())[0, 1] > 0.999_99


def test_the_same_file_again_is_the_same_voice(voices: VoiceCollection, tmp_path: Path) -> None:
    """Also where another version of ffmpeg decoded it to slightly different samples."""
    path = tmp_path / "memo.m4a"
    path.write_bytes(M4A)
    voice = add_voice(voices, "anna", str(path), WORDS)
    assert add_voice(voices, "anna", str(path), WORDS) == voice
    earlier = encoded(decode(convert_to_flac(M4A))[0] * np.float32(0.999), "FLAC", rate=24_000)
    sha256 = hashlib.sha256(earlier).hexdigest()
    known = voice.model_copy(update={"sha256": sha256})
    voices.put_sample("anna", sha256, earlier, suffix=".flac", content_type="audio/flac")
    stored = voices.read("anna")
    assert stored is not None
    voices.replace("anna", known.to_json(), if_match=stored.etag)
    assert add_voice(voices, "anna", str(path), WORDS) == known
    assert find_voice(voices, "anna") == known


def test_only_a_converted_voice_names_the_file_that_it_was_converted_from(
    voices: VoiceCollection, tmp_path: Path
) -> None:
    """The description of any other voice has the fields that it always had."""
    path = tmp_path / "anna.wav"
    path.write_bytes(encoded(recording()))
    add_voice(voices, "anna", str(path), WORDS)
    stored = voices.read("anna")
    assert stored is not None
    fields = ["schema_version", "name", "sha256", "transcript", "seconds", "suffix", "source"]
    assert list(json.loads(stored.data)) == fields


def test_a_machine_without_ffmpeg_says_what_to_give(tmp_path: Path) -> None:
    """WAV and FLAC need no ffmpeg."""
    with pytest.raises(VoiceError, match="needs ffmpeg") as caught:
        make_decodable(M4A, tmp_path / "nowhere")
    assert "WAV or FLAC" in caught.value.remedy
    wav = encoded(tone(6))
    assert make_decodable(wav, tmp_path / "nowhere") is wav


def test_a_program_that_does_not_end_is_ended(tmp_path: Path) -> None:
    """At its time limit, and with the call."""
    hanging = [sys.executable, "-c", "import time; time.sleep(60)"]
    started = time.perf_counter()
    with pytest.raises(MasteringError, match="not done after 1 s"):
        ffmpeg.run(hanging, log=tmp_path / "log", timeout=1)
    assert time.perf_counter() - started < 20
