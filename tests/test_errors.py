"""Errors: what they say and carry arrives in another process."""

from __future__ import annotations

import pickle

from narration.errors import ChunksFailed, JobFailed


def test_errors_survive_pickling() -> None:
    """Prefect and processes pass exceptions on by pickle: message, remedy and fields arrive."""
    failed = pickle.loads(pickle.dumps(JobFailed("no", code="out_of_memory", retryable=True, remedy="wait")))
    assert (failed.code, failed.retryable, str(failed)) == ("out_of_memory", True, "no (wait)")
    chunks = pickle.loads(pickle.dumps(ChunksFailed("2 chunks", failures={3: "gone"})))
    assert chunks.failures == {3: "gone"}
