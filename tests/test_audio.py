"""Encoded audio: what is read, what is refused, what is written."""

from __future__ import annotations

import io
import struct
from contextlib import suppress

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.audio import RATE, tone

from narration.audio.files import audio_sha256, decode, encode_flac, resample
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


def encoded(waveform: NDArray[np.float32], name: str = "wav", rate: int = RATE) -> bytes:
    container, subtype = FORMATS[name]
    target = io.BytesIO()
    soundfile.write(target, waveform, rate, format=container, subtype=subtype)
    return target.getvalue()


@pytest.mark.parametrize("name", FORMATS)
def test_known_containers_decode_whole(name: str) -> None:
    """Every accepted container gives back its samples as mono float32 at its own rate."""
    waveform, rate = decode(encoded(tone(1.5), name))
    assert rate == RATE
    assert waveform.dtype == np.float32
    assert abs(waveform.size - 1.5 * RATE) < 1
    assert abs(float(np.abs(waveform).max()) - 0.3) < 0.05


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.01, 0.5, 0.9])
def test_truncated_audio_is_refused(name: str, keep: float) -> None:
    """A file cut short is an error, never a shorter clip."""
    data = encoded(tone(4), name)
    with pytest.raises(BadAudio):
        decode(data[: round(len(data) * keep)])


def test_an_ogg_that_ends_at_a_page_too_early_is_refused() -> None:
    """Whole pages without the one that says it is the last are a truncated file."""
    data = encoded(tone(4), "vorbis")
    with pytest.raises(BadAudio, match="truncated"):
        decode(data[: data.rfind(b"OggS")])


def test_a_malformed_file_is_refused_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    """Headers that send the decoder before the file's start print no traceback."""
    scrap = bytearray(encoded(tone(1), "aiff")[:44])
    scrap[4:8] = (len(scrap) - 8).to_bytes(4, "big")
    with pytest.raises(BadAudio):
        decode(bytes(scrap))
    assert "Traceback" not in capfd.readouterr().err


def test_channels_are_averaged() -> None:
    """A stereo file folds to the mean of its channels."""
    left, right = tone(1, level=0.5), tone(1, level=0.1)
    waveform, _ = decode(encoded(np.stack([left, right], axis=1), "float"))
    np.testing.assert_allclose(waveform, (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 5000, b"<html>not found</html>" * 50, b"RIFF", b"OggS" + b"\xff" * 9, b"ID3" + b"\0" * 400],
    ids=["empty", "zeros", "page", "riff", "ogg", "id3"],
)
def test_what_is_no_audio_is_refused(data: bytes) -> None:
    """Bytes of another kind are `BadAudio`, with a reason that does not quote them."""
    with pytest.raises(BadAudio, match="audio"):
        decode(data)


def test_other_containers_are_refused_by_name() -> None:
    """A container outside the list is named in the refusal, with those that are accepted."""
    target = io.BytesIO()
    soundfile.write(target, tone(1), RATE, format="AU", subtype="PCM_16")
    with pytest.raises(BadAudio, match="AU file is not accepted: give WAV"):
        decode(target.getvalue())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(value: float) -> None:
    """One NaN or infinity in a float file spoils it, and cannot be encoded either."""
    waveform = tone(1)
    waveform[1000] = value
    with pytest.raises(BadAudio, match="not finite"):
        decode(encoded(waveform, "float"))
    with pytest.raises(BadAudio, match="not finite"):
        encode_flac(waveform, RATE)


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    """An hour of silence in a small file is refused before it is decoded."""
    bomb = encoded(np.zeros(RATE * 3600, np.float32), "flac")
    assert len(bomb) < 1_000_000
    with pytest.raises(BadAudio, match="3600 s is over the limit of 600 s"):
        decode(bomb)


def test_a_header_that_lies_about_length_is_not_believed() -> None:
    """A FLAC header that promises other than the frames hold never yields more than the limit."""
    honest = encoded(tone(4), "flac")
    for promised in (0, 2**35, RATE * 100):
        lying = bytearray(honest)
        lying[21] = (lying[21] & 0xF0) | (promised >> 32)
        lying[22:26] = (promised & 0xFFFFFFFF).to_bytes(4, "big")
        with pytest.raises(BadAudio):
            decode(bytes(lying), max_seconds=200)


def test_length_is_limited_to_what_is_asked() -> None:
    """`max_seconds` is the longest audio accepted."""
    data = encoded(tone(2))
    assert decode(data, max_seconds=2)[0].size == 2 * RATE
    with pytest.raises(BadAudio, match="over the limit"):
        decode(data, max_seconds=1.99)


@pytest.mark.parametrize(
    ("offset", "layout", "value"), [(22, "<H", 9), (24, "<I", 1_000), (24, "<I", 400_000)]
)
def test_impossible_headers_are_refused(offset: int, layout: str, value: int) -> None:
    """Nine channels, or a rate no recording has, are refused."""
    data = bytearray(encoded(tone(1)))
    struct.pack_into(layout, data, offset, value)
    with pytest.raises(BadAudio, match=r"channels|sample rate"):
        decode(bytes(data))


def test_a_wav_written_to_a_pipe_is_accepted() -> None:
    """Sizes left open, as programs that stream WAV leave them, mean all that follows."""
    data = bytearray(encoded(tone(1)))
    data[4:8] = data[40:44] = b"\xff" * 4
    assert decode(bytes(data))[0].size == RATE


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.integers(0, 5_000), st.integers(1, 255))
def test_a_flipped_byte_never_does_more_than_refuse(name: str, place: int, flip: int) -> None:
    """Altered bytes either decode to finite samples or raise `BadAudio`, nothing else."""
    data = bytearray(ENCODED[name])
    data[place % len(data)] ^= flip
    try:
        waveform, _ = decode(bytes(data), max_seconds=60)
    except BadAudio:
        return
    assert np.isfinite(waveform).all()


ENCODED = {name: encoded(tone(0.2), name) for name in FORMATS}


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS", b"ID3\x04", b"FORM"]))
def test_any_bytes_are_decoded_or_refused(data: bytes, magic: bytes) -> None:
    """No bytes whatever raise anything but `BadAudio`."""
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


@pytest.mark.parametrize("place", [100, 5_000, 11_999])
def test_resampling_moves_nothing(place: int) -> None:
    """An impulse at sample n stands at sample 2n after doubling the rate."""
    impulse = np.zeros(12_000, np.float32)
    impulse[place] = 1
    doubled = resample(impulse, RATE, 2 * RATE)
    assert doubled.size == 24_000
    assert int(doubled.argmax()) == 2 * place
