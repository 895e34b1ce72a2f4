"""Codec thread: encodes and decodes on its own thread, so that the step loop never waits for the codec."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from gpu_worker.engine_protocol import Waveform
from gpu_worker.higgs.codec import Codec
from gpu_worker.higgs.delay_pattern import Codes
from gpu_worker.higgs.device_loss import Watchdog

_Decoding = tuple[Codes, "Future[Waveform]"]


class CodecThread:
    """Runs one codec on one thread. Clips that arrive during a decoding are decoded together after it."""

    def __init__(self, codec: Codec, watchdog: Watchdog | None = None) -> None:
        self._codec = codec
        self._watchdog = watchdog
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="codec")
        self._waiting: deque[_Decoding] = deque()

    async def encode(self, waveform: Waveform) -> Codes:
        """Codes `[8, frames]` of a voice sample [samples]; raises what `Codec.encode` raises."""
        return await asyncio.wrap_future(self._thread.submit(self._encode, waveform))

    async def decode(self, codes: Codes) -> Waveform:
        """Waveform [960 frames] of a clip's codes [8, frames], clipped to [-1, 1].

        Raises `torch.OutOfMemoryError` if the clip does not fit even alone, else what
        `Codec.decode` raises.
        """
        future: Future[Waveform] = Future()
        self._waiting.append((codes, future))
        self._thread.submit(self._decode_waiting)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Finish the submitted work and end the thread."""
        self._thread.shutdown(wait=True)

    def _encode(self, waveform: Waveform) -> Codes:
        with self._window():
            return self._codec.encode(waveform)

    def _window(self) -> AbstractContextManager[None]:
        return self._watchdog.window() if self._watchdog else nullcontext()

    def _decode_waiting(self) -> None:
        clips: list[_Decoding] = []
        while self._waiting:
            codes, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                clips.append((codes, future))
        if clips:
            self._decode_together(clips)

    def _decode_together(self, clips: list[_Decoding]) -> None:
        """Resolve each clip's future to its waveform or to the exception; never raises."""
        try:
            with self._window():
                waveforms = self._codec.decode([codes for codes, _ in clips])
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            if len(clips) == 1:
                clips[0][1].set_exception(error)
                return
            for clip in clips:  # one clip at a time needs less memory
                self._decode_together([clip])
        except Exception as error:  # noqa: BLE001 -- every exception goes to the requests that wait
            for _, future in clips:
                future.set_exception(error)
        else:
            for (_, future), waveform in zip(clips, waveforms, strict=True):
                future.set_result(np.clip(waveform, -1, 1))
