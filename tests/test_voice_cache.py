"""Voice cache: each voice sample is fetched and encoded once, whichever requests fail or are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from gpu_worker.engine_protocol import VoiceSample, Waveform
from gpu_worker.higgs.delay_pattern import Codes
from gpu_worker.higgs.voice_cache import VoiceCache


def recording_encoder(calls: list[int]) -> Callable[[Waveform], Awaitable[Codes]]:
    async def encode(waveform: Waveform) -> Codes:
        calls.append(len(waveform))
        await asyncio.sleep(0)
        return np.full((8, len(waveform)), len(waveform), dtype=np.int16)

    return encode


def recording_loader(sha256: str, frames: int, calls: list[str]) -> Callable[[], Awaitable[VoiceSample]]:
    async def load() -> VoiceSample:
        calls.append(sha256)
        await asyncio.sleep(0)
        return VoiceSample(waveform=np.zeros(frames, np.float32), sha256=sha256, transcript="words")

    return load


async def test_a_voice_is_fetched_and_encoded_once() -> None:
    """Many requests for a voice, at once and later, cost one download and one encoding."""
    loads: list[str] = []
    encodings: list[int] = []
    cache = VoiceCache(recording_encoder(encodings), capacity=2)
    load = recording_loader("a", 5, loads)
    results = await asyncio.gather(*(cache.codes("a", load) for _ in range(8)))
    results.append(await cache.codes("a", load))
    assert loads == ["a"]
    assert encodings == [5]
    assert all(sha256 == "a" and codes is results[0][1] for sha256, codes in results)


async def test_a_sample_without_a_declared_digest_is_encoded_once_too() -> None:
    """It is fetched for each request, since only its bytes give the digest; the codes are shared."""
    loads: list[str] = []
    encodings: list[int] = []
    cache = VoiceCache(recording_encoder(encodings), capacity=2)
    assert (await cache.codes(None, recording_loader("a", 5, loads)))[0] == "a"
    await cache.codes(None, recording_loader("a", 5, loads))
    await cache.codes("a", recording_loader("a", 5, loads))
    assert loads == ["a", "a"]
    assert encodings == [5]


async def test_the_voice_used_longest_ago_is_removed_first() -> None:
    """The cache holds at most its capacity of voices."""
    loads: list[str] = []
    cache = VoiceCache(recording_encoder([]), capacity=2)
    for voice in ("a", "b", "a", "c", "a", "b"):
        await cache.codes(voice, recording_loader(voice, 5, loads))
    assert loads == ["a", "b", "c", "b"]
    assert len(cache) == 2


async def test_a_failed_sample_is_loaded_again() -> None:
    """An unreachable sample fails the requests that wait for it, and the failure is not cached."""

    async def unreachable() -> VoiceSample:
        await asyncio.sleep(0)
        raise ConnectionError("no route")

    loads: list[str] = []
    cache = VoiceCache(recording_encoder([]), capacity=2)
    failed = await asyncio.gather(*(cache.codes("a", unreachable) for _ in range(2)), return_exceptions=True)
    assert [type(error) for error in failed] == [ConnectionError, ConnectionError]
    await cache.codes("a", recording_loader("a", 5, loads))
    assert loads == ["a"]


async def test_a_bad_sample_fails_no_request_with_a_good_one() -> None:
    """A request that waited for another's failing sample loads its own; the voice is encoded once."""

    async def unreachable() -> VoiceSample:
        await asyncio.sleep(0)
        raise ConnectionError("no route")

    loads: list[str] = []
    encodings: list[int] = []
    cache = VoiceCache(recording_encoder(encodings), capacity=2)
    good = (cache.codes("a", recording_loader("a", 5, loads)) for _ in range(3))
    bad, *results = await asyncio.gather(cache.codes("a", unreachable), *good, return_exceptions=True)
    assert isinstance(bad, ConnectionError)
    assert [isinstance(result, tuple) and result[0] for result in results] == ["a"] * 3
    assert encodings == [5]


async def test_cancelling_a_request_does_not_cancel_the_encoding_for_others() -> None:
    """The request that started the encoding is cancelled; the one that waits for it gets the codes."""
    loads: list[str] = []
    cache = VoiceCache(recording_encoder([]), capacity=2)
    first = asyncio.ensure_future(cache.codes("a", recording_loader("a", 5, loads)))
    second = asyncio.ensure_future(cache.codes("a", recording_loader("a", 5, loads)))
    await asyncio.sleep(0)
    first.cancel()
    sha256, codes = await second
    assert (sha256, codes.shape) == ("a", (8, 5))
    assert loads == ["a"]
    with pytest.raises(asyncio.CancelledError):
        await first
