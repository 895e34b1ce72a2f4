"""The master: every clip at its place, at a stated loudness, in two files, with nothing left behind."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from support.audio import RATE, chunk, silence, speak, tone

from narration.audio import ffmpeg
from narration.audio.ffmpeg import feed, find_ffmpeg
from narration.audio.files import resample
from narration.audio.shape import shape_of
from narration.errors import BadAudio, MasteringError
from narration.rendering import master
from narration.rendering.master import PRESETS, Loudness, Preset, write_master
from narration.rendering.timeline import MASTER_RATE, Pauses, Timeline, arrange

Waveform = NDArray[np.float32]

TEXTS = (
    "Computers were once people, and the word meant a job: long, dull, and important.",
    "In 1946, the first electronic one weighed twenty-seven tons.",
    "No.",
    "It filled a room, and everyone who worked in that room wore a coat, even in the summer.",
)


def arranged(clips: list[Waveform]) -> Timeline:
    chunks = [chunk(n, "sentence") for n in range(1, len(clips))] + [chunk(len(clips), "end")]
    return arrange(chunks, [shape_of(clip, RATE) for clip in clips], Pauses())


@cache
def narration() -> tuple[Timeline, tuple[Waveform, ...]]:
    """Four sentences of real speech at uneven levels, and their Timeline."""
    levels = (0.3, 0.15, 0.3, 0.4)
    clips = [
        np.concatenate([silence(0.3), speak(text) * np.float32(level), silence(0.6)])
        for text, level in zip(TEXTS, levels, strict=True)
    ]
    return arranged(clips), tuple(clips)


def read(index: int) -> Waveform:
    return narration()[1][index - 1]


def samples(path: Path) -> Waveform:
    waveform, rate = soundfile.read(path, dtype="float32", always_2d=True)
    assert rate == MASTER_RATE
    assert waveform.shape[1] == 1
    mono: Waveform = waveform[:, 0]
    return mono


def offset(found: Waveform, wanted: Waveform, reach: int = 200) -> int:
    """Samples by which `wanted` stands later in `found` than `reach`, by cross-correlation."""
    length = 1 << (found.size + wanted.size).bit_length()
    spectrum = np.fft.rfft(found, length) * np.conj(np.fft.rfft(wanted, length))
    return int(np.fft.irfft(spectrum, length)[: 2 * reach].argmax()) - reach


def measured(path: Path) -> tuple[float, float]:
    """Integrated loudness and true peak of a file, by ffmpeg on its own."""
    command = [str(find_ffmpeg()), "-hide_banner", "-nostats", "-i", str(path)]
    graph = ["-af", "ebur128=peak=true:framelog=quiet", "-f", "null", "-"]
    done = subprocess.run([*command, *graph], capture_output=True, check=True)
    reading = master._reading(done.stderr.decode())
    return reading.integrated, reading.true_peak


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> master.Master:
    """The narration mastered where its peaks have to be limited."""
    return write_master(narration()[0], read, tmp_path_factory.mktemp("master"), PRESETS["audiobook"])


def test_the_wav_is_as_long_as_the_timeline(finished: master.Master) -> None:
    """WAV: 48 kHz, 16 bits, one channel, the Timeline's samples to the last one."""
    info = soundfile.info(finished.wav)
    assert (info.format, info.subtype) == ("WAV", "PCM_16")
    assert samples(finished.wav).size == narration()[0].samples == finished.samples


def test_the_mp3_decodes_to_the_same_length(finished: master.Master) -> None:
    """MP3: its gapless information makes decoders give exactly the Timeline's samples."""
    assert samples(finished.mp3).size == finished.samples
    decoded = subprocess.run(
        [str(find_ffmpeg()), "-v", "error", "-i", str(finished.mp3), "-f", "s16le", "-"],
        capture_output=True,
        check=True,
    )
    assert len(decoded.stdout) == 2 * finished.samples


