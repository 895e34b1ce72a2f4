"""Codec graphs: the decoding of full windows recorded once for each size of batch, as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable

import torch

from gpu_worker.higgs.delay_pattern import CODEBOOKS

BATCHES = (16, 8, 4, 2, 1)
"""Windows decoded together; a batch of another size is filled up to the next one."""

MAX_ERROR = 1e-4  # relative, of a recorded decoding against the one launched kernel by kernel

Decode = Callable[[torch.Tensor], torch.Tensor]
"""Waveforms [windows, 1, samples] of codes [windows, 8, frames], on the device."""

Record = Callable[[Decode, torch.Tensor], Callable[[], torch.Tensor]]
"""Records the decoding of codes that are written again before each replay, which returns the waveforms."""


class WindowGraphs:
    """Recorded decodings of windows of `frames` frames, some 330 launches in one.

    Raises `ValueError` if a recorded decoding does not give what `decode` gives.
    """

    def __init__(self, decode: Decode, record: Record, frames: int, device: torch.device) -> None:
        self._batches: dict[int, tuple[torch.Tensor, Callable[[], torch.Tensor]]] = {}
        random = torch.Generator().manual_seed(0)
        for batch in BATCHES:  # the largest first: the others find room in its memory
            codes = torch.randint(0, 1024, (batch, CODEBOOKS, frames), generator=random).to(device)
            expected = decode(codes).clone()
            replay = record(decode, codes)
            error = float((replay() - expected).norm() / expected.norm())
            if not error <= MAX_ERROR:
                raise ValueError(f"a recorded batch of {batch} windows has a relative error of {error:.1e}")
            self._batches[batch] = (codes, replay)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """As `decode`, for at most 16 windows in host memory; valid until the next call."""
        batch = min(size for size in BATCHES if size >= len(codes))
        recorded_codes, replay = self._batches[batch]
        recorded_codes[: len(codes)].copy_(codes)
        return replay()[: len(codes)]


def record_on(stream: torch.cuda.Stream) -> Record:
    """Records CUDA graphs in `stream`, which share their memory."""
    pool = torch.cuda.graph_pool_handle()

    def record(decode: Decode, codes: torch.Tensor) -> Callable[[], torch.Tensor]:
        decode(codes)  # libraries choose their kernels before the recording
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            waveforms = decode(codes)

        def replay() -> torch.Tensor:
            graph.replay()
            return waveforms

        return replay

    return record
