"""Audio containers: what real programs write is decoded completely, a truncated file is refused."""

from __future__ import annotations

import io
import time
import tracemalloc

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from support.audio import silence, tone
from support.audio_files import ID3V1, ID3V2, by_ffmpeg, encoded, with_chunk, with_open_length, with_sizes

from narration.audio.files import AudioTooLong, EmptyAudio, decode
from narration.errors import BadAudio

TONE = tone(1.5)
WAV = encoded(TONE)
FLAC = encoded(TONE, "FLAC")
FILES = {
    "wav": WAV,
    "float": encoded(TONE, "WAV", "FLOAT"),
    "flac": FLAC,
    "vorbis": encoded(TONE, "OGG", "VORBIS"),
    "mp3": encoded(TONE, "MP3"),
    "aiff": encoded(TONE, "AIFF"),
}


def samples(data: bytes) -> NDArray[np.float32]:
    return decode(data)[0]


@pytest.mark.parametrize(
    ("riff", "data"),
    [(0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFFFFF, 0x7FFFFFDB), (0x7FFFFFFF, 0x7FFFF000), (0, 0), (36, 0)],
)
def test_a_wav_of_open_length_is_decoded_to_its_end(riff: int, data: int) -> None:
    """A program that writes WAV to a pipe cannot know its length; all that follows is audio."""
    np.testing.assert_array_equal(samples(with_sizes(WAV, riff, data)), samples(WAV))


@pytest.mark.parametrize(
    "options",
    [("-f", "wav"), ("-f", "wav", "-rf64", "always"), ("-f", "w64"), ("-f", "flac")],
    ids=["wav", "rf64", "w64", "flac"],
)
def test_what_ffmpeg_writes_to_a_pipe_is_decoded_to_its_end(options: tuple[str, ...]) -> None:
    """WAV, RF64, Wave64 and FLAC without a length in their headers."""
    np.testing.assert_allclose(samples(by_ffmpeg(TONE, *options)), TONE, atol=2 / 32_768)


def test_a_wav_without_samples_is_not_taken_for_one_of_open_length() -> None:
    """A size of 0 with other chunks after it, all of them announced, means no samples."""
    empty = encoded(silence(0)) + b"LIST\x04\0\0\0INFO"
    with pytest.raises(EmptyAudio):
        decode(with_sizes(empty, len(empty) - 8, 0))


def test_a_flac_of_open_length_is_decoded_to_its_end() -> None:
    """Its header counts 0 samples; a tag after the audio is no audio."""
    np.testing.assert_array_equal(samples(with_open_length(FLAC)), samples(FLAC))
    np.testing.assert_array_equal(samples(with_open_length(FLAC) + ID3V1), samples(FLAC))


@pytest.mark.parametrize("missing", [1, 100, 9_000])
def test_a_truncated_flac_of_open_length_is_refused(missing: int) -> None:
    """Its last frame is incomplete, which the decoder notices."""
    with pytest.raises(BadAudio):
        decode(with_open_length(FLAC)[:-missing])


def test_a_flac_of_open_length_is_decoded_no_further_than_the_limit() -> None:
    """A small file of a long silence takes the memory of the limit only."""
    bomb = with_open_length(encoded(silence(1_800), "FLAC"))
    assert len(bomb) < 300_000
    tracemalloc.start()
    try:
        with pytest.raises(AudioTooLong, match="over the limit of 30 s"):
            decode(bomb, max_seconds=30)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


SUBTYPES = [
    "PCM_U8",
    "PCM_16",
    "PCM_24",
    "PCM_32",
    "FLOAT",
    "DOUBLE",
    "ULAW",
    "ALAW",
    "IMA_ADPCM",
    "MS_ADPCM",
]


@pytest.mark.parametrize("subtype", SUBTYPES)
def test_every_encoding_of_wav_is_decoded(subtype: str) -> None:
    """8 to 32 bits, float, telephone codes and ADPCM give the tone that they encode."""
    waveform = samples(encoded(TONE, "WAV", subtype))[: TONE.size]
    assert waveform.size == TONE.size
    assert np.corrcoef(waveform, TONE)[0, 1] > 0.999


@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_that_lacks_its_last_byte_is_decoded(subtype: str, channels: int) -> None:
    """Some programs announce a padding byte that they do not write; at most a frame is lost."""
    wav = encoded(np.repeat(TONE[:, None], channels, axis=1), "WAV", subtype)
    whole, short = samples(wav), samples(wav[:-1])
    assert whole.size - short.size in {0, 1}
    np.testing.assert_allclose(short[:-2], whole[: short.size - 2], atol=1e-6)