def test_the_mp3_is_as_loud_as_the_wav(finished: master.Master) -> None:
    """The encoder neither lowers the level nor clips: within 0.1 LU, peaks under full scale."""
    integrated, true_peak = measured(finished.mp3)
    assert integrated == pytest.approx(finished.loudness.integrated_lufs, abs=0.11)
    assert true_peak < 0


@pytest.mark.parametrize("index", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["wav", "mp3"])
def test_every_clip_starts_within_one_sample_of_its_place(
    finished: master.Master, kind: str, index: int
) -> None:
    """Each clip correlates best where the Timeline puts it, limiter, resampling and coding included."""
    place = narration()[0].placements[index - 1]
    wanted = resample(read(index), RATE, MASTER_RATE)[2 * place.trim_start : 2 * place.trim_end]
    mastered = np.pad(samples(finished.wav if kind == "wav" else finished.mp3), 200)
    found = mastered[place.start : place.end + 400]
    assert finished.loudness.limited
    assert abs(offset(found, wanted)) <= 1


def test_between_clips_lies_digital_silence(finished: master.Master) -> None:
    """Where the Timeline holds no clip the master holds zeros, and fades join the two without a step."""
    waveform = samples(finished.wav)
    at = 0
    for place in narration()[0].placements:
        assert not waveform[at + 50 : place.start - 50].any()
        assert abs(waveform[place.start]) < 1e-3
        assert abs(waveform[place.end - 1]) < 1e-3
        at = place.end


def test_the_loudness_told_is_the_loudness_of_the_file(finished: master.Master) -> None:
    """What the master says of itself is what a fresh measurement of the WAV says."""
    integrated, true_peak = measured(finished.wav)
    assert finished.loudness.integrated_lufs == pytest.approx(integrated, abs=0.05)
    assert finished.loudness.true_peak_dbtp == pytest.approx(true_peak, abs=0.05)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_met_or_missed_on_the_quiet_side(name: str, tmp_path: Path) -> None:
    """Within 0.5 LU of the target and said so, or quieter and said so; peaks at most -1 dBTP."""
    loudness = write_master(narration()[0], read, tmp_path, PRESETS[name]).loudness
    assert loudness.true_peak_dbtp <= -1.0
    assert loudness.target_lufs == {"video": -14, "podcast": -16, "audiobook": -19}[name]
    assert loudness.integrated_lufs <= loudness.target_lufs + 0.5
    assert loudness.on_target == (abs(loudness.integrated_lufs - loudness.target_lufs) <= 0.5)
    if not loudness.on_target:
        assert loudness.limited


def test_peaks_that_need_little_limiting_do_not_cost_the_target(finished: master.Master) -> None:
    """Where 3 dB of limiting suffice the target is met to 0.5 LU all the same."""
    assert finished.loudness.limited
    assert finished.loudness.on_target


def test_a_target_within_reach_is_hit_by_gain_alone(tmp_path: Path) -> None:
    """Where peaks leave room nothing is limited, and the waveform is the clip times one number."""
    clip = speak(TEXTS[0])
    timeline = arranged([clip])
    done = write_master(timeline, lambda _: clip, tmp_path, Preset("quiet", -30.0))
    assert not done.loudness.limited
    assert done.loudness.integrated_lufs == pytest.approx(-30.0, abs=0.1)
    place = timeline.placements[0]
    wanted = resample(clip, RATE, MASTER_RATE)[2 * place.trim_start + 300 : 2 * place.trim_end - 300]
    found = samples(done.wav)[place.start + 300 : place.end - 300]
    gain = float(found @ wanted / (wanted @ wanted))
    np.testing.assert_allclose(found, wanted * np.float32(gain), atol=1 / 32_768)


