"""The samples of the master: each clip at its place, levelled and faded, with silence between."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.audio import RATE, silence, tone
from support.mastering import Waveform, arranged, narration, read_clip, samples

from narration.audio.files import resample
from narration.errors import MasteringError
from narration.rendering.master import PRESETS, Master, write_master
from narration.rendering.timeline import MASTER_RATE


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Master:
    """The narration mastered where its peaks have to be limited."""
    return write_master(narration()[0], read_clip, tmp_path_factory.mktemp("master"), PRESETS["audiobook"])


def offset(actual: Waveform, expected: Waveform, reach: int = 200) -> int:
    """Samples by which `expected` begins later in `actual` than `reach`, by cross-correlation."""
    length = 1 << (actual.size + expected.size).bit_length()
    spectrum = np.fft.rfft(actual, length) * np.conj(np.fft.rfft(expected, length))
    return int(np.fft.irfft(spectrum, length)[: 2 * reach].argmax()) - reach


@pytest.mark.parametrize("index", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["wav", "mp3"])
def test_every_clip_starts_within_one_sample_of_its_place(master: Master, kind: str, index: int) -> None:
    """Each clip is where the timeline places it, also after limiter, resampling and encoding."""
    place = narration()[0].placements[index - 1]
    expected = resample(read_clip(index), RATE, MASTER_RATE)[2 * place.trim_start : 2 * place.trim_end]
    mastered = np.pad(samples(master.wav if kind == "wav" else master.mp3), 200)
    actual = mastered[place.start : place.end + 400]
    assert master.loudness.limited
    assert abs(offset(actual, expected)) <= 1


def test_between_clips_lies_digital_silence(master: Master) -> None:
    """Between clips the master holds zeros, and each clip fades from and to them."""
    waveform = samples(master.wav)
    position = 0
    for place in narration()[0].placements:
        assert not waveform[position + 50 : place.start - 50].any()
        assert abs(waveform[place.start]) < 1e-3
        assert abs(waveform[place.end - 1]) < 1e-3
        position = place.end


def test_clips_are_levelled_as_the_timeline_says(tmp_path: Path) -> None:
    """The gain of a placement is applied to its clip and to no other."""
    one, two = tone(4, level=0.1), tone(4, level=0.1)
    timeline = arranged([one, two])
    first, second = timeline.placements
    uneven = replace(timeline, placements=(first, replace(second, gain_db=-3.0)))
    waveform = samples(write_master(uneven, lambda _: one, tmp_path, PRESETS["audiobook"]).wav)
    levels = [float(np.std(waveform[place.start + 999 : place.end - 999])) for place in uneven.placements]
    assert 20 * np.log10(levels[1] / levels[0]) == pytest.approx(-3.0, abs=0.05)


def test_edges_fade_over_five_milliseconds(tmp_path: Path) -> None:
    """A clip that begins and ends at full level is faded at both edges, and only there."""
    clip = tone(3, hertz=1_000, level=0.2)
    timeline = arranged([clip])
    place = timeline.placements[0]
    actual = samples(write_master(timeline, lambda _: clip, tmp_path, PRESETS["audiobook"]).wav)
    actual = actual[place.start : place.end]
    body = np.abs(actual[480:-480]).max()
    for edge in (actual, actual[::-1]):
        assert np.abs(edge[:24]).max() < 0.15 * body
        assert np.abs(edge[240:480]).max() == pytest.approx(body, rel=0.02)


def test_a_clip_of_another_length_is_noticed(tmp_path: Path) -> None:
    """A clip of another length than in the timeline is an error that names its chunk; no file is left."""
    with pytest.raises(MasteringError, match="the clip of chunk 2 has 5 samples"):
        write_master(
            narration()[0], lambda n: read_clip(n) if n != 2 else silence(1)[:5], tmp_path, PRESETS["video"]
        )
    assert list(tmp_path.iterdir()) == []
