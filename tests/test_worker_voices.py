"""Voice samples at the worker: which ones it accepts, and the code with which it refuses the others."""

from __future__ import annotations

import base64
import hashlib
import io
import time
import tracemalloc
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
import pytest
import soundfile
from support.audio_files import with_open_length, with_sizes
from support.worker import encoded, file, handler, inline, job, sample, serving, tone

from gpu_worker.voices import check, previous_waveform
from narration.contract import ContractError, ErrorCode, SynthesisRequest


def code_of(data: bytes, expected_sha256: str | None = None) -> ErrorCode:
    """The code with which the worker refuses `data`."""
    with pytest.raises(ContractError) as caught:
        check(data, "what it says", expected_sha256)
    return ErrorCode(caught.value.failure.error_code)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(sample(), id="mono"),
        pytest.param(sample(channels=2), id="stereo"),
        pytest.param(sample(channels=6), id="surround"),
        pytest.param(sample(subtype="PCM_U8"), id="8 bit"),
        pytest.param(sample(subtype="PCM_24"), id="24 bit"),
        pytest.param(sample(subtype="FLOAT"), id="float"),
        pytest.param(sample(subtype="ULAW", rate=8_000), id="telephone"),
        pytest.param(sample(rate=96_000), id="96 kHz"),
        pytest.param(sample(rate=44_100, container="FLAC"), id="flac"),
        pytest.param(sample(rate=48_000, container="OGG"), id="ogg"),
        pytest.param(sample(rate=44_100, container="MP3"), id="mp3"),
        pytest.param(sample(container="AIFF"), id="aiff"),
    ],
)
def test_a_recording_in_any_usual_form_becomes_mono_at_24_khz(data: bytes) -> None:
    """Channels are averaged and sample rates converted: the engine gets one form of voice."""
    voice = check(data, "what it says", None)
    assert voice.waveform.dtype == np.float32
    assert voice.waveform.ndim == 1
    assert voice.waveform.size == pytest.approx(3 * 24_000, abs=2_400)
    assert float(np.abs(voice.waveform).max()) == pytest.approx(0.3, abs=0.03)
    spectrum = np.abs(np.fft.rfft(voice.waveform))
    assert np.argmax(spectrum) * 24_000 / voice.waveform.size == pytest.approx(220, abs=1)
    assert voice.sha256 == hashlib.sha256(data).hexdigest()
    assert voice.transcript == "what it says"


def test_opposite_channels_cancel_and_are_silence() -> None:
    """Channels are averaged, so a sample whose sides cancel holds no voice."""
    mono = tone(3)
    assert code_of(encoded(np.stack([mono, -mono], axis=1), 24_000)) == ErrorCode.SAMPLE_SILENT


def test_float_samples_beyond_full_scale_are_scaled_not_clipped() -> None:
    """A float recording in another scale keeps its waveform."""
    voice = check(encoded(tone(3) * 20_000, 24_000, "WAV", "FLOAT"), "t", None)
    assert float(np.abs(voice.waveform).max()) == pytest.approx(1)
    assert np.corrcoef(voice.waveform, tone(3))[0, 1] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_written_to_a_pipe_is_accepted(size: int) -> None:
    """Its header leaves its length open, which is no truncation."""
    assert check(with_sizes(sample(), size, size), "t", None).waveform.size == 3 * 24_000


def test_a_flac_written_to_a_pipe_is_accepted() -> None:
    """A count of zero samples in its header means an open length."""
    flac = with_open_length(sample(container="FLAC"))
    assert check(flac, "t", None).waveform.size == 3 * 24_000


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", ErrorCode.SAMPLE_NOT_AUDIO, id="empty"),
        pytest.param(b"<html>no such file</html>", ErrorCode.SAMPLE_NOT_AUDIO, id="a web page"),
        pytest.param(b"RIFF\x00\x00\x00\x00WAVE", ErrorCode.SAMPLE_NOT_AUDIO, id="a bare header"),
        pytest.param(b"ID3" + bytes(100), ErrorCode.SAMPLE_NOT_AUDIO, id="an mp3 tag alone"),
        pytest.param(b"\x1f\x8b" + bytes(5000), ErrorCode.SAMPLE_NOT_AUDIO, id="an archive"),
        pytest.param(sample(channels=9), ErrorCode.SAMPLE_NOT_AUDIO, id="nine channels"),
        pytest.param(sample(rate=4_000), ErrorCode.SAMPLE_NOT_AUDIO, id="4 kHz"),
        pytest.param(sample(container="CAF"), ErrorCode.SAMPLE_NOT_AUDIO, id="an unusual container"),
        pytest.param(sample(0.9), ErrorCode.SAMPLE_TOO_SHORT, id="0.9 s"),
        pytest.param(encoded(np.zeros(0), 24_000), ErrorCode.SAMPLE_TOO_SHORT, id="no samples"),
        pytest.param(sample(30.1), ErrorCode.SAMPLE_TOO_LONG, id="30.1 s"),
        pytest.param(sample(40, container="MP3"), ErrorCode.SAMPLE_TOO_LONG, id="40 s of mp3"),
        pytest.param(sample(level=0), ErrorCode.SAMPLE_SILENT, id="digital silence"),
        pytest.param(sample(level=0.0005), ErrorCode.SAMPLE_SILENT, id="-66 dBFS"),
        pytest.param(bytes(20_000_001), ErrorCode.SAMPLE_TOO_LARGE, id="over 20 MB"),
    ],
)
def test_each_bad_sample_has_its_own_reason(data: bytes, code: ErrorCode) -> None:
    """A recording that no voice can be cloned from is refused in time, with the code of the reason."""
    started = time.perf_counter()
    assert code_of(data) == code
    assert time.perf_counter() - started < 10


