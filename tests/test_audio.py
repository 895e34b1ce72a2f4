"""Decoding and encoding of audio files, and resampling."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.audio import RATE, tone
from support.audio_files import encoded, with_open_length, with_sizes

from narration.audio.files import (
    UnknownFormat,
    audio_sha256,
    decode,
    encode_clip,
    encode_flac,
    resample,
    within_full_scale,
)
from narration.errors import BadAudio

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "float": ("WAV", "FLOAT"),
    "flac": ("FLAC", "PCM_16"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_16"),
}


def encoded_as(waveform: NDArray[np.float32], name: str = "wav") -> bytes:
    return encoded(waveform, *FORMATS[name])


@pytest.mark.parametrize("name", FORMATS)
def test_known_containers_decode_whole(name: str) -> None:
    """Every accepted container gives back its samples as mono float32 at its own rate."""
    waveform, rate = decode(encoded_as(tone(1.5), name))
    assert rate == RATE
    assert waveform.dtype == np.float32
    assert abs(waveform.size - 1.5 * RATE) < 1
    assert abs(float(np.abs(waveform).max()) - 0.3) < 0.05


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.01, 0.5, 0.9])
def test_truncated_audio_is_refused(name: str, keep: float) -> None:
    """A file cut short is an error, never a shorter clip."""
    data = encoded_as(tone(4), name)
    with pytest.raises(BadAudio):
        decode(data[: round(len(data) * keep)])


def test_an_ogg_that_ends_at_a_page_too_early_is_refused() -> None:
    """Whole pages without the one that says it is the last are a truncated file."""
    data = encoded_as(tone(4), "vorbis")
    with pytest.raises(BadAudio, match="truncated"):
        decode(data[: data.rfind(b"OggS")])


def test_a_malformed_file_prints_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    """Headers that send the decoder before the file's start end in a refusal only."""
    header = bytearray(encoded_as(tone(1), "aiff")[:44])
    header[4:8] = (len(header) - 8).to_bytes(4, "big")
    with pytest.raises(BadAudio):
        decode(bytes(header))
    assert "Traceback" not in capfd.readouterr().err


def test_channels_are_averaged() -> None:
    """A stereo file folds to the mean of its channels."""
    left, right = tone(1, level=0.5), tone(1, level=0.1)
    waveform, _ = decode(encoded_as(np.stack([left, right], axis=1), "float"))
    np.testing.assert_allclose(waveform, (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 5000, b"<html>not found</html>" * 50, b"RIFF", b"OggS" + b"\xff" * 9, b"ID3" + b"\0" * 400],
    ids=["empty", "zeros", "page", "riff", "ogg", "id3"],
)
def test_bytes_that_are_no_audio_are_refused(data: bytes) -> None:
    """They are `BadAudio`, with a reason that does not quote them."""
    with pytest.raises(BadAudio, match="audio"):
        decode(data)


