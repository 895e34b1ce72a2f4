"""What Prefect's server has recorded of narrations that a benchmark ran."""

from __future__ import annotations

import time
from typing import Any

import httpx

RECORDED_SECONDS = 120.0  # within which the server has recorded the last task


def completed_tasks(api_url: str, expected: int) -> int:
    """How many tasks of chunks the server knows as completed.

    Waits until they are as many as expected, `RECORDED_SECONDS` at most.
    """
    query = {"task_runs": {"name": {"like_": "chunk "}, "state": {"type": {"any_": ["COMPLETED"]}}}}
    give_up = time.monotonic() + RECORDED_SECONDS
    while True:
        answer = httpx.post(f"{api_url}/task_runs/count", json=query, timeout=60).raise_for_status()
        completed = int(answer.json())
        if completed >= expected or time.monotonic() > give_up:
            return completed
        time.sleep(1)


def latest_artifact(api_url: str, key: str) -> Any:
    """The data of the latest artifact of that key, or None."""
    query = {"artifacts": {"key": {"any_": [key]}}, "sort": "UPDATED_DESC", "limit": 1}
    answer = httpx.post(f"{api_url}/artifacts/filter", json=query, timeout=60).raise_for_status()
    artifacts = answer.json()
    return artifacts[0]["data"] if artifacts else None
