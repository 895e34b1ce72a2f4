"""ffmpeg as a child process: found, run with a time limit, and ended with the call that started it."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

from narration.errors import MasteringError

FILTERS = ("ebur128", "alimiter", "aresample", "aformat", "apad", "atrim", "asplit")
ENCODERS = ("libmp3lame", "pcm_s16le")

REMEDY = "run again; `narrate doctor` checks the ffmpeg, NARRATION_FFMPEG names another"
_PROBE_TIMEOUT = 20.0  # s
_TAIL_LINES = 60  # of ffmpeg's messages
_LINE_CHARACTERS = 400
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")
"""The environment variables that ffmpeg gets: those that it needs to start, and no key or password."""


def find_ffmpeg(setting: str | Path | None = None) -> Path:
    """The ffmpeg to use: that of the setting, or one on PATH with every needed filter, or the bundled one.

    Raises `MasteringError` when there is none, or the one of the setting cannot be used.
    """
    if setting is not None:
        path = shutil.which(str(setting))
        if path is None:
            raise MasteringError(
                f"no ffmpeg at {setting}", remedy="set NARRATION_FFMPEG to a program, or leave it out"
            )
        if defect := _defect(path):
            raise MasteringError(
                f"the ffmpeg at {setting} {defect}",
                remedy="leave NARRATION_FFMPEG out to use the bundled one",
            )
        return Path(path)
    on_path = shutil.which("ffmpeg")
    if on_path is not None and not _defect(on_path):
        return Path(on_path)
    return _bundled()


def feed(command: Sequence[str], blocks: Generator[bytes | memoryview], *, timeout: float) -> str:
    """Run `command` with `blocks` as its standard input; return the last lines of its messages.

    An error in `blocks` or an interrupt ends the child as well. Raises `MasteringError` when the child
    fails or has not ended after `timeout` seconds.
    """
    try:
        child = subprocess.Popen(  # noqa: S603  the command is built by this package, never a shell's
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(),
        )
    except OSError as error:
        blocks.close()
        raise MasteringError(f"ffmpeg did not start: {error.strerror}", remedy=REMEDY) from None
    assert child.stdin is not None
    assert child.stderr is not None
    messages: deque[str] = deque(maxlen=_TAIL_LINES)
    reader = threading.Thread(target=_read_messages, args=(child.stderr, messages), daemon=True)
    timed_out = threading.Event()
    timer = threading.Timer(timeout, _kill, args=(child, timed_out))
    timer.daemon = True
    reader.start()
    timer.start()
    try:
        complete = all(_write(child.stdin, block) for block in blocks) and _write(child.stdin, None)
        child.wait()
    finally:
        timer.cancel()
        blocks.close()
        if child.poll() is None:
            child.kill()
            child.wait()
        with suppress(OSError):
            child.stdin.close()
        reader.join()
        child.stderr.close()
    if timed_out.is_set():
        raise MasteringError(f"ffmpeg was not done after {timeout:.0f} s", remedy=REMEDY, retryable=True)
    if child.returncode != 0 or not complete:
        raise _failure(child.returncode, messages)
    return "\n".join(messages)


def run(command: Sequence[str], *, log: Path, timeout: float) -> int:
    """Run `command` without input, write its messages to the file `log`, and return its exit status.

    The child ends with the call, also on an interrupt. Raises `MasteringError` when it does not start or
    has not ended after `timeout` seconds.
    """
    try:
        with log.open("wb") as messages:
            return subprocess.run(  # noqa: S603  the command is built by this package, never a shell's
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=messages,
                timeout=timeout,
                check=False,
                env=_environment(),
            ).returncode
    except OSError as error:
        raise MasteringError(f"ffmpeg did not start: {error.strerror}", remedy=REMEDY) from None
    except subprocess.TimeoutExpired:
        raise MasteringError(
            f"ffmpeg was not done after {timeout:.0f} s", remedy=REMEDY, retryable=True
        ) from None


def _write(stdin: IO[bytes], block: bytes | memoryview | None) -> bool:
    """Write `block`, or close on None; False when the child no longer reads, as its messages will explain."""
    try:
        if block is None:
            stdin.close()
        else:
            stdin.write(block)
    except OSError:
        return False
    return True


def _failure(status: int, messages: Sequence[str]) -> MasteringError:
    if any("No space left" in line for line in messages):
        return MasteringError("no room left for the master", remedy="free some space and run again")
    if status < 0:  # usually the system's, which is out of memory
        return MasteringError(
            f"ffmpeg was ended by signal {-status}",
            remedy="run again, with more memory if it happens again",
            retryable=True,
        )
    errors = [line for line in messages if "rror" in line] or list(messages)
    reason = " / ".join(errors[-3:])[-600:]
    return MasteringError(f"ffmpeg ended with status {status}: {reason or 'it said nothing'}", remedy=REMEDY)


def _kill(child: subprocess.Popen[bytes], timed_out: threading.Event) -> None:
    timed_out.set()
    child.kill()


def _read_messages(stderr: IO[bytes], messages: deque[str]) -> None:
    for line in stderr:
        text = line.decode("utf-8", "replace").strip()
        if text:
            messages.append("".join(c if c.isprintable() else " " for c in text[:_LINE_CHARACTERS]))


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}


@cache
def _defect(path: str) -> str:
    """Why the ffmpeg at `path` cannot be used, as the end of a sentence; empty for one that can."""
    try:
        filters = _output(path, "-filters")
        encoders = _output(path, "-encoders")
        limiter = _output(path, "-h", "filter=alimiter")
    except (OSError, subprocess.SubprocessError) as error:
        return f"does not run: {type(error).__name__}"
    missing = [f"filter {name}" for name in FILTERS if f" {name} " not in filters]
    missing += [f"encoder {name}" for name in ENCODERS if f" {name} " not in encoders]
    if " latency " not in limiter:
        missing.append("option latency of filter alimiter (ffmpeg 5.0)")
    return f"lacks {', '.join(missing)}" if missing else ""


def _output(path: str, *arguments: str) -> str:
    done = subprocess.run(  # noqa: S603  the program was found by name or is that of the setting
        [path, "-hide_banner", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_PROBE_TIMEOUT,
        check=True,
        env=_environment(),
    )
    return done.stdout.decode("utf-8", "replace")


def _bundled() -> Path:
    # The package takes a while to import, and is needed only where no other ffmpeg can be used.
    from imageio_ffmpeg import get_ffmpeg_exe  # noqa: PLC0415

    try:
        return Path(get_ffmpeg_exe())
    except RuntimeError:
        raise MasteringError(
            "no usable ffmpeg: none on PATH, and the package imageio-ffmpeg carries none here",
            remedy="install ffmpeg 5 or later with libmp3lame, or set NARRATION_FFMPEG to one",
        ) from None