def test_other_containers_are_refused_by_name() -> None:
    """A container that the worker does not decode is named in the refusal, with those that it decodes."""
    with pytest.raises(UnknownFormat, match="audio in AU is not accepted: give WAV"):
        decode(encoded(tone(1), "AU", "PCM_16"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused(value: float) -> None:
    """A float file with one NaN or infinity is refused, and such a waveform is not encoded."""
    waveform = tone(1)
    waveform[1000] = value
    with pytest.raises(BadAudio, match="not finite"):
        decode(encoded_as(waveform, "float"))
    with pytest.raises(BadAudio, match="not finite"):
        encode_flac(waveform, RATE)


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    """An hour of silence in a small file is refused before it is decoded."""
    bomb = encoded_as(np.zeros(RATE * 3600, np.float32), "flac")
    assert len(bomb) < 1_000_000
    with pytest.raises(BadAudio, match=r"3600\.00 s is over the limit of 600 s"):
        decode(bomb)


def test_a_wrong_length_in_a_header_never_yields_more_than_the_limit() -> None:
    """A FLAC header that announces other than the frames hold is refused; 0 stands for an open length."""
    honest = encoded_as(tone(4), "flac")
    for announced in (2**35, RATE * 100):
        wrong = bytearray(honest)
        wrong[21] = (wrong[21] & 0xF0) | (announced >> 32)
        wrong[22:26] = (announced & 0xFFFFFFFF).to_bytes(4, "big")
        with pytest.raises(BadAudio):
            decode(bytes(wrong), max_seconds=200)
    with pytest.raises(BadAudio, match="over the limit"):
        decode(with_open_length(honest), max_seconds=3)


def test_length_is_limited_to_max_seconds() -> None:
    """Audio of exactly `max_seconds` is decoded, longer audio is refused."""
    data = encoded_as(tone(2))
    assert decode(data, max_seconds=2)[0].size == 2 * RATE
    with pytest.raises(BadAudio, match="over the limit"):
        decode(data, max_seconds=1.99)


@pytest.mark.parametrize(
    ("offset", "layout", "value"), [(22, "<H", 9), (24, "<I", 1_000), (24, "<I", 400_000)]
)
def test_impossible_headers_are_refused(offset: int, layout: str, value: int) -> None:
    """Nine channels, or a rate no recording has, are refused."""
    data = bytearray(encoded_as(tone(1)))
    struct.pack_into(layout, data, offset, value)
    with pytest.raises(BadAudio, match=r"channels|sample rate"):
        decode(bytes(data))


def test_a_wav_written_to_a_pipe_is_accepted() -> None:
    """Where the sizes are left open, all that follows is audio."""
    assert decode(with_sizes(encoded_as(tone(1)), 0xFFFFFFFF, 0xFFFFFFFF))[0].size == RATE


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.integers(0, 5_000), st.integers(1, 255))
def test_a_flipped_byte_raises_nothing_but_bad_audio(name: str, place: int, flip: int) -> None:
    """An altered file is decoded to finite samples or refused with `BadAudio`."""
    data = bytearray(ENCODED[name])
    data[place % len(data)] ^= flip
    try:
        waveform, _ = decode(bytes(data), max_seconds=60)
    except BadAudio:
        return
    assert np.isfinite(waveform).all()


ENCODED = {name: encoded_as(tone(0.2), name) for name in FORMATS}


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS", b"ID3\x04", b"FORM"]))
def test_any_bytes_are_decoded_or_refused(data: bytes, magic: bytes) -> None:
    """Arbitrary bytes raise nothing but `BadAudio`."""
    with suppress(BadAudio):
        decode(magic + data)


def test_encoding_is_deterministic_and_lossless_to_16_bits() -> None:
    """The same waveform gives the same bytes, and decoding and encoding again changes nothing."""
    loud = tone(2, level=0.99)
    first = encode_flac(loud, RATE)
    assert first == encode_flac(loud, RATE)
    waveform, rate = decode(first)
    np.testing.assert_allclose(waveform, loud, atol=0.6 / 32_768)
    assert audio_sha256(encode_flac(waveform, rate)) == audio_sha256(first)


def test_loud_samples_clip_instead_of_wrapping() -> None:
    """Samples beyond full scale come back at full scale with their sign."""
    loud = np.array([1.5, -1.5, 1.0, -1.0, 0.0] * 1000, np.float32)
    waveform, _ = decode(encode_flac(loud, RATE))
    np.testing.assert_allclose(waveform, np.clip(loud, -1, 1), atol=1 / 16_384)


@pytest.mark.parametrize("shape", [(0,), (100, 2)])
def test_only_one_channel_of_some_samples_is_encoded(shape: tuple[int, ...]) -> None:
    """An empty waveform or one of two dimensions is refused."""
    with pytest.raises(BadAudio, match="one channel"):
        encode_flac(np.zeros(shape, np.float32), RATE)


@pytest.mark.parametrize("container", ["wav", "flac"])
def test_an_engines_clip_has_a_full_scale_of_32767(container: Literal["wav", "flac"]) -> None:
    """The samples that a model id stands for: 1.0 is 32,767 and -1.0 is -32,767, in both containers."""
    waveform = np.array([1.0, -1.0, 2.0, -2.0, 0.5, 0.0] * 100, np.float32)
    pcm = np.rint(decode(encode_clip(waveform, container))[0][:6] * 32_768).astype(int)
    assert pcm.tolist() == [32_767, -32_767, 32_767, -32_767, 16_384, 0]


def test_only_a_waveform_beyond_full_scale_is_scaled() -> None:
    """It is divided by its peak; any other one is returned as it is."""
    np.testing.assert_allclose(within_full_scale(tone(1) * 10), tone(1) / 0.3, atol=1e-5)
    assert within_full_scale(quiet := tone(1)) is quiet


@pytest.mark.parametrize("place", [100, 5_000, 11_999])
def test_resampling_moves_nothing(place: int) -> None:
    """An impulse at sample n stands at sample 2n after doubling the rate."""
    impulse = np.zeros(12_000, np.float32)
    impulse[place] = 1
    doubled = resample(impulse, RATE, 2 * RATE)
    assert doubled.size == 24_000
    assert int(doubled.argmax()) == 2 * place
