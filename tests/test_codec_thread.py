"""Codec thread: waveforms within full scale, and clips that do not fit together decoded one by one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from support.engines import BERT

from gpu_worker.engine_protocol import Waveform
from gpu_worker.higgs.codec import Codec
from gpu_worker.higgs.codec_thread import CodecThread
from gpu_worker.higgs.delay_pattern import Codes


async def test_a_waveform_stays_within_full_scale(codec_folder: Path) -> None:
    """The codec's output has no bound; samples beyond full scale are clipped, so that none wraps later."""

    class LoudCodec(Codec):
        def decode(self, clips: Sequence[Codes]) -> list[Waveform]:
            return [100 * waveform for waveform in super().decode(clips)]

    thread = CodecThread(LoudCodec.load(codec_folder, "cpu"))
    waveform = await thread.decode(np.full((8, 4), 5, dtype=np.int16))
    thread.close()
    assert (waveform.min(), waveform.max()) == (-1, 1)


async def test_clips_that_do_not_fit_together_are_decoded_one_by_one(codec_folder: Path) -> None:
    """Out of memory in the codec costs time, and fails only a clip that does not fit alone."""
    codec = Codec.load(codec_folder, "cpu")
    clips = [np.full((8, frames), frames, dtype=np.int16) for frames in (3, 4, 5)]

    class SmallMemoryCodec(Codec):
        def encode(self, waveform: Waveform) -> Codes:
            time.sleep(0.2)
            return super().encode(waveform)

        def decode(self, clips: Sequence[Codes]) -> list[Waveform]:
            if len(clips) > 1 or clips[0].shape[1] == 5:
                raise torch.OutOfMemoryError
            return super().decode(clips)

    thread = CodecThread(SmallMemoryCodec.load(codec_folder, "cpu"))
    encoding = asyncio.ensure_future(thread.encode(BERT))  # keeps the thread busy while the clips arrive
    await asyncio.sleep(0.05)
    *waveforms, refusal = await asyncio.gather(*map(thread.decode, clips), return_exceptions=True)
    assert len(await encoding) == 8
    thread.close()
    for waveform, whole in zip(waveforms, codec.decode(clips[:2]), strict=True):
        assert isinstance(waveform, np.ndarray)
        np.testing.assert_array_equal(waveform, whole)
    assert isinstance(refusal, torch.OutOfMemoryError)
