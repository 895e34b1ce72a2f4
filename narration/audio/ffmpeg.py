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
_TAIL_LINES = 60
_LINE_CHARACTERS = 400
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")
"""What the child inherits: enough to start, and none of the keys that live beside it."""


def find_ffmpeg(given: str | Path | None = None) -> Path:
    """The ffmpeg to use: `given`, else one on PATH that can do all that is needed, else the bundled one.

    Raises `MasteringError` when there is none, or `given` cannot be used.
    """
    if given is not None:
        path = shutil.which(str(given))
        if path is None:
            raise MasteringError(
                f"no ffmpeg at {given}", remedy="set NARRATION_FFMPEG to a program, or leave it out"
            )
        if lacking := _lacking(path):
            raise MasteringError(
                f"the ffmpeg at {given} {lacking}", remedy="leave NARRATION_FFMPEG out to use the bundled one"
            )
        return Path(path)
    on_path = shutil.which("ffmpeg")
    if on_path is not None and not _lacking(on_path):
        return Path(on_path)
    return _bundled()


def feed(command: Sequence[str], blocks: Generator[bytes | memoryview], *, timeout: float) -> str:
    """Run `command` with `blocks` as its standard input; return the end of what it said.

    Whatever ends the call early, an error while making blocks or an interrupt, ends the child
    too. Raises `MasteringError` when it fails or is not done after `timeout` seconds.
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
    said: deque[str] = deque(maxlen=_TAIL_LINES)
    listener = threading.Thread(target=_listen, args=(child.stderr, said), daemon=True)
    overdue = threading.Event()
    watch = threading.Timer(timeout, _end, args=(child, overdue))
    watch.daemon = True
    listener.start()
    watch.start()
    try:
        whole = all(_taken(child.stdin, block) for block in blocks) and _taken(child.stdin, None)
        child.wait()
    finally:
        watch.cancel()
        blocks.close()
        if child.poll() is None:
            child.kill()
            child.wait()
        with suppress(OSError):
            child.stdin.close()
        listener.join()
        child.stderr.close()
    if overdue.is_set():
        raise MasteringError(f"ffmpeg was not done after {timeout:.0f} s", remedy=REMEDY, retryable=True)
    if child.returncode != 0 or not whole:
        raise _failure(child.returncode, said)
    return "\n".join(said)


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


def _taken(sink: IO[bytes], block: bytes | memoryview | None) -> bool:
    """Write `block`, or close on None; False when the child no longer reads: it will say why."""
    try:
        if block is None:
            sink.close()
        else:
            sink.write(block)
    except OSError:
        return False
    return True


def _failure(status: int, said: Sequence[str]) -> MasteringError:
    if any("No space left" in line for line in said):
        return MasteringError("no room left for the master", remedy="free some space and run again")
    if status < 0:  # by another's signal, for want of memory as a rule
        return MasteringError(
            f"ffmpeg was ended by signal {-status}",
            remedy="run again, with more memory if it happens again",
            retryable=True,
        )
    telling = [line for line in said if "rror" in line] or list(said)
    told = " / ".join(telling[-3:])
    return MasteringError(
        f"ffmpeg ended with status {status}: {told[-600:] or 'it said nothing'}", remedy=REMEDY
    )


def _end(child: subprocess.Popen[bytes], overdue: threading.Event) -> None:
    overdue.set()
    child.kill()


def _listen(stream: IO[bytes], said: deque[str]) -> None:
    for line in stream:
        text = line.decode("utf-8", "replace").strip()
        if text:
            said.append("".join(c if c.isprintable() else " " for c in text[:_LINE_CHARACTERS]))


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}


@cache
def _lacking(path: str) -> str:
    """What `path` cannot do, as the end of a sentence; empty when it can do everything."""
    try:
        filters = _ask(path, "-filters")
        encoders = _ask(path, "-encoders")
        limiter = _ask(path, "-h", "filter=alimiter")
    except (OSError, subprocess.SubprocessError) as error:
        return f"does not run: {type(error).__name__}"
    missing = [f"filter {name}" for name in FILTERS if f" {name} " not in filters]
    missing += [f"encoder {name}" for name in ENCODERS if f" {name} " not in encoders]
    if " latency " not in limiter:
        missing.append("option latency of filter alimiter (ffmpeg 5.0)")
    return f"lacks {', '.join(missing)}" if missing else ""


def _ask(path: str, *question: str) -> str:
    answer = subprocess.run(  # noqa: S603  the program was found by name or given by the person
        [path, "-hide_banner", *question],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_PROBE_TIMEOUT,
        check=True,
        env=_environment(),
    )
    return answer.stdout.decode("utf-8", "replace")


def _bundled() -> Path:
    # The package takes a while to import, and only where no other ffmpeg serves.
    from imageio_ffmpeg import get_ffmpeg_exe  # noqa: PLC0415

    try:
        return Path(get_ffmpeg_exe())
    except RuntimeError:
        raise MasteringError(
            "no usable ffmpeg: none on PATH, and the package imageio-ffmpeg carries none here",
            remedy="install ffmpeg 5 or later with libmp3lame, or set NARRATION_FFMPEG to one",
        ) from None
