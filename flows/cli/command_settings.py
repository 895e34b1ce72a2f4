"""The settings of one command: the environment and `.env`, with the command's options on top."""

from __future__ import annotations

import os
import subprocess
import sys

from flows.cli.local_endpoint import MODEL_ENGINES
from narration.errors import SettingsError
from narration.settings import Settings, read_settings


def command_settings(
    *,
    store: str | None = None,
    engine: str | None = None,
    voice: str | None = None,
    max_cost: float | None = None,
) -> Settings:
    """Settings with a command's options on top; None is an option that was not given.

    Where `WORKER_ENGINE` is higgs or openai and no endpoint is configured, this machine runs the worker, and
    the worker's settings name the model; flows then find it in the environment as `NARRATION_MODEL`.
    """
    options = {"store": store, "engine": engine, "voice": voice, "max_cost": max_cost}
    settings = read_settings(**options)
    has_own_worker = settings.endpoint_id is None and os.environ.get("WORKER_ENGINE") in MODEL_ENGINES
    if has_own_worker and not settings.engine:
        model = settings.model or _local_model()
        settings = read_settings(**options | {"engine": "higgs", "model": model})
        os.environ["NARRATION_MODEL"] = model
    return settings


def _local_model() -> str:
    """The model id of a worker with this environment."""
    command = [sys.executable, "-m", "gpu_worker", "model-id"]
    printed = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own module
    if printed.returncode != 0:
        raise SettingsError(f"the worker's settings name no model: {printed.stderr.strip()[-300:]}")
    return printed.stdout.strip()
