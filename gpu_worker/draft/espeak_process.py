"""Program that synthesizes one text with espeak-ng and exits; the draft engine runs it for each request.

espeak-ng's state is global and carries over from one text to the next, so the same text
gives the same samples only in a fresh process. The program starts in about 30 ms because it
imports next to nothing; it is run by file name, outside its package, for the same reason.

Usage: `espeak_process.py LIBRARY DATA VOICE WORDS_PER_MINUTE MAX_SAMPLES < utf-8-text > pcm`. The
output is 16-bit mono at 22,050 Hz in the machine's byte order, at most MAX_SAMPLES samples.
"""

import ctypes
import sys

RATE = 22_050  # Hz

# Constants of espeak-ng's C interface, from its speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_PARAMETER_RATE = 1
_POSITION_CHARACTER = 1
_UTF8_TEXT = 1  # neither SSML nor phoneme input, so that brackets in a text are plain characters

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def main(library: str, data: str, voice: str, words_per_minute: str, max_samples: str) -> None:
    """Synthesize the text on standard input to samples on standard output."""
    text = sys.stdin.buffer.read()
    espeak = ctypes.CDLL(library)
    if espeak.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, data.encode(), _DO_NOT_EXIT) != RATE:
        sys.exit("espeak-ng could not load its data")
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        sys.exit(f"espeak-ng has no voice {voice}")
    espeak.espeak_SetParameter(_PARAMETER_RATE, int(words_per_minute), 0)
    left = int(max_samples)

    def write(samples: int | None, count: int, _events: int | None) -> int:
        nonlocal left
        if samples and count > 0:
            sys.stdout.buffer.write(ctypes.string_at(samples, 2 * min(count, left)))
            left -= min(count, left)
        return int(left == 0)  # 1 stops espeak-ng

    callback = _Callback(write)  # kept in a variable, or it would be freed while espeak-ng calls it
    espeak.espeak_SetSynthCallback(callback)
    size = ctypes.c_size_t(len(text) + 1)
    if espeak.espeak_Synth(text, size, 0, _POSITION_CHARACTER, 0, _UTF8_TEXT, None, None) != 0:
        sys.exit("espeak-ng refused the text")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