def test_samples_that_are_not_finite_are_refused() -> None:
    """One NaN would spread over the whole encoded voice."""
    waveform = tone(3)
    waveform[5_000] = np.nan
    assert code_of(encoded(waveform, 24_000, "WAV", "FLOAT")) == ErrorCode.SAMPLE_NOT_AUDIO


@pytest.mark.parametrize("container", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_a_truncated_file_is_refused(container: str) -> None:
    """Half a sample says half of its transcript, and would make another voice."""
    whole = sample(10, container=container)
    assert code_of(whole[: len(whole) // 2]) == ErrorCode.SAMPLE_NOT_AUDIO


def test_a_small_file_of_a_long_silence_is_refused_before_it_is_decoded() -> None:
    """A small file cannot make the worker decode for long or fill its memory, also one of open length."""
    long = io.BytesIO()
    with soundfile.SoundFile(long, "w", 48_000, 1, format="FLAC") as target:
        for _ in range(900):
            target.write(np.zeros(48_000, np.int16))
    for data in (long.getvalue(), with_open_length(long.getvalue())):
        assert len(data) < 300_000
        tracemalloc.start()
        started = time.perf_counter()
        assert code_of(data) == ErrorCode.SAMPLE_TOO_LONG
        assert time.perf_counter() - started < 30
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
        tracemalloc.stop()


def test_a_digest_that_does_not_match_is_refused_before_decoding() -> None:
    """The digest identifies the voice: other bytes are another voice, whether they are audio or not."""
    assert code_of(b"not even audio", "0" * 64) == ErrorCode.SAMPLE_DIGEST_MISMATCH
    data = sample()
    assert check(data, "t", hashlib.sha256(data).hexdigest()).sha256 == hashlib.sha256(data).hexdigest()


async def answer_to(
    url: str | None = None, *, allow_private_urls: bool = True, **fields: Any
) -> dict[str, Any]:
    """The worker's answer to a request with a sample at `url`."""
    request = {"prompt": "x", "audio_transcript": "t", **fields} | ({"audio_url": url} if url else {})
    return await handler(allow_private_urls=allow_private_urls, fetch_timeout=1)(job(**request))


async def test_a_sample_at_a_url_is_fetched_and_checked() -> None:
    """Bytes from a URL are checked like inline ones."""
    data = sample()
    with serving(file(data)) as url:
        assert "audio_base64" in await answer_to(url, audio_sha256=hashlib.sha256(data).hexdigest())
        assert (await answer_to(url, audio_sha256="0" * 64))["error_code"] == "sample_digest_mismatch"
    with serving(file(b"<html>")) as url:
        assert (await answer_to(url))["error_code"] == "sample_not_audio"


async def test_a_private_address_is_refused() -> None:
    """A request cannot make the worker fetch from the network that the worker is in."""
    with serving(file(sample())) as url:
        answer = await answer_to(url, allow_private_urls=False)
    assert answer["error_code"] == ErrorCode.SAMPLE_REFUSED
    assert answer["retryable"] is False


async def test_a_sample_over_the_limit_is_not_downloaded_whole() -> None:
    """The download from a server that sends without end is stopped at the limit."""

    def endless(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        try:
            while True:
                request.wfile.write(bytes(1_000_000))
        except OSError:
            return

    with serving(endless) as url:
        assert (await answer_to(url))["error_code"] == ErrorCode.SAMPLE_TOO_LARGE


async def test_a_server_that_never_answers_is_unreachable_and_worth_another_try() -> None:
    """The download ends after the seconds of the setting."""
    with serving(lambda _request: time.sleep(1.5)) as url:
        answer = await answer_to(url)
    assert answer["error_code"] == ErrorCode.SAMPLE_UNREACHABLE
    assert answer["retryable"] is True


async def test_an_inline_sample_goes_through_the_same_checks() -> None:
    """An inline sample is refused with the same codes as a fetched one."""
    assert "audio_base64" in await answer_to(audio_base64=inline(sample()))
    assert (await answer_to(audio_base64=inline(sample(0.5))))["error_code"] == "sample_too_short"


def test_context_audio_is_decoded_or_refused_by_name() -> None:
    """The continuity context is decoded like a sample; other bytes are refused by the name of the field."""

    def request(data: bytes) -> SynthesisRequest:
        return SynthesisRequest(prompt="x", previous_text="before", previous_audio_base64=inline(data))

    waveform = previous_waveform(request(sample(2)))
    assert waveform is not None
    assert waveform.size == 2 * 24_000
    with pytest.raises(ContractError, match="previous_audio_base64"):
        previous_waveform(request(b"no audio"))
    assert previous_waveform(SynthesisRequest(prompt="x")) is None


def test_base64_with_line_breaks_is_refused_by_name() -> None:
    """Characters outside the base64 alphabet are not ignored."""
    wrapped = base64.encodebytes(sample()).decode()
    with pytest.raises(ContractError, match="previous_audio_base64: not base64"):
        previous_waveform(SynthesisRequest(prompt="x", previous_text="b", previous_audio_base64=wrapped))
