"""Encoded voices, kept: a sample is fetched and encoded once, however many chunks it speaks."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from gpu_worker.engine_protocol import SampleLoader, Waveform
from gpu_worker.higgs.delay_pattern import Codes


class VoiceCache:
    """The codes of the `capacity` voices spoken with last, by the SHA-256 of their sample.

    Belongs to one codec, whose codes it holds: `encode` turns a sample's waveform into them.
    Requests that ask for a voice while it is being encoded wait for it together; the work goes
    on when one of them is cancelled, since its clip's neighbours want the same voice.
    """

    def __init__(self, encode: Callable[[Waveform], Awaitable[Codes]], *, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("a voice cache holds at least one voice")
        self._encode = encode
        self._capacity = capacity
        self._voices: OrderedDict[str, Codes] = OrderedDict()
        self._encoding: dict[str, asyncio.Task[Codes]] = {}

    def __len__(self) -> int:
        return len(self._voices)

    async def codes(self, sha256: str | None, load: SampleLoader) -> tuple[str, Codes]:
        """The sample's SHA-256 and its codes, `[8, frames]`.

        `sha256` is what the request says of its sample: with it, `load` is called only if the
        voice is not here. Raises what `load` or the encoder raises; a failure is not kept.
        """
        if sha256 is not None:
            mine = sha256 not in self._encoding
            try:
                return sha256, await self._once(sha256, lambda: self._loaded(load))
            except Exception:
                if mine:
                    raise
                # The sample of another request, which claimed this digest, was bad: this one may be good.
        sample = await load()
        return sample.sha256, await self._once(sample.sha256, lambda: self._encode(sample.waveform))

    async def _loaded(self, load: SampleLoader) -> Codes:
        return await self._encode((await load()).waveform)

    async def _once(self, sha256: str, make: Callable[[], Awaitable[Codes]]) -> Codes:
        if sha256 in self._voices:
            self._voices.move_to_end(sha256)
            return self._voices[sha256]
        if sha256 not in self._encoding:
            self._encoding[sha256] = asyncio.ensure_future(self._keep(sha256, make))
        # Shielded: a cancelled waiter must not cancel the voice for the others.
        return await asyncio.shield(self._encoding[sha256])

    async def _keep(self, sha256: str, make: Callable[[], Awaitable[Codes]]) -> Codes:
        try:
            codes = await make()
        finally:
            del self._encoding[sha256]
        self._voices[sha256] = codes
        if len(self._voices) > self._capacity:
            self._voices.popitem(last=False)
        return codes
