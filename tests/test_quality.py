"""The quality check of clips: it flags bad audio and refuses no real speech."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from support.audio import RATE, silence, speak, tone

from narration.audio.quality import FRAME_SAMPLES, QualityVerdict, Severity, inspect_clip

TEXT = "Computers were once people, and the word meant a job: long, dull, and important."

SPEECH = [
    (TEXT, "en-us"),
    ("No.", "en-us"),
    ("AI", "en-us"),
    ("Chapter 1", "en-us"),
    ("INTRODUCTION", "en-us"),
    ("The year 2026 will see $1,000,000,000 spent by NASA, the EU and IBM.", "en-us"),
    ("1, 2, 3, 4, 5, 6, 7, 8, 9, 10.", "en-us"),
    ("Version 2.0.1 of HTTP/2 over TLS 1.3 uses port 443: see https://example.com/a?b=c.", "en-us"),
    ("Shh... hmm, xkcd!", "en-us"),
    ("Il faut cultiver notre jardin, dit Candide.", "fr-be"),
    ("Chrząszcz brzmi w trzcinie w Szczebrzeszynie.", "pl"),
    ("今天天气很好，我们去公园散步吧。", "cmn"),  # noqa: RUF001  Chinese
    ("اليوم سوف نتحدث عن التاريخ.", "ar"),
    ("สวัสดีครับ วันนี้เราจะพูดถึงประวัติศาสตร์", "th"),
]


def in_frames(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """`waveform` padded to whole frames, as a worker sends it."""
    return np.pad(waveform, (0, -waveform.size % FRAME_SAMPLES))


def judge(
    waveform: NDArray[np.float32],
    text: str = TEXT,
    *,
    rate: int = RATE,
    finish_reason: str = "stop",
    frames: int | None = None,
) -> QualityVerdict:
    whole = in_frames(waveform)
    frames = whole.size // FRAME_SAMPLES if frames is None else frames
    return inspect_clip(whole, rate, text=text, finish_reason=finish_reason, frames=frames)


def names(verdict: QualityVerdict) -> set[str]:
    return {flag.name for flag in verdict.flags}


@pytest.mark.parametrize(("text", "voice"), SPEECH)
@pytest.mark.parametrize("wpm", [100, 170, 260])
def test_real_speech_is_accepted(text: str, voice: str, wpm: int) -> None:
    """Slow or fast, loud or quiet, with numbers, capitals or in other scripts, it has no fault."""
    spoken = speak(text, voice=voice, wpm=wpm)
    for gain in (0.03, 1.0):
        verdict = judge(spoken * np.float32(gain), text)
        assert verdict.acceptable, verdict.flags
        assert verdict.score > 0.7


def test_speech_between_long_silences_is_accepted() -> None:
    """Silence at the edges is no fault: rendering cuts it."""
    assert judge(np.concatenate([silence(2), speak(TEXT), silence(4)])).acceptable


def test_noise_under_speech_is_accepted() -> None:
    """A hiss 40 dB under the voice is no fault."""
    spoken = speak(TEXT)
    noise = np.random.default_rng(3).standard_normal(spoken.size).astype(np.float32) * np.float32(0.002)
    assert judge(spoken + noise).acceptable


def broken(value: float) -> NDArray[np.float32]:
    spoken = speak(TEXT)
    spoken[4_000] = value
    return spoken


@pytest.mark.parametrize(
    ("inspect", "name"),
    [
        (lambda: judge(speak(TEXT), rate=22_050), "sample-rate"),
        (lambda: judge(speak(TEXT), frames=10), "length"),
        (lambda: judge(speak(TEXT), frames=speak(TEXT).size // FRAME_SAMPLES + 3), "length"),
        (lambda: judge(speak(TEXT), finish_reason="length"), "cut-at-cap"),
        (lambda: judge(broken(np.nan)), "not-finite"),
        (lambda: judge(broken(np.inf)), "not-finite"),
        (lambda: judge(silence(5)), "silent"),
        (lambda: judge(speak(TEXT) * np.float32(0.0005)), "silent"),
        (lambda: judge(silence(5) + np.float32(1e-4)), "silent"),
        (lambda: judge(silence(0), frames=0), "empty"),
        (lambda: judge(silence(0), frames=100), "empty"),
    ],
)
def test_an_unusable_clip_is_fatal(inspect: Callable[[], QualityVerdict], name: str) -> None:
    """Another rate or length, samples that are not finite, silence, an end at the cap: never stored."""
    verdict = inspect()
    assert name in names(verdict)
    assert verdict.fatal
    assert not verdict.acceptable
    assert verdict.score == 0


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: np.clip(speak(TEXT) * 8, -1, 1), "clipping"),
        (lambda: speak("Computers.")[: RATE // 2], "too-short"),
        (lambda: np.concatenate([speak(TEXT)] * 5), "too-long"),
        (lambda: np.concatenate([speak(TEXT), silence(3.2), speak("people")]), "dead-air"),
        (lambda: speak(TEXT)[: round(1.05 * RATE)], "too-short"),
        (lambda: tone(6), "no-speech"),
        (lambda: np.random.default_rng(0).normal(0, 0.1, 6 * RATE).astype(np.float32), "no-speech"),
        (lambda: np.concatenate([speak(TEXT), tone(0.5, level=0.5)]), "abrupt-end"),
    ],
)
def test_a_clip_that_another_seed_may_improve_has_a_fault(
    make: Callable[[], NDArray[np.float32]], name: str
) -> None:
    """Clipping, missing or extra words, dead air, a hum, an abrupt end: another attempt comes first."""
    verdict = judge(make().astype(np.float32))
    assert name in names(verdict)
    assert not verdict.fatal
    assert not verdict.acceptable
    assert 0 < verdict.score < 0.8


def test_a_long_pause_is_only_noted() -> None:
    """Two seconds of silence between sentences are reported and accepted."""
    clip = np.concatenate([speak("Computers were once people."), silence(1.8), speak("They were.")])
    verdict = judge(clip)
    assert [(flag.name, flag.severity) for flag in verdict.flags] == [("long-pause", Severity.NOTE)]
    assert verdict.acceptable


def test_full_scale_peaks_are_not_clipping() -> None:
    """Single samples at full scale are peaks; only several in a row are clipped."""
    peaks = np.abs(tone(4, level=1.0)) >= 0.999
    assert peaks.mean() > 0.01
    assert "clipping" not in names(judge(tone(4, level=1.0)))


def test_the_best_attempt_has_the_best_score() -> None:
    """Fewer faults score higher, and of two without faults the one at the expected pace."""
    good, fast = judge(speak(TEXT, wpm=165)), judge(speak(TEXT, wpm=260))
    bad = judge(np.clip(speak(TEXT) * 8, -1, 1))
    worse = judge(np.clip(np.concatenate([speak(TEXT)] * 5) * 8, -1, 1))
    assert good.score > fast.score > bad.score > worse.score > 0


def test_a_flag_has_its_figures_in_words() -> None:
    """A flag's detail states the measured and the expected value."""
    (flag,) = judge(speak(TEXT)[: round(1.05 * RATE)] * np.float32(0.1)).flags
    assert (flag.name, flag.detail) == ("too-short", "1.0 s for words that take 5.9 s")