@pytest.mark.parametrize("container", ["WAV", "AIFF"])
def test_a_file_that_lacks_more_than_a_frame_is_refused(container: str) -> None:
    """Two frames of 16 bits missing are a truncated file."""
    data = encoded(TONE, container)
    assert samples(data[:-2]).size == TONE.size - 1
    with pytest.raises(BadAudio, match="truncated"):
        decode(data[:-4])


@pytest.mark.parametrize("container", ["WAVEX", "RF64", "W64"])
def test_the_variants_of_wav_are_decoded_and_refused_when_truncated(container: str) -> None:
    """WAVE_FORMAT_EXTENSIBLE, RF64 and Wave64 are judged as WAV is."""
    data = encoded(TONE, container)
    np.testing.assert_array_equal(samples(data), samples(WAV))
    with pytest.raises(BadAudio, match="truncated"):
        decode(data[: len(data) // 2])


def test_a_big_endian_wav_is_decoded() -> None:
    """RIFX, which some instruments write."""
    data = encoded(TONE, "WAV", "PCM_16", endian="BIG")
    assert data[:4] == b"RIFX"
    np.testing.assert_array_equal(samples(data), samples(WAV))


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("content", [b"INFOx", b"INFOxx"])
def test_other_chunks_of_any_size_are_skipped(content: bytes, padded: bool) -> None:
    """Also one of odd size whose padding byte was not written."""
    np.testing.assert_array_equal(samples(with_chunk(WAV, content, padded=padded)), samples(WAV))


def test_a_wav_with_its_format_behind_its_audio_is_decoded() -> None:
    """The chunks of a WAV are found in any order."""
    np.testing.assert_array_equal(samples(WAV[:12] + WAV[36:] + WAV[12:36]), samples(WAV))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("before", [b"", ID3V2, ID3V2 * 2], ids=["none", "tag", "two tags"])
@pytest.mark.parametrize(
    "after", [b"", ID3V1, bytes(5_000), b"trailing " * 99], ids=["none", "tag", "zeros", "text"]
)
def test_tags_and_trailing_bytes_change_nothing(name: str, before: bytes, after: bytes) -> None:
    """A file with ID3 tags or other bytes around it gives exactly the samples that it gives alone."""
    np.testing.assert_array_equal(samples(before + FILES[name] + after), samples(FILES[name]))


@pytest.mark.parametrize("channels", range(1, 9))
def test_up_to_eight_channels_are_averaged(channels: int) -> None:
    """Each contributes an equal share."""
    levels = np.arange(1, channels + 1, dtype=np.float32) / channels
    waveform = samples(encoded((TONE[:, None] * levels).astype(np.float32), "WAV", "FLOAT"))
    np.testing.assert_allclose(waveform, TONE * float(levels.mean()), atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_any_usual_sample_rate_is_decoded(rate: int) -> None:
    """From a telephone's to a studio's, a waveform comes at its own rate."""
    waveform, decoded_rate = decode(encoded(TONE, rate=rate))
    assert decoded_rate == rate
    np.testing.assert_array_equal(waveform, samples(WAV))


def test_float_samples_beyond_full_scale_are_returned_as_they_are() -> None:
    """Scaling them down is left to the functions that need it."""
    np.testing.assert_array_equal(samples(encoded(TONE * 20, "WAV", "FLOAT")), TONE * 20)


def test_an_mp3_loses_nothing_between_blocks() -> None:
    """An MP3 of several blocks gives the samples that it gives in one."""
    data = encoded(tone(9), "MP3")
    at_once, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    np.testing.assert_allclose(samples(data), at_once, atol=1e-6)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"ID3\x04" + bytes(6), id="tags"),
        pytest.param(b"RIFF\0\0\0\0WAVE" + b"LIST\0\0\0\0", id="chunks"),
        pytest.param(b"FORM\0\0\0\0AIFF" + b"NAME\0\0\0\0", id="aiff chunks"),
        pytest.param(b"OggS" + bytes(23), id="pages"),
    ],
)
def test_a_file_of_nothing_but_headers_is_refused_in_time(data: bytes) -> None:
    """Millions of empty tags or chunks take seconds, not hours."""
    unit = data[12:] if data[:4] in {b"RIFF", b"FORM"} else data
    started = time.perf_counter()
    with pytest.raises(BadAudio):
        decode(data + unit * (10_000_000 // len(unit)))
    assert time.perf_counter() - started < 20
