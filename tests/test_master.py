"""The master: two files as long as the timeline, at the loudness of a preset."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.audio import RATE, silence, speak
from support.mastering import TEXTS, Waveform, arranged, measured, narration, read_clip, samples

from narration.audio.ffmpeg import find_ffmpeg
from narration.audio.files import resample
from narration.errors import MasteringError
from narration.rendering.master import PRESETS, Loudness, Master, Preset, write_master
from narration.rendering.timeline import MASTER_RATE


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Master:
    """The narration mastered to a preset at which its peaks have to be limited."""
    return write_master(narration()[0], read_clip, tmp_path_factory.mktemp("master"), PRESETS["audiobook"])


def test_the_wav_is_as_long_as_the_timeline(master: Master) -> None:
    """The WAV has 48 kHz, 16 bits, one channel and exactly the samples of the timeline."""
    info = soundfile.info(master.wav)
    assert (info.format, info.subtype) == ("WAV", "PCM_16")
    assert samples(master.wav).size == narration()[0].samples == master.samples


def test_the_mp3_decodes_to_the_same_length(master: Master) -> None:
    """By the gapless information of the MP3, decoders give exactly the samples of the timeline."""
    assert samples(master.mp3).size == master.samples
    decoded = subprocess.run(
        [str(find_ffmpeg()), "-v", "error", "-i", str(master.mp3), "-f", "s16le", "-"],
        capture_output=True,
        check=True,
    )
    assert len(decoded.stdout) == 2 * master.samples


def test_the_mp3_is_as_loud_as_the_wav(master: Master) -> None:
    """The MP3 is within 0.1 LU of the WAV, and its peaks are under full scale."""
    integrated, true_peak = measured(master.mp3)
    assert integrated == pytest.approx(master.loudness.integrated_lufs, abs=0.11)
    assert true_peak < 0


def test_the_loudness_reported_is_the_loudness_of_the_file(master: Master) -> None:
    """A separate measurement of the WAV gives the reported loudness and true peak."""
    integrated, true_peak = measured(master.wav)
    assert master.loudness.integrated_lufs == pytest.approx(integrated, abs=0.05)
    assert master.loudness.true_peak_dbtp == pytest.approx(true_peak, abs=0.05)


@pytest.mark.parametrize("name", PRESETS)
def test_a_master_is_at_its_target_or_quieter(name: str, tmp_path: Path) -> None:
    """The loudness is at most 0.5 LU over the target, `on_target` is right, and no peak is over -1 dBTP."""
    loudness = write_master(narration()[0], read_clip, tmp_path, PRESETS[name]).loudness
    assert loudness.true_peak_dbtp <= -1.0
    assert loudness.target_lufs == {"video": -14, "podcast": -16, "audiobook": -19}[name]
    assert loudness.integrated_lufs <= loudness.target_lufs + 0.5
    assert loudness.on_target == (abs(loudness.integrated_lufs - loudness.target_lufs) <= 0.5)
    if not loudness.on_target:
        assert loudness.limited


def test_a_target_that_needs_little_limiting_is_met(master: Master) -> None:
    """If up to 3 dB of limiting suffice, the target is met within 0.5 LU."""
    assert master.loudness.limited
    assert master.loudness.on_target


def test_a_target_that_needs_no_limiting_is_met_by_gain_alone(tmp_path: Path) -> None:
    """If no peak is too high, the waveform is the clip times one number."""
    clip = speak(TEXTS[0])
    timeline = arranged([clip])
    mastered = write_master(timeline, lambda _: clip, tmp_path, Preset("quiet", -30.0))
    assert not mastered.loudness.limited
    assert mastered.loudness.integrated_lufs == pytest.approx(-30.0, abs=0.1)
    place = timeline.placements[0]
    expected = resample(clip, RATE, MASTER_RATE)[2 * place.trim_start + 300 : 2 * place.trim_end - 300]
    actual = samples(mastered.wav)[place.start + 300 : place.end - 300]
    gain = float(actual @ expected / (expected @ expected))
    np.testing.assert_allclose(actual, expected * np.float32(gain), atol=1 / 32_768)


def test_more_than_three_decibels_are_never_limited(tmp_path: Path) -> None:
    """A narration with peaks far above the rest stays quieter, so that the limiter takes 3 dB at most."""
    clip = speak(TEXTS[0]) * np.float32(0.2)
    clip[clip.size // 2 : clip.size // 2 + 12] = 0.9
    timeline = arranged([clip])
    mastered = write_master(timeline, lambda _: clip, tmp_path, PRESETS["video"])
    assert mastered.loudness.limited
    assert not mastered.loudness.on_target
    assert mastered.loudness.integrated_lufs < -20
    peak_before = 20 * np.log10(np.abs(resample(clip, RATE, 4 * MASTER_RATE)).max())
    assert peak_before + mastered.loudness.gain_db <= -1.0 + 3.0 + 0.3


def test_limiting_leaves_the_rest_of_the_waveform_alone(tmp_path: Path) -> None:
    """Half a second from a limited peak the master is the clip times the gain."""
    clip = speak(TEXTS[0]) * np.float32(0.3)
    clip[RATE : RATE + 12] = 0.5
    timeline = arranged([clip])
    mastered = write_master(timeline, lambda _: clip, tmp_path, PRESETS["video"])
    assert mastered.loudness.limited
    place = timeline.placements[0]
    expected = resample(clip, RATE, MASTER_RATE) * np.float32(10 ** (mastered.loudness.gain_db / 20))
    actual = samples(mastered.wav)[place.start : place.end]
    start = 2 * (RATE + RATE // 2)
    quiet = expected[start : 2 * place.trim_end - 300]
    difference: Waveform = actual[start - 2 * place.trim_start :][: quiet.size] - quiet
    assert np.abs(quiet).max() > 0.1
    assert np.abs(difference).max() < 0.002


def test_peaks_between_samples_are_limited_too(tmp_path: Path) -> None:
    """The limiter limits true peaks, here of a tone whose samples are all beside its peaks."""
    clip = speak(TEXTS[0]) * np.float32(0.3)
    moment = np.arange(RATE // 20)
    clip[RATE : RATE + moment.size] = 0.5 * np.sin(2 * np.pi * moment / 3)  # 8 kHz
    mastered = write_master(arranged([clip]), lambda _: clip, tmp_path, PRESETS["video"])
    assert mastered.loudness.limited
    assert measured(mastered.wav)[1] <= -1.0


def digests(mastered: Master) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in (mastered.wav, mastered.mp3)]


def test_the_same_clips_give_the_same_bytes(master: Master, tmp_path: Path) -> None:
    """Mastering again, in another folder and at another time, gives identical files."""
    other = tmp_path / "another folder, with spaces: and 'quotes'"
    other.mkdir()
    time.sleep(1.1)
    assert digests(write_master(narration()[0], read_clip, other, PRESETS["audiobook"])) == digests(master)


def test_no_version_or_time_is_in_the_files(master: Master) -> None:
    """Neither file has metadata such as the version of the encoder or a date."""
    for path in (master.wav, master.mp3):
        data = path.read_bytes()
        assert not re.search(rb"Lav[fc]\d", data)
        assert b"LIST" not in data[:200]


def test_a_silent_narration_is_refused(tmp_path: Path) -> None:
    """A narration without any sound is an error, and no file is left."""
    with pytest.raises(MasteringError, match="silent"):
        write_master(arranged([silence(3)]), lambda _: silence(3), tmp_path, PRESETS["video"])
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_reported_before_any_clip_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk without room for the master is an error at once, with both sizes."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(MasteringError, match=r"no room for the master: \d+ MB needed, 1 MB free"):
        write_master(narration()[0], read_clip, tmp_path, PRESETS["video"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full is a Unix one")
def test_a_disk_that_fills_up_is_reported(tmp_path: Path) -> None:
    """If there is no room to write more, the error says so, and the files are deleted."""
    (tmp_path / "master.wav").symlink_to("/dev/full")
    with pytest.raises(MasteringError, match="no room left for the master"):
        write_master(narration()[0], read_clip, tmp_path, PRESETS["video"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("integrated", "on_target"), [(-14.5, True), (-14.6, False), (-13.5, True)])
def test_on_target_is_within_half_a_unit(integrated: float, on_target: bool) -> None:
    """`on_target` is true up to 0.5 LU from the target."""
    loudness = Loudness("video", -14.0, integrated, -1.0, 3.0, 5.0, limited=True)
    assert loudness.on_target is on_target
