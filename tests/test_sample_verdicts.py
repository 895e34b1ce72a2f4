"""One verdict on a voice sample: `narrate voice add` and the worker accept and refuse the same files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.audio import RATE, silence, tone
from support.audio_files import ID3V1, ID3V2, by_ffmpeg, encoded, with_chunk, with_open_length, with_sizes
from support.voices import WORDS, recording

from gpu_worker.voices import check
from narration.contract import ContractError, ErrorCode
from narration.voices.checks import examine_sample

WAV = encoded(recording())
FLAC = encoded(recording(), "FLAC")
UNKNOWN = 0xFFFFFFFF


def channels(count: int) -> bytes:
    return encoded(np.repeat(recording()[:, None], count, axis=1))


ACCEPTED: dict[str, Callable[[], bytes]] = {
    "wav": lambda: WAV,
    "piped wav": lambda: with_sizes(WAV, UNKNOWN, UNKNOWN),
    "piped wav of sox": lambda: with_sizes(WAV, 0x7FFFFFFF, 0x7FFFFFDB),
    "wav without sizes": lambda: with_sizes(WAV, 0, 0),
    "piped wav of ffmpeg": lambda: by_ffmpeg(recording(), "-f", "wav"),
    "piped rf64": lambda: by_ffmpeg(recording(), "-f", "wav", "-rf64", "always"),
    "piped w64": lambda: by_ffmpeg(recording(), "-f", "w64"),
    "piped flac": lambda: with_open_length(FLAC),
    "piped flac of ffmpeg": lambda: by_ffmpeg(recording(), "-f", "flac"),
    "piped mp3 of ffmpeg": lambda: by_ffmpeg(recording(), "-f", "mp3"),
    "piped ogg of ffmpeg": lambda: by_ffmpeg(recording(), "-c:a", "libopus", "-f", "ogg"),
    "wav a byte short": lambda: WAV[:-1],
    "aiff a byte short": lambda: encoded(recording(), "AIFF")[:-1],
    "float beyond full scale": lambda: encoded(recording() * np.float32(4), "WAV", "FLOAT"),
    "float of 16 bits' scale": lambda: encoded(recording() * np.float32(20_000), "WAV", "FLOAT"),
    **{
        f"wav {subtype}": lambda subtype=subtype: encoded(recording(), "WAV", subtype)  # type: ignore[misc]  # a default holds the loop's value
        for subtype in (
            *("PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
            *("ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"),
        )
    },
    "wavex": lambda: encoded(recording(), "WAVEX"),
    "rf64": lambda: encoded(recording(), "RF64"),
    "w64": lambda: encoded(recording(), "W64"),
    "rifx": lambda: encoded(recording(), endian="BIG"),
    "flac": lambda: FLAC,
    "mp3": lambda: encoded(recording(), "MP3"),
    "vorbis": lambda: encoded(recording(), "OGG", "VORBIS"),
    "opus": lambda: encoded(recording(), "OGG", "OPUS"),
    "aiff": lambda: encoded(recording(), "AIFF"),
    "8 channels": lambda: channels(8),
    "8 kHz": lambda: encoded(recording()[::3], rate=8_000),
    "192 kHz": lambda: encoded(np.repeat(recording(), 8), rate=192_000),
    "wav between tags": lambda: ID3V2 + WAV + ID3V1,
    "flac between tags": lambda: ID3V2 + FLAC + ID3V1,
    "piped flac and a tag": lambda: with_open_length(FLAC) + ID3V1,
    "mp3 between tags": lambda: ID3V2 + encoded(recording(), "MP3") + ID3V1,
    "wav and other bytes": lambda: WAV + b"other bytes" * 100,
    "flac and other bytes": lambda: FLAC + b"other bytes" * 100,
    "odd chunk": lambda: with_chunk(WAV, b"INFOx", padded=True),
    "odd chunk without padding": lambda: with_chunk(WAV, b"INFOx", padded=False),
    "30 s": lambda: encoded(np.tile(recording(), 6)[: 30 * RATE]),
}
REFUSED: dict[str, tuple[ErrorCode, Callable[[], bytes]]] = {
    "empty": (ErrorCode.SAMPLE_NOT_AUDIO, lambda: b""),
    "a page": (ErrorCode.SAMPLE_NOT_AUDIO, lambda: b"<html>not found</html>" * 50),
    "half a wav": (ErrorCode.SAMPLE_NOT_AUDIO, lambda: WAV[: len(WAV) // 2]),
    "half a flac": (ErrorCode.SAMPLE_NOT_AUDIO, lambda: FLAC[: len(FLAC) // 2]),
    "half a piped flac": (ErrorCode.SAMPLE_NOT_AUDIO, lambda: with_open_length(FLAC)[: len(FLAC) // 2]),
    "9 channels": (ErrorCode.SAMPLE_NOT_AUDIO, lambda: channels(9)),
    "4 kHz": (ErrorCode.SAMPLE_NOT_AUDIO, lambda: encoded(recording(), rate=4_000)),
    "au": (ErrorCode.SAMPLE_NOT_AUDIO, lambda: encoded(recording(), "AU")),
    "m4a": (ErrorCode.SAMPLE_NOT_AUDIO, lambda: by_ffmpeg(recording(), suffix=".m4a")),
    "nan": (
        ErrorCode.SAMPLE_NOT_AUDIO,
        lambda: encoded(np.append(recording(), np.float32(np.nan)), "WAV", "FLOAT"),
    ),
    "no samples": (ErrorCode.SAMPLE_TOO_SHORT, lambda: encoded(silence(0))),
    "0.9 s": (ErrorCode.SAMPLE_TOO_SHORT, lambda: encoded(tone(0.9))),
    "30.1 s": (ErrorCode.SAMPLE_TOO_LONG, lambda: encoded(tone(30.1))),
    "an hour in piped flac": (
        ErrorCode.SAMPLE_TOO_LONG,
        lambda: with_open_length(encoded(silence(3_600), "FLAC")),
    ),
    "silence": (ErrorCode.SAMPLE_SILENT, lambda: encoded(silence(6))),
    "21 MB": (ErrorCode.SAMPLE_TOO_LARGE, lambda: WAV + bytes(21_000_000)),
}


def refusal_by_the_worker(data: bytes) -> tuple[str, str] | None:
    """The code and the message; None where the worker accepts."""
    try:
        check(data, WORDS, None)
    except ContractError as error:
        return error.failure.error_code, error.failure.error
    return None


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_usable_file_is_accepted_by_both(name: str) -> None:
    """Neither `voice add` nor the worker finds an error, and both hear the whole recording."""
    data = ACCEPTED[name]()
    seconds, problems = examine_sample(data, WORDS)
    assert [problem.message for problem in problems if problem.severity == "error"] == []
    waveform = check(data, WORDS, None).waveform
    assert waveform.size == pytest.approx(seconds * RATE, abs=2)
    assert seconds == pytest.approx(recording().size / RATE, abs=0.2) or name == "30 s"
    assert float(np.abs(waveform).max()) <= 1


@pytest.mark.parametrize("name", REFUSED)
def test_an_unusable_file_is_refused_by_both_in_the_same_words(name: str) -> None:
    """The worker's message, with the contract's code, is the one error that `voice add` reports."""
    code, make = REFUSED[name]
    data = make()
    seconds, (problem,) = examine_sample(data, WORDS)
    assert (seconds, problem.severity) == (0, "error")
    assert refusal_by_the_worker(data) == (code, problem.message)


SHORT = tone(1.2, level=0.5)
ORIGINALS = {
    f"{container} {subtype}": encoded(SHORT, container, subtype)
    for container, subtype in (
        *(
            ("WAV", "PCM_16"),
            ("WAV", "FLOAT"),
            ("WAV", "IMA_ADPCM"),
            ("WAV", "MS_ADPCM"),
            ("WAVEX", "PCM_24"),
        ),
        *(("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")),
        ("MP3", "MPEG_LAYER_III"),
    )
}
EDITS = st.one_of(
    st.tuples(st.just("set"), st.integers(0, 250), st.binary(min_size=1, max_size=4)),
    st.tuples(
        st.just("set"),
        st.integers(0, 250),
        st.sampled_from([bytes(4), b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x01\0\0\0", b"data", b"fmt "]),
    ),
    st.tuples(st.just("insert"), st.integers(0, 250), st.binary(min_size=1, max_size=9)),
    st.tuples(st.just("delete"), st.integers(0, 250), st.binary(min_size=1, max_size=9)),
    st.tuples(st.just("cut"), st.integers(0, 100_000), st.just(b"")),
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(ORIGINALS)), st.lists(EDITS, min_size=1, max_size=6))
def test_any_altered_header_has_one_verdict(original: str, edits: list[tuple[str, int, bytes]]) -> None:
    """Whatever a header says, both accept the file or both refuse it, by the same typed error."""
    data = bytearray(ORIGINALS[original])
    for kind, at, content in edits:
        if kind == "set":
            data[at : at + len(content)] = content
        elif kind == "insert":
            data[at:at] = content
        elif kind == "delete":
            del data[at : at + len(content)]
        else:
            del data[at:]
    seconds, problems = examine_sample(bytes(data), WORDS)
    refusal = refusal_by_the_worker(bytes(data))
    if seconds:
        assert refusal is None
    else:
        assert refusal is not None
        assert refusal[1] == problems[0].message
