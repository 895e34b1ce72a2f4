"""RunPod's queue and one worker on this machine, for a run that has no endpoint configured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from narration.settings import RUNPOD_URL, Settings

MODEL_ENGINES = ("higgs", "openai")
"""Values of `WORKER_ENGINE` with which a worker on this machine narrates: all but the draft voice."""


def needs_local_endpoint(settings: Settings) -> bool:
    """Whether a run with `settings` synthesizes on this machine; RunPod's workers speak no drafts."""
    if settings.engine_in_use() == "draft":
        return settings.runpod_url == RUNPOD_URL
    return settings.endpoint_id is None and os.environ.get("WORKER_ENGINE") in MODEL_ENGINES


@contextmanager
def local_endpoint(settings: Settings) -> Iterator[None]:
    """Run the local endpoint; flows started inside find its address and key in the environment.

    Raises `EndpointUnavailable` when it does not start.
    """
    from infra.local_runpod.launch import local_runpod  # noqa: PLC0415  # only where a run needs it

    engine = "draft" if settings.engine_in_use() == "draft" else os.environ.get("WORKER_ENGINE", "higgs")
    with local_runpod(engine=engine) as endpoint:
        os.environ["NARRATION_RUNPOD_URL"] = endpoint.base_url
        os.environ["RUNPOD_HIGGS_ENDPOINT_ID"] = endpoint.endpoint_id
        os.environ["RUNPOD_API_KEY"] = endpoint.api_key
        yield
