"""Vocoder: the codec on a thread of its own, so that the decode loop never waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from gpu_worker.engine_protocol import Waveform
from gpu_worker.higgs.codec import Codec
from gpu_worker.higgs.delay_pattern import Codes

_Clip = tuple[Codes, "Future[Waveform]"]


class CodecThread:
    """One codec and its thread. Clips that end while another is being decoded are decoded together."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="codec")
        self._waiting: deque[_Clip] = deque()

    async def encode(self, waveform: Waveform) -> Codes:
        """Codes of a voice sample, `[8, frames]`."""
        return await asyncio.wrap_future(self._thread.submit(self._codec.encode, waveform))

    async def decode(self, codes: Codes) -> Waveform:
        """Waveform of a clip, within [-1, 1]."""
        clip: Future[Waveform] = Future()
        self._waiting.append((codes, clip))
        self._thread.submit(self._decode_waiting)
        return await asyncio.wrap_future(clip)

    def close(self) -> None:
        """Finish what was asked and end the thread."""
        self._thread.shutdown(wait=True)

    def _decode_waiting(self) -> None:
        clips: list[_Clip] = []
        while self._waiting:
            codes, clip = self._waiting.popleft()
            if clip.set_running_or_notify_cancel():
                clips.append((codes, clip))
        if clips:
            self._settle(clips)

    def _settle(self, clips: list[_Clip]) -> None:
        """Give every clip its waveform or the reason why not: this thread outlives any failure."""
        try:
            waveforms = self._codec.decode([codes for codes, _ in clips])
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            if len(clips) == 1:
                clips[0][1].set_exception(error)
                return
            for clip in clips:  # too many together; each alone may do
                self._settle([clip])
        except Exception as error:  # noqa: BLE001  # whatever it was, whoever asked is told
            for _, waveform in clips:
                waveform.set_exception(error)
        else:
            for (_, waveform), samples in zip(clips, waveforms, strict=True):
                waveform.set_result(np.clip(samples, -1, 1))
