"""A clip's shape and loudness, on real speech and on synthetic signals."""

from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest
from numpy.typing import NDArray
from support.audio import RATE, silence, speak, tone

from narration.audio.clip_shape import shape_of
from narration.audio.ffmpeg import find_ffmpeg
from narration.audio.loudness import integrated_loudness, k_weighted

SENTENCE = "Computers were once people, and the word meant a job: long, dull, and important."
SPOKEN = [
    (SENTENCE, "en-us", 175),
    (SENTENCE, "en-us", 260),
    ("Es war einmal ein König, der hatte eine Tochter.", "de", 120),
]


def ffmpeg_loudness(waveform: NDArray[np.float32]) -> float:
    arguments = ["-hide_banner", "-nostats", "-f", "f32le", "-ar", "24000", "-ac", "1", "-i", "pipe:0"]
    graph = ["-af", "aresample=48000,ebur128=framelog=quiet", "-f", "null", "-"]
    done = subprocess.run(
        [str(find_ffmpeg()), *arguments, *graph], input=waveform.tobytes(), capture_output=True, check=True
    )
    return float(re.findall(r"I:\s+(\S+) LUFS", done.stderr.decode())[-1])


@pytest.mark.parametrize(("text", "voice", "wpm"), SPOKEN)
@pytest.mark.parametrize("gain", [0.05, 1.0])
def test_loudness_agrees_with_ffmpeg(text: str, voice: str, wpm: int, gain: float) -> None:
    """The loudness of speech is within 0.2 LU of ffmpeg's EBU R128 measure, for loud and quiet clips."""
    waveform = speak(text, voice=voice, wpm=wpm) * np.float32(gain)
    measured = integrated_loudness(waveform, RATE)
    assert measured is not None
    assert abs(measured - ffmpeg_loudness(waveform)) < 0.2


def test_loudness_is_calibrated() -> None:
    """A full-scale sine of 997 Hz reads -3.01 LUFS, as the standard says."""
    assert integrated_loudness(tone(5, hertz=997, level=1.0), RATE) == pytest.approx(-3.01, abs=0.05)


def test_filtering_in_blocks_equals_filtering_at_once() -> None:
    """A waveform filtered block by block is the waveform filtered in one transform."""
    waveform = tone(9, hertz=40) + tone(9, hertz=3_000)
    at_once = k_weighted(waveform, RATE, transform=2**19)
    np.testing.assert_allclose(k_weighted(waveform, RATE), at_once, atol=0.01)


def test_silence_does_not_dilute_loudness() -> None:
    """Long silence around speech leaves its loudness alone: the gates drop it."""
    spoken = speak(SENTENCE)
    alone = integrated_loudness(spoken, RATE)
    padded = integrated_loudness(np.concatenate([silence(5), spoken, silence(5)]), RATE)
    assert alone is not None
    assert padded == pytest.approx(alone, abs=0.3)


def test_silence_and_very_short_clips_have_no_loudness() -> None:
    """Silence, and less than one block, give None instead of a number."""
    assert integrated_loudness(silence(3), RATE) is None
    assert integrated_loudness(tone(0.39), RATE) is None


@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_edges_are_found_at_any_level(gain: float) -> None:
    """Silence around speech is found within 30 ms, relative to the clip's own level."""
    sound = tone(1.0) * np.float32(gain)
    shape = shape_of(np.concatenate([silence(0.5), sound, silence(0.8)]), RATE)
    assert shape.speech_start / RATE == pytest.approx(0.5, abs=0.03)
    assert shape.speech_end / RATE == pytest.approx(1.5, abs=0.03)


def test_no_sound_above_the_threshold_is_cut() -> None:
    """Outside the bounds of the speech nothing is louder than 40 dB below the loudest frame."""
    spoken = speak(SENTENCE)
    shape = shape_of(np.concatenate([silence(0.5), spoken, silence(0.5)]), RATE)
    outside = np.concatenate([silence(0.5), spoken, silence(0.5)])
    outside[shape.speech_start : shape.speech_end] = 0
    loudest = np.sqrt(np.square(spoken[: spoken.size // 720 * 720].reshape(-1, 720)).mean(axis=1)).max()
    assert np.abs(outside).max() < 10 ** (-30 / 20) * loudest


def test_noise_under_speech_counts_as_silence() -> None:
    """A hiss 50 dB under the speech is trimmed like silence."""
    noise = np.random.default_rng(1).standard_normal(3 * RATE).astype(np.float32)
    waveform = np.concatenate([silence(1), tone(1), silence(1)]) + noise * np.float32(0.21 * 10 ** (-50 / 20))
    shape = shape_of(waveform, RATE)
    assert shape.speech_start / RATE == pytest.approx(1.0, abs=0.03)
    assert shape.speech_end / RATE == pytest.approx(2.0, abs=0.03)


@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_pauses_are_found_where_they_are(gain: float) -> None:
    """Silence of 120 ms and more within the speech is a pause; shorter silence and the edges are not."""
    gaps = [0.5, 0.15, 0.08]
    parts = [silence(0.3), tone(1)]
    for gap in gaps:
        parts += [silence(gap), tone(1)]
    shape = shape_of(np.concatenate([*parts, silence(0.3)]) * np.float32(gain), RATE)
    assert [(start / RATE, end / RATE) for start, end in shape.pauses] == [
        pytest.approx((1.3, 1.8), abs=0.03),
        pytest.approx((2.8, 2.95), abs=0.03),
    ]


def test_sentences_are_separated_by_pauses() -> None:
    """Real speech pauses between its sentences, and the pauses are in order inside the speech."""
    shape = shape_of(speak("One thing is clear. Another thing is not! Is it? It is."), RATE)
    assert len(shape.pauses) >= 3
    flat = [moment for pause in shape.pauses for moment in pause]
    assert flat == sorted(flat)
    assert shape.speech_start < flat[0]
    assert flat[-1] < shape.speech_end


def test_only_clips_of_three_seconds_have_a_loudness() -> None:
    """A clip with less than 3 s of speech has none, since the measure is unreliable there."""
    assert shape_of(tone(2.9), RATE).loudness is None
    assert shape_of(tone(3.1), RATE).loudness is not None


@pytest.mark.parametrize("samples", [0, 1, 5, 239, 240, 241, 721])
def test_very_short_clips_have_a_shape(samples: int) -> None:
    """A clip of any number of samples has a shape; the speech of a silent one is the whole clip."""
    assert shape_of(np.zeros(samples, np.float32), RATE).speech_end == samples
    shape = shape_of(np.ones(samples, np.float32), RATE)
    assert 0 <= shape.speech_start <= shape.speech_end <= samples
