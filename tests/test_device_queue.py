"""Results of queued work: waiting for them leaves the host's cores to other threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gpu_worker.higgs.device_queue import DeviceTimer, HostCopy


def test_waiting_for_a_device_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event is made for a thread that sleeps while it waits, instead of asking all the time."""
    events: list[dict[str, Any]] = []

    class Event:
        def __init__(self, **options: Any) -> None:
            events.append(options)

        def record(self) -> None:
            """As a real event's."""

    class OnDevice:
        is_cuda, shape, dtype = True, (2,), torch.int64

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: torch.zeros(2))
    monkeypatch.setattr(torch.Tensor, "copy_", lambda *_, **__: None)
    DeviceTimer(torch.device("cuda")).stop()
    HostCopy(OnDevice())
    assert len(events) == 3
    assert all(options["blocking"] for options in events)
