"""Real speech for tests: espeak-ng by ctypes, in a process of its own because its state is global."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from narration.audio import resample

RATE = 24_000  # Hz, as clips have


def speak(text: str, *, voice: str = "en-us", wpm: int = 175) -> NDArray[np.float32]:
    """`text` spoken by a fresh espeak-ng: mono float32 at 24 kHz, the same bytes every time."""
    return _speak(text, voice, wpm).copy()


def silence(seconds: float) -> NDArray[np.float32]:
    """Digital silence at 24 kHz."""
    return np.zeros(round(seconds * RATE), np.float32)


def tone(seconds: float, *, hertz: float = 440, level: float = 0.3) -> NDArray[np.float32]:
    """A sine at 24 kHz."""
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@cache
def _speak(text: str, voice: str, wpm: int) -> NDArray[np.float32]:
    asked = json.dumps({"text": text, "voice": voice, "wpm": wpm})
    done = subprocess.run(
        [sys.executable, str(Path(__file__))], input=asked.encode(), capture_output=True, check=True
    )
    rate = int.from_bytes(done.stdout[:4], "little")
    pcm = np.frombuffer(done.stdout[4:], "<i2").astype(np.float32)
    return resample(pcm / np.float32(32_768), rate, RATE)


def _main() -> None:
    """Read a request from stdin; write the rate and 16-bit samples to stdout."""
    import ctypes as c

    import espeakng_loader

    asked = json.loads(sys.stdin.buffer.read())
    library = c.CDLL(espeakng_loader.get_library_path())
    blocks: list[bytes] = []

    def collect(samples: c._Pointer[c.c_short], count: int, _events: int | None) -> int:
        if samples and count > 0:
            blocks.append(c.string_at(samples, count * 2))
        return 0

    callback = c.CFUNCTYPE(c.c_int, c.POINTER(c.c_short), c.c_int, c.c_void_p)(collect)
    retrieval, utf8, rate_parameter, position_character = 1, 1, 1, 1
    rate = library.espeak_Initialize(retrieval, 0, espeakng_loader.get_data_path().encode(), 0)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(asked["voice"].encode()) != 0:
        sys.exit(f"espeak-ng has no voice {asked['voice']}")
    library.espeak_SetParameter(rate_parameter, asked["wpm"], 0)
    text = asked["text"].encode() + b"\0"
    library.espeak_Synth(text, c.c_size_t(len(text)), 0, position_character, 0, utf8, None, None)
    library.espeak_Synchronize()
    sys.stdout.buffer.write(rate.to_bytes(4, "little") + b"".join(blocks))


if __name__ == "__main__":
    _main()
