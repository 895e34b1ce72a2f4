"""ffmpeg as a child process: which program is run, and that it ends with the call."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from support.mastering import Waveform, narration, read_clip

from narration.audio.ffmpeg import feed, find_ffmpeg
from narration.errors import BadAudio, MasteringError
from narration.rendering.master import PRESETS, write_master


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The child processes that were started. At the end each has ended, and no thread is left."""
    before = set(threading.enumerate())
    popen = subprocess.Popen
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    yield started
    assert started
    assert all(child.returncode is not None for child in started)
    deadline = time.monotonic() + 5
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert set(threading.enumerate()) <= before


def endless_silence() -> Generator[bytes | memoryview]:
    while True:
        yield bytes(65_536)


@pytest.mark.usefixtures("children")
@pytest.mark.parametrize("pass_number", [1, 2])
def test_an_error_of_the_clip_reader_ends_ffmpeg(tmp_path: Path, pass_number: int) -> None:
    """An error while reading clips is raised as it is; no child, thread or file is left."""
    calls: list[int] = []

    def failing(index: int) -> Waveform:
        calls.append(index)
        if calls.count(3) == pass_number and index == 3:
            raise BadAudio("flipped")
        return read_clip(index)

    with pytest.raises(BadAudio, match="flipped"):
        write_master(narration()[0], failing, tmp_path, PRESETS["video"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("children")
def test_a_broken_pipe_of_the_clip_reader_is_not_taken_for_ffmpegs(tmp_path: Path) -> None:
    """A connection to the store that breaks while clips are read is not the end of ffmpeg's input."""

    def failing(index: int) -> Waveform:
        if index == 4:
            raise BrokenPipeError("the store closed it")
        return read_clip(index)

    with pytest.raises(BrokenPipeError, match="the store closed it"):
        write_master(narration()[0], failing, tmp_path, PRESETS["video"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("children")
def test_a_child_that_stops_reading_has_failed() -> None:
    """A child that ends with status 0 without having read its whole input is an error."""
    with pytest.raises(MasteringError, match="status 0: it said nothing"):
        feed([sys.executable, "-c", "import sys; sys.stdin.close()"], endless_silence(), timeout=30)


@pytest.mark.usefixtures("children")
def test_mastering_stops_when_stop_is_set(tmp_path: Path) -> None:
    """Setting `stop` from another thread ends the work, and no file is left."""
    stop = threading.Event()

    def reader(index: int) -> Waveform:
        stop.set()
        return read_clip(index)

    with pytest.raises(MasteringError, match="stopped"):
        write_master(narration()[0], reader, tmp_path, PRESETS["video"], stop=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("children")
def test_an_ffmpeg_that_hangs_is_ended() -> None:
    """A child that reads and writes nothing is killed when its time is over."""
    started = time.monotonic()
    with pytest.raises(MasteringError, match="not done after 0 s") as caught:
        feed([sys.executable, "-c", "import time; time.sleep(60)"], endless_silence(), timeout=0.4)
    assert caught.value.retryable
    assert time.monotonic() - started < 10


@pytest.mark.usefixtures("children")
def test_the_last_messages_of_ffmpeg_are_in_the_error() -> None:
    """The error of a failed child quotes its last messages in one printable line of bounded length."""
    line = "'cannot\\x1b[31m do it' + 'y' * 999 + '\\n'"
    program = f"import sys; sys.stderr.write('x' * 9999 + '\\n' + ({line}) * 500); sys.exit(3)"
    with pytest.raises(MasteringError, match=r"status 3: .*cannot .*do it") as caught:
        feed([sys.executable, "-c", program], endless_silence(), timeout=30)
    assert len(str(caught.value)) < 800
    assert str(caught.value).isprintable()


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_configured_ffmpeg_must_be_usable(tmp_path: Path) -> None:
    """A missing path, or a program without the filters needed, is refused with a remedy."""
    with pytest.raises(MasteringError, match=r"no ffmpeg at .*nowhere.*NARRATION_FFMPEG"):
        find_ffmpeg(tmp_path / "nowhere")
    if sys.platform != "win32":
        weak = program(tmp_path / "weak", "#!/bin/sh\necho ' .. volume  A->A '\n")
        with pytest.raises(MasteringError, match=r"lacks filter ebur128, .*encoder libmp3lame"):
            find_ffmpeg(weak)
        broken = program(tmp_path / "broken", "#!/bin/sh\nexit 1\n")
        with pytest.raises(MasteringError, match="does not run"):
            find_ffmpeg(broken)


@pytest.mark.skipif(sys.platform == "win32", reason="the programs on PATH are shell scripts")
def test_an_ffmpeg_on_path_is_preferred_to_the_bundled_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ffmpeg on PATH is used if it has every filter, else the bundled one is."""
    bundled = Path(get_ffmpeg_exe())
    (tmp_path / "weak").mkdir()
    program(tmp_path / "weak/ffmpeg", "#!/bin/sh\necho nothing\n")
    monkeypatch.setenv("PATH", str(tmp_path / "weak") + os.pathsep + os.environ["PATH"])
    assert find_ffmpeg() == bundled
    (tmp_path / "able").mkdir()
    able = program(tmp_path / "able/ffmpeg", f'#!/bin/sh\nexec "{bundled}" "$@"\n')
    monkeypatch.setenv("PATH", str(tmp_path / "able") + os.pathsep + os.environ["PATH"])
    assert find_ffmpeg() == able


@pytest.mark.usefixtures("children")
def test_ffmpeg_gets_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child's environment holds what it needs to start and none of this program's settings."""
    monkeypatch.setenv("RUNPOD_API_KEY", "rpa_secret")
    program = (
        "import os, sys; sys.stdin.buffer.read();"
        "sys.stderr.write(str(['PATH' in os.environ, 'rpa_secret' in os.environ.values()]))"
    )
    assert feed([sys.executable, "-c", program], (bytes(8) for _ in range(3)), timeout=30) == "[True, False]"


def test_ffmpeg_reads_the_pipe_and_writes_local_files(
    tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    """No name in the command leads to the network: the input is the pipe, and each output a `file:`."""
    write_master(narration()[0], read_clip, tmp_path, PRESETS["video"])
    command = [str(argument) for argument in cast("list[str]", children[-1].args)]
    assert command[command.index("-protocol_whitelist") + 1] == "pipe"
    assert [argument for argument in command if argument.endswith((".wav", ".mp3"))] == [
        f"file:{tmp_path / 'master.wav'}",
        f"file:{tmp_path / 'master.mp3'}",
    ]
