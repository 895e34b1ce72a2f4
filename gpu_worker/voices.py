"""Voice samples: fetched or inline, checked, decoded to 24 kHz, or refused with a code of the contract."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from gpu_worker.engine_protocol import SampleLoader, VoiceSample, Waveform
from narration.audio.files import decode, resample, within_full_scale
from narration.audio.voice_sample import UnusableSample, decode_voice_sample
from narration.contract import (
    MAX_SAMPLE_BYTES,
    MAX_SAMPLE_SECONDS,
    SAMPLE_RATE,
    ContractError,
    ErrorCode,
    SynthesisRequest,
)
from narration.errors import BadAudio
from narration.fetch import FetchRefused, FetchTooLarge, FetchUnreachable, fetch

_DOWNLOADS = 32  # at once, in threads of their own: a slow server must not delay other samples' encoding


class VoiceLoader:
    """Fetches, checks and decodes the voice samples of requests."""

    def __init__(self, *, fetch_timeout: float, allow_private_urls: bool) -> None:
        self._fetch = partial(
            fetch, max_bytes=MAX_SAMPLE_BYTES, timeout_seconds=fetch_timeout, allow_private=allow_private_urls
        )
        # httpx logs whole URLs at INFO, and the query of a sample's URL may be its signature.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._downloads = ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="sample-download")

    def of(self, request: SynthesisRequest) -> SampleLoader | None:
        """The loader of the sample of `request`, which has its transcript; None where it has no sample."""
        return partial(self._load, request) if request.cloned else None

    async def _load(self, request: SynthesisRequest) -> VoiceSample:
        assert request.audio_transcript is not None
        data = await self._download(request.audio_url) if request.audio_url else _inline(request)
        return await asyncio.to_thread(check, data, request.audio_transcript, request.audio_sha256)

    async def _download(self, url: str) -> bytes:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._downloads, self._fetch, url)
        except FetchRefused as error:
            raise ContractError(ErrorCode.SAMPLE_REFUSED, f"audio_url: {error}") from None
        except FetchTooLarge as error:
            raise ContractError(ErrorCode.SAMPLE_TOO_LARGE, f"audio_url: {error}") from None
        except FetchUnreachable as error:
            raise ContractError(ErrorCode.SAMPLE_UNREACHABLE, f"audio_url: {error}") from None


def check(data: bytes, transcript: str, expected_sha256: str | None) -> VoiceSample:
    """Decode an encoded voice sample; raise `ContractError` for one that no voice can be cloned from."""
    sha256 = hashlib.sha256(data).hexdigest()
    if expected_sha256 not in (None, sha256):
        raise ContractError(
            ErrorCode.SAMPLE_DIGEST_MISMATCH, f"the voice sample's SHA-256 is {sha256}, not audio_sha256"
        )
    try:
        waveform, rate = decode_voice_sample(data)
    except UnusableSample as error:
        raise ContractError(error.code, error.message) from None
    return VoiceSample(waveform=_at_24_khz(waveform, rate), sha256=sha256, transcript=transcript)


def previous_waveform(request: SynthesisRequest) -> Waveform | None:
    """The continuity context's audio at 24 kHz; None if the request has none.

    Raises `ContractError` (`invalid_input`, naming the field) for audio that cannot be decoded.
    """
    field = "previous_audio_base64"
    if request.previous_audio_base64 is None:
        return None
    try:
        waveform, rate = decode(_base64(request.previous_audio_base64, field), max_seconds=MAX_SAMPLE_SECONDS)
    except BadAudio as error:
        raise ContractError(ErrorCode.INVALID_INPUT, f"{field}: {error.message}") from None
    return _at_24_khz(waveform, rate)


def _at_24_khz(waveform: Waveform, rate: int) -> Waveform:
    """Resampled, then scaled down where a float sample or the resampler exceeds full scale."""
    return within_full_scale(resample(waveform, rate, SAMPLE_RATE))


def _inline(request: SynthesisRequest) -> bytes:
    assert request.audio_base64 is not None
    return _base64(request.audio_base64, "audio_base64")


def _base64(text: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ContractError(ErrorCode.INVALID_INPUT, f"{field}: not base64") from None
