"""The local endpoint as processes: a client of its job API, its process tree, and a slow voice sample."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # ships no types

from infra.local_runpod.launch import RunningEndpoint
from support.worker import file, sample, serving

ROOT = Path(__file__).parents[2]
"""The folder from which `python -m infra.local_runpod` can be run."""


class JobClient:
    """A client of one endpoint's job API, without the pipeline's own."""

    def __init__(self, endpoint: RunningEndpoint) -> None:
        self._http = httpx.Client(
            base_url=f"{endpoint.base_url}/{endpoint.endpoint_id}",
            headers={"Authorization": f"Bearer {endpoint.api_key}"},
            timeout=30,
            verify=False,
        )

    def run(self, **job_input: Any) -> str:
        """Submit a job; returns its id."""
        return str(self._http.post("run", json={"input": job_input}).raise_for_status().json()["id"])

    def status(self, job: str) -> dict[str, Any]:
        """The present response to /status."""
        return dict(self._http.get(f"status/{job}").raise_for_status().json())

    def wait_for(self, job: str, *statuses: str, seconds: float = 120) -> dict[str, Any]:
        """The response to /status once the job has one of `statuses`."""
        deadline = time.monotonic() + seconds
        while (status := self.status(job))["status"] not in statuses:
            assert time.monotonic() < deadline, status
            time.sleep(0.05)
        return status

    def wait_for_end(self, job: str, seconds: float = 120) -> dict[str, Any]:
        """The response to /status once the job has ended."""
        return self.wait_for(job, "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT", seconds=seconds)

    def cancel(self, job: str) -> None:
        """Cancel a job."""
        self._http.post(f"cancel/{job}").raise_for_status()

    def health(self) -> dict[str, dict[str, int]]:
        """The response to /health."""
        counts: dict[str, dict[str, int]] = self._http.get("health").raise_for_status().json()
        return counts

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


@contextmanager
def job_client(endpoint: RunningEndpoint) -> Iterator[JobClient]:
    """A client that is closed at the end of the block."""
    client = JobClient(endpoint)
    try:
        yield client
    finally:
        client.close()


def worker_of(endpoint: RunningEndpoint) -> psutil.Process:
    """The process of the SDK's worker loop, whose parent is its supervisor."""
    supervisors = psutil.Process(endpoint.pid).children()
    assert len(supervisors) == 1
    [worker] = supervisors[0].children()
    assert "gpu_worker" in worker.cmdline()
    return worker


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Return when `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def process_tree(process: psutil.Process) -> list[psutil.Process]:
    """A process and every process that it started."""
    return [process, *process.children(recursive=True)]


def have_ended(processes: list[psutil.Process]) -> bool:
    """Whether all of them have ended."""
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


class SlowSample:
    """A voice sample whose first download waits until `release` is set; later ones are answered at once."""

    def __init__(self) -> None:
        self.requested = threading.Event()
        self.release = threading.Event()

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        if not self.requested.is_set():
            self.requested.set()
            self.release.wait(100)
        with contextlib.suppress(OSError):  # the worker may have died meanwhile
            file(sample())(request)

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve the sample; yields its URL."""
        with serving(self) as url:
            yield url
            self.release.set()
