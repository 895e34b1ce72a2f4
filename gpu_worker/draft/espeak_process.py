"""One text to speech by espeak-ng, then exit: the short-lived process behind the draft engine.

espeak-ng's state is global and carries over from one text to the next, so the same text
gives the same bytes only in a fresh process. This one starts in about 30 ms because it
imports next to nothing; it is run by file name, outside its package, for the same reason.

Usage: `espeak.py LIBRARY DATA VOICE WORDS_PER_MINUTE MAX_SAMPLES < utf-8-text > pcm`, where the
output is 16-bit mono at 22,050 Hz in the machine's byte order, and stops after MAX_SAMPLES.
"""

import ctypes
import sys

RATE = 22_050  # Hz

# Numbers of espeak-ng's C interface, from its speak_lib.h.
_OUTPUT_SYNCHRONOUS = 2
_DO_NOT_EXIT = 0x8000
_PARAMETER_RATE = 1
_POSITION_CHARACTER = 1
_UTF8_TEXT = 1  # and neither SSML nor phoneme input: a text's brackets are plain characters

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def main(library: str, data: str, voice: str, words_per_minute: str, max_samples: str) -> None:
    """Speak standard input to standard output."""
    text = sys.stdin.buffer.read()
    espeak = ctypes.CDLL(library)
    if espeak.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, data.encode(), _DO_NOT_EXIT) != RATE:
        sys.exit("espeak-ng did not start with its data")
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        sys.exit(f"espeak-ng lacks the voice {voice}")
    espeak.espeak_SetParameter(_PARAMETER_RATE, int(words_per_minute), 0)
    left = int(max_samples)

    def write(samples: int | None, count: int, _events: int | None) -> int:
        nonlocal left
        if samples and count > 0:
            sys.stdout.buffer.write(ctypes.string_at(samples, 2 * min(count, left)))
            left -= min(count, left)
        return int(left == 0)  # 1 stops espeak-ng

    callback = _Callback(write)  # named, so that it lives as long as espeak-ng calls it
    espeak.espeak_SetSynthCallback(callback)
    size = ctypes.c_size_t(len(text) + 1)
    if espeak.espeak_Synth(text, size, 0, _POSITION_CHARACTER, 0, _UTF8_TEXT, None, None) != 0:
        sys.exit("espeak-ng refused the text")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