def test_more_than_three_decibels_are_never_limited(tmp_path: Path) -> None:
    """Peaks far above the rest keep the whole narration quieter: the gain leaves 3 dB to the limiter."""
    clip = speak(TEXTS[0]) * np.float32(0.2)
    clip[clip.size // 2 : clip.size // 2 + 12] = 0.9
    timeline = arranged([clip])
    done = write_master(timeline, lambda _: clip, tmp_path, PRESETS["video"])
    assert done.loudness.limited
    assert not done.loudness.on_target
    assert done.loudness.integrated_lufs < -20
    peak_before = 20 * np.log10(np.abs(resample(clip, RATE, 4 * MASTER_RATE)).max())
    assert peak_before + done.loudness.gain_db <= -1.0 + 3.0 + 0.3


def test_limiting_leaves_the_rest_of_the_waveform_alone(tmp_path: Path) -> None:
    """Half a second from a limited peak the master is the clip times the gain: nothing is compressed."""
    clip = speak(TEXTS[0]) * np.float32(0.3)
    clip[RATE : RATE + 12] = 0.5
    timeline = arranged([clip])
    done = write_master(timeline, lambda _: clip, tmp_path, PRESETS["video"])
    assert done.loudness.limited
    place = timeline.placements[0]
    wanted = resample(clip, RATE, MASTER_RATE) * np.float32(10 ** (done.loudness.gain_db / 20))
    found = samples(done.wav)[place.start : place.end]
    start = 2 * (RATE + RATE // 2)
    quiet = wanted[start : 2 * place.trim_end - 300]
    difference: Waveform = found[start - 2 * place.trim_start :][: quiet.size] - quiet
    assert np.abs(quiet).max() > 0.1
    assert np.abs(difference).max() < 0.002


def test_peaks_between_samples_are_limited_too(tmp_path: Path) -> None:
    """The limiter sees what a loudspeaker plays, and not only the samples, here all beside the peaks."""
    clip = speak(TEXTS[0]) * np.float32(0.3)
    moment = np.arange(RATE // 20)
    clip[RATE : RATE + moment.size] = 0.5 * np.sin(2 * np.pi * moment / 3)  # 8 kHz
    done = write_master(arranged([clip]), lambda _: clip, tmp_path, PRESETS["video"])
    assert done.loudness.limited
    assert measured(done.wav)[1] <= -1.0


def test_clips_are_levelled_as_the_timeline_says(tmp_path: Path) -> None:
    """A placement's own gain is applied to its clip and to no other."""
    one, two = tone(4, level=0.1), tone(4, level=0.1)
    timeline = arranged([one, two])
    first, second = timeline.placements
    uneven = replace(timeline, placements=(first, replace(second, gain_db=-3.0)))
    waveform = samples(write_master(uneven, lambda _: one, tmp_path, PRESETS["audiobook"]).wav)
    levels = [float(np.std(waveform[place.start + 999 : place.end - 999])) for place in uneven.placements]
    assert 20 * np.log10(levels[1] / levels[0]) == pytest.approx(-3.0, abs=0.05)


def test_edges_fade_over_five_milliseconds(tmp_path: Path) -> None:
    """A clip that begins and ends in full sound is faded at both edges, and only there."""
    clip = tone(3, hertz=1_000, level=0.2)
    timeline = arranged([clip])
    place = timeline.placements[0]
    found = samples(write_master(timeline, lambda _: clip, tmp_path, PRESETS["audiobook"]).wav)
    found = found[place.start : place.end]
    body = np.abs(found[480:-480]).max()
    for edge in (found, found[::-1]):
        assert np.abs(edge[:24]).max() < 0.15 * body
        assert np.abs(edge[240:480]).max() == pytest.approx(body, rel=0.02)


def digests(done: master.Master) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in (done.wav, done.mp3)]


def test_the_same_clips_give_the_same_bytes(finished: master.Master, tmp_path: Path) -> None:
    """Mastering twice, in another folder and at another time, gives identical files."""
    other = tmp_path / "another folder, with spaces: and 'quotes'"
    other.mkdir()
    time.sleep(1.1)
    assert digests(write_master(narration()[0], read, other, PRESETS["audiobook"])) == digests(finished)


def test_no_version_or_clock_enters_the_files(finished: master.Master) -> None:
    """Neither file carries metadata: not the encoder's version, not a date."""
    for path in (finished.wav, finished.mp3):
        data = path.read_bytes()
        assert not re.search(rb"Lav[fc]\d", data)
        assert b"LIST" not in data[:200]


def test_a_clip_of_another_length_is_noticed(tmp_path: Path) -> None:
    """A clip that is not the one arranged fails by the chunk's number, and leaves nothing behind."""
    with pytest.raises(MasteringError, match="the clip of chunk 2 has 5 samples"):
        write_master(
            narration()[0], lambda n: read(n) if n != 2 else silence(1)[:5], tmp_path, PRESETS["video"]
        )
    assert list(tmp_path.iterdir()) == []


def test_silence_cannot_be_brought_to_a_loudness(tmp_path: Path) -> None:
    """A narration without any sound is an error, not a master of amplified nothing."""
    with pytest.raises(MasteringError, match="silent"):
        write_master(arranged([silence(3)]), lambda _: silence(3), tmp_path, PRESETS["video"])
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever happens, every child that was started has ended, and no thread goes on."""
    before = set(threading.enumerate())
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(ffmpeg, "subprocess", replaced(subprocess, Popen=start))
    yield
    assert started
    assert all(child.returncode is not None for child in started)
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert set(threading.enumerate()) <= before


def replaced(module: ModuleType, **names: object) -> SimpleNamespace:
    """`module`'s names with some replaced."""
    return SimpleNamespace(**(vars(module) | names))


@pytest.mark.usefixtures("children")
@pytest.mark.parametrize("pass_number", [1, 2])
def test_a_reader_that_fails_ends_everything(tmp_path: Path, pass_number: int) -> None:
    """An error while reading clips comes through as it is; no child, thread or file stays."""
    calls: list[int] = []

    def failing(index: int) -> Waveform:
        calls.append(index)
        if calls.count(3) == pass_number and index == 3:
            raise BadAudio("flipped")
        return read(index)

    with pytest.raises(BadAudio, match="flipped"):
        write_master(narration()[0], failing, tmp_path, PRESETS["video"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("children")
def test_a_readers_broken_pipe_is_not_ffmpegs(tmp_path: Path) -> None:
    """A store's connection that breaks while clips are read is never taken for the end of the audio."""

    def failing(index: int) -> Waveform:
        if index == 4:
            raise BrokenPipeError("the store went away")
        return read(index)

    with pytest.raises(BrokenPipeError, match="the store went away"):
        write_master(narration()[0], failing, tmp_path, PRESETS["video"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("children")
def test_a_child_that_stops_reading_has_failed() -> None:
    """A child that ends well without having read everything has not done its work."""
    with pytest.raises(MasteringError, match="status 0: it said nothing"):
        feed([sys.executable, "-c", "import sys; sys.stdin.close()"], _endless(), timeout=30)


@pytest.mark.usefixtures("children")
def test_mastering_stops_when_told(tmp_path: Path) -> None:
    """Setting `stop` from another thread ends the work, with nothing left behind."""
    stop = threading.Event()

    def reader(index: int) -> Waveform:
        stop.set()
        return read(index)

    with pytest.raises(MasteringError, match="stopped"):
        write_master(narration()[0], reader, tmp_path, PRESETS["video"], stop=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("children")
def test_an_ffmpeg_that_hangs_is_ended() -> None:
    """A child that reads nothing and says nothing is killed when its time is up."""
    started = time.monotonic()
    with pytest.raises(MasteringError, match="not done after 0 s") as caught:
        feed([sys.executable, "-c", "import time; time.sleep(60)"], _endless(), timeout=0.4)
    assert caught.value.retryable
    assert time.monotonic() - started < 10


def _endless() -> Generator[bytes | memoryview]:
    while True:
        yield bytes(65_536)


@pytest.mark.usefixtures("children")
def test_what_ffmpeg_says_last_is_in_the_error() -> None:
    """A failing child's last words are told in one bounded, printable line."""
    line = "'cannot\\x1b[31m do it' + 'y' * 999 + '\\n'"
    program = f"import sys; sys.stderr.write('x' * 9999 + '\\n' + ({line}) * 500); sys.exit(3)"
    with pytest.raises(MasteringError, match=r"status 3: .*cannot .*do it") as caught:
        feed([sys.executable, "-c", program], _endless(), timeout=30)
    assert len(str(caught.value)) < 800
    assert str(caught.value).isprintable()


def test_no_room_is_told_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without room for the master is refused at once, with the sizes."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(MasteringError, match=r"no room for the master: \d+ MB needed, 1 MB free"):
        write_master(narration()[0], read, tmp_path, PRESETS["video"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the device that is always full is a Unix one")
def test_a_disk_that_fills_up_is_named(tmp_path: Path) -> None:
    """When writing fails for want of room the error says that, and the files go."""
    (tmp_path / "master.wav").symlink_to("/dev/full")
    with pytest.raises(MasteringError, match="no room left for the master"):
        write_master(narration()[0], read, tmp_path, PRESETS["video"])
    assert list(tmp_path.iterdir()) == []


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_given_ffmpeg_must_be_one(tmp_path: Path) -> None:
    """A path that is missing, or a program that lacks what is needed, is refused with the remedy."""
    with pytest.raises(MasteringError, match=r"no ffmpeg at .*nowhere.*NARRATION_FFMPEG"):
        find_ffmpeg(tmp_path / "nowhere")
    if sys.platform != "win32":
        weak = program(tmp_path / "weak", "#!/bin/sh\necho ' .. volume  A->A '\n")
        with pytest.raises(MasteringError, match=r"lacks filter ebur128, .*encoder libmp3lame"):
            find_ffmpeg(weak)
        broken = program(tmp_path / "broken", "#!/bin/sh\nexit 1\n")
        with pytest.raises(MasteringError, match="does not run"):
            find_ffmpeg(broken)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-ins on PATH are shell scripts")
def test_path_comes_before_the_bundled_one_if_it_can_do_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ffmpeg on PATH is used when it has every filter, and passed over when it has not."""
    bundled = ffmpeg._bundled()
    (tmp_path / "weak").mkdir()
    program(tmp_path / "weak/ffmpeg", "#!/bin/sh\necho nothing\n")
    monkeypatch.setenv("PATH", str(tmp_path / "weak") + os.pathsep + os.environ["PATH"])
    assert find_ffmpeg() == bundled
    (tmp_path / "able").mkdir()
    able = program(tmp_path / "able/ffmpeg", f'#!/bin/sh\nexec "{bundled}" "$@"\n')
    monkeypatch.setenv("PATH", str(tmp_path / "able") + os.pathsep + os.environ["PATH"])
    assert find_ffmpeg() == able


def test_ffmpeg_gets_no_keys_and_only_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's environment holds no setting of ours, and its input may come from the pipe alone."""
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_secret")
    assert "rpa_secret" not in str(ffmpeg._environment())
    command = master._writing(find_ffmpeg(), 10, tmp_path / "a.wav", tmp_path / "a.mp3", limited=True)
    assert command[command.index("-protocol_whitelist") + 1] == "pipe"
    assert [word for word in command if word.endswith((".wav", ".mp3"))] == [
        f"file:{tmp_path / 'a.wav'}",
        f"file:{tmp_path / 'a.mp3'}",
    ]


@pytest.mark.parametrize(("integrated", "on_target"), [(-14.5, True), (-14.6, False), (-13.5, True)])
def test_on_target_is_within_half_a_unit(integrated: float, on_target: bool) -> None:
    """`on_target` holds within 0.5 LU and no further."""
    loudness = Loudness("video", -14.0, integrated, -1.0, 3.0, 5.0, limited=True)
    assert loudness.on_target is on_target
