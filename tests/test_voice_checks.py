"""The problems of a voice sample: errors, which keep it out of the store, and warnings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support.audio import RATE, silence, tone
from support.audio_files import encoded
from support.voices import WORDS, recording

from narration.errors import VoiceError
from narration.store import open_store
from narration.voices import Voice, add_voice, recheck_voice
from narration.voices.checks import SampleProblem, examine_sample


def problems_of(waveform: NDArray[np.float32], rate: int = RATE, words: str = WORDS) -> list[SampleProblem]:
    return examine_sample(encoded(waveform, rate=rate), words)[1]


def test_a_good_sample_has_no_problems() -> None:
    """Speech of a usual level with a quiet end, of the words of its transcript."""
    assert problems_of(recording()) == []


def loud(peak: float) -> NDArray[np.float32]:
    """A recording with a gain that takes it to `peak`, clipped at full scale."""
    waveform = recording()
    clipped: NDArray[np.float32] = np.clip(waveform * np.float32(peak / np.abs(waveform).max()), -1, 1)
    return clipped


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
def test_each_problem_is_found(make: Callable[[], NDArray[np.float32]], severity: str, words: str) -> None:
    """With its severity, and with a remedy."""
    problems = [problem for problem in problems_of(make()) if words in problem.message]
    assert [problem.severity for problem in problems] == [severity]
    assert problems[0].remedy


@pytest.mark.parametrize("scale", [4, 32_768])
def test_a_float_sample_beyond_full_scale_has_no_problems(scale: float) -> None:
    """It is scaled down, and is neither clipped nor too loud: clipping is judged before."""
    assert examine_sample(encoded(recording() * np.float32(scale), "WAV", "FLOAT"), WORDS)[1] == []


def test_the_peak_of_a_scaled_sample_is_no_clipping() -> None:
    """Samples beside a peak come to full scale when the waveform is divided by the peak."""
    waveform = np.concatenate([tone(6, hertz=50, level=4), silence(0.2)])
    problems = examine_sample(encoded(waveform, "WAV", "FLOAT"), WORDS)[1]
    assert not any("clipped" in problem.message for problem in problems)


def test_a_clipped_float_sample_is_clipped() -> None:
    """Runs of samples at full scale are clipping in a float file, too."""
    (problem,) = examine_sample(encoded(loud(1.5), "WAV", "FLOAT"), WORDS)[1]
    assert "clipped" in problem.message


def test_a_telephone_recording_has_a_warning() -> None:
    """8 kHz do not carry all that distinguishes a voice."""
    assert any("8000 Hz" in problem.message for problem in problems_of(recording()[::3], rate=8_000))


@pytest.mark.parametrize("transcript", ["Hm.", WORDS * 8], ids=["too-few-words", "too-many"])
def test_a_transcript_of_other_words_has_a_warning(transcript: str) -> None:
    """Words that cannot take as long as the sample are not those that it says."""
    problems = problems_of(recording(), words=transcript)
    assert any("transcript takes about" in problem.message for problem in problems)


@pytest.mark.parametrize("data", [b"", b"RIFF", b"not audio at all" * 100, b"\x00" * 5_000, b"<html></html>"])
def test_bytes_that_are_no_audio_are_one_error(data: bytes) -> None:
    """Nothing else is reported about them."""
    seconds, problems = examine_sample(data, WORDS)
    assert seconds == 0
    assert [problem.severity for problem in problems] == ["error"]


def test_a_small_file_of_a_long_silence_is_refused() -> None:
    """A decompression bomb is not decoded beyond the limit."""
    bomb = encoded(silence(1_000), "FLAC")
    assert len(bomb) < 200_000
    assert "over the limit" in examine_sample(bomb, WORDS)[1][0].message


def test_errors_come_first() -> None:
    """Warnings follow them."""
    clipped = np.clip(recording()[: round(3 * RATE)] * 40, -1, 1)
    severities = [problem.severity for problem in problems_of(clipped)]
    assert severities == sorted(severities)
    assert severities[0] == "error"


def test_an_error_keeps_a_voice_out_and_a_warning_does_not(tmp_path: Path) -> None:
    """A quiet voice is stored and its check says so; a silent one is not stored."""
    voices = open_store(str(tmp_path / "store")).voices
    path = tmp_path / "sample.wav"
    path.write_bytes(encoded(recording() * np.float32(0.01)))
    voice = add_voice(voices, "quiet", str(path), WORDS)
    assert isinstance(voice, Voice)
    assert any("quiet" in problem.message for problem in recheck_voice(voices, "quiet"))
    path.write_bytes(encoded(silence(5)))
    with pytest.raises(VoiceError, match="voice silent: the voice sample is silent"):
        add_voice(voices, "silent", str(path), WORDS)
    assert voices.names() == ["quiet"]
