"""Program that synthesizes the text on its standard input with espeak-ng.

Arguments: library, data folder, voice, words a minute. Writes the sample rate (4 bytes,
little-endian) and 16-bit samples to standard output. Imports little, since tests start it for
each text.
"""

from __future__ import annotations

import ctypes as c
import sys

RETRIEVAL, UTF8, PACE, BY_CHARACTER = 1, 1, 1, 1


def main(library_path: str, data_path: str, voice: str, wpm: str) -> None:
    library = c.CDLL(library_path)
    blocks: list[bytes] = []

    def collect(samples: c._Pointer[c.c_short], count: int, _events: int | None) -> int:
        if samples and count > 0:
            blocks.append(c.string_at(samples, count * 2))
        return 0

    callback = c.CFUNCTYPE(c.c_int, c.POINTER(c.c_short), c.c_int, c.c_void_p)(collect)
    rate = library.espeak_Initialize(RETRIEVAL, 0, data_path.encode(), 0)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        sys.exit(f"espeak-ng has no voice {voice}")
    library.espeak_SetParameter(PACE, int(wpm), 0)
    text = sys.stdin.buffer.read() + b"\0"
    library.espeak_Synth(text, c.c_size_t(len(text)), 0, BY_CHARACTER, 0, UTF8, None, None)
    library.espeak_Synchronize()
    sys.stdout.buffer.write(rate.to_bytes(4, "little") + b"".join(blocks))


if __name__ == "__main__":
    main(*sys.argv[1:])
