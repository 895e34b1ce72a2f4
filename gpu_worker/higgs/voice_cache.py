"""Voice cache: the codes of voice samples, so that each sample is fetched and encoded once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cachetools import LRUCache

from gpu_worker.engine_protocol import SampleLoader, Waveform
from gpu_worker.higgs.delay_pattern import Codes


class VoiceCache:
    """The codes of the `capacity` voices used last, by the SHA-256 of their sample.

    `encode` turns a sample's waveform into codes. Requests for a voice that is being encoded wait
    for that encoding. It continues when the request that started it is cancelled, since other
    requests want the same voice.
    """

    def __init__(self, encode: Callable[[Waveform], Awaitable[Codes]], *, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("a voice cache holds at least one voice")
        self._encode = encode
        self._voices: LRUCache[str, Codes] = LRUCache(capacity)
        self._encoding: dict[str, asyncio.Task[Codes]] = {}

    def __len__(self) -> int:
        return len(self._voices)

    async def codes(self, sha256: str | None, load: SampleLoader) -> tuple[str, Codes]:
        """The sample's SHA-256 and its codes, `[8, frames]`.

        `sha256` is the digest that the request declares; with it, `load` is called only for a
        voice that is not cached. Raises what `load` or the encoder raises; failures are not cached.
        """
        if sha256 is not None:
            started_here = sha256 not in self._encoding
            try:
                return sha256, await self._encode_once(sha256, lambda: self._load_and_encode(load))
            except Exception:
                if started_here:
                    raise
                # Another request's sample for this digest was bad; this request's own may be good.
        sample = await load()
        return sample.sha256, await self._encode_once(sample.sha256, lambda: self._encode(sample.waveform))

    async def _load_and_encode(self, load: SampleLoader) -> Codes:
        return await self._encode((await load()).waveform)

    async def _encode_once(self, sha256: str, encode: Callable[[], Awaitable[Codes]]) -> Codes:
        if sha256 in self._voices:
            return self._voices[sha256]
        if sha256 not in self._encoding:
            self._encoding[sha256] = asyncio.ensure_future(self._encode_and_store(sha256, encode))
        # Shielded: cancelling one waiting request must not cancel the encoding for the others.
        return await asyncio.shield(self._encoding[sha256])

    async def _encode_and_store(self, sha256: str, encode: Callable[[], Awaitable[Codes]]) -> Codes:
        try:
            codes = await encode()
        finally:
            del self._encoding[sha256]
        self._voices[sha256] = codes
        return codes
