"""Results of work that is queued on a device: values and durations that are read later."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def upload(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """The array as a tensor on `device`; on CUDA queued from pinned memory, and the host does not wait."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    return tensor


class HostCopy:
    """A copy of a tensor to the host, queued when constructed; `get` waits for it and for no later work."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._event = _new_event() if tensor.is_cuda else None
        # On the CPU too this is a copy: the tensor is written in place afterwards.
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
        self._host.copy_(tensor, non_blocking=True)
        if self._event is not None:
            self._event.record()

    def get(self) -> np.ndarray[Any, Any]:
        """The tensor's values at the time the copy was queued, in its shape."""
        if self._event is not None:
            self._event.synchronize()
        array: np.ndarray[Any, Any] = self._host.numpy()
        return array


class DeviceTimer:
    """Measures queued work from construction to `stop`: by CUDA events, on the CPU by the host's clock."""

    def __init__(self, device: torch.device) -> None:
        self._events = [_new_event(enable_timing=True) for _ in range(2)] if device.type == "cuda" else []
        self._times: list[float] = []
        self._record()

    def stop(self) -> None:
        """Call once, after the last of the work has been queued."""
        self._record()

    def seconds(self) -> float:
        """Duration of the work; waits until it is done."""
        if not self._events:
            return self._times[1] - self._times[0]
        self._events[1].synchronize()
        return float(self._events[0].elapsed_time(self._events[1])) / 1000

    def _record(self) -> None:
        if self._events:
            self._events[len(self._times)].record()
        self._times.append(perf_counter())


def _new_event(*, enable_timing: bool = False) -> torch.cuda.Event:
    """An event on which a waiting thread sleeps; by default it would keep a core busy until then."""
    return torch.cuda.Event(enable_timing=enable_timing, blocking=True)
