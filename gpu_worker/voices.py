"""From a request's fields to a checked voice sample, or to the reason why not."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from gpu_worker import audio
from gpu_worker.engine_protocol import SampleLoader, VoiceSample, Waveform
from narration.contract import (
    MAX_SAMPLE_BYTES,
    MAX_SAMPLE_SECONDS,
    MIN_SAMPLE_SECONDS,
    SAMPLE_RATE,
    ContractError,
    ErrorCode,
    SynthesisRequest,
)
from narration.fetch import FetchRefused, FetchTooLarge, FetchUnreachable, fetch

SILENCE = 10 ** (-60 / 20)  # a sample that never rises above -60 dBFS holds no voice
_DOWNLOADS = 32  # at once; threads of their own, so that slow hosts delay nobody's encoding


class VoiceLoader:
    """Fetches, checks and decodes voice samples: whatever an engine then gets is a voice."""

    def __init__(self, *, fetch_timeout: float, allow_private_urls: bool) -> None:
        self._fetch = partial(
            fetch, max_bytes=MAX_SAMPLE_BYTES, timeout_seconds=fetch_timeout, allow_private=allow_private_urls
        )
        # httpx logs whole URLs at INFO, and the query of a sample's may be its signature.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._downloads = ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix="sample-download")

    def of(self, request: SynthesisRequest) -> SampleLoader | None:
        """The way to the sample of `request`, whose transcript is settled; None if it has none."""
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
    """Decode an encoded voice sample; raise `ContractError` for one that cannot be cloned from."""
    if len(data) > MAX_SAMPLE_BYTES:
        raise ContractError(
            ErrorCode.SAMPLE_TOO_LARGE, f"the voice sample has {len(data)} bytes, over {MAX_SAMPLE_BYTES}"
        )
    sha256 = hashlib.sha256(data).hexdigest()
    if expected_sha256 not in (None, sha256):
        raise ContractError(
            ErrorCode.SAMPLE_DIGEST_MISMATCH, f"the voice sample's SHA-256 is {sha256}, not audio_sha256"
        )
    waveform = _decode(data)
    if waveform.size < MIN_SAMPLE_SECONDS * SAMPLE_RATE:
        seconds = waveform.size / SAMPLE_RATE
        raise ContractError(
            ErrorCode.SAMPLE_TOO_SHORT, f"the voice sample is {seconds:.2f} s, under {MIN_SAMPLE_SECONDS:g} s"
        )
    if float(np.abs(waveform).max()) < SILENCE:
        raise ContractError(ErrorCode.SAMPLE_SILENT, "the voice sample is silent: its peak is under -60 dBFS")
    return VoiceSample(waveform=waveform, sha256=sha256, transcript=transcript)


def previous_waveform(request: SynthesisRequest) -> Waveform | None:
    """The continuity context's audio, decoded; None if the request has none.

    Raises `ContractError` (`invalid_input`, naming the field) for what does not decode.
    """
    field = "previous_audio_base64"
    if request.previous_audio_base64 is None:
        return None
    try:
        return audio.decode(_base64(request.previous_audio_base64, field), max_seconds=MAX_SAMPLE_SECONDS)
    except (audio.NotAudio, audio.TooLong) as error:
        raise ContractError(ErrorCode.INVALID_INPUT, f"{field}: {error}") from None


def _decode(data: bytes) -> Waveform:
    try:
        return audio.decode(data, max_seconds=MAX_SAMPLE_SECONDS)
    except audio.TooLong as error:
        raise ContractError(ErrorCode.SAMPLE_TOO_LONG, f"the voice sample is too long: {error}") from None
    except audio.NotAudio as error:
        raise ContractError(
            ErrorCode.SAMPLE_NOT_AUDIO, f"the voice sample is no usable audio: {error}"
        ) from None


def _inline(request: SynthesisRequest) -> bytes:
    assert request.audio_base64 is not None
    return _base64(request.audio_base64, "audio_base64")


def _base64(text: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ContractError(ErrorCode.INVALID_INPUT, f"{field}: not base64") from None
