"""How `video_agent` gets a narration: start the deployment's run, wait for its end, read the manifest.

    python examples/video_agent.py SCRIPT NARRATION_ID [--engine draft] [--retry]

A script that is a file on this machine is put into the store under its content's hash, so that an
edited script is another request. PREFECT_API_URL names the server; NARRATION_STORE, with
credentials where it needs them, the store. NARRATION_ENGINE is the default of --engine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.states import AwaitingRetry

from narration.settings import read_settings
from narration.store import open_store

POLL_SECONDS = 2.0
CRASH_SECONDS = 60.0  # within which the server schedules a crashed run again


def reference_to(script: str) -> str:
    """The script as workers find it: its key in the store, if it is a file on this machine."""
    path = Path(script)
    if not path.is_file():
        return script
    return open_store(read_settings().store).scripts.put(path.read_bytes(), path.suffix or ".txt")


def start(script: str, narration_id: str, engine: str | None) -> FlowRun:
    """Start a run, or return the run that an earlier call with the same arguments started."""
    parameters = {"script": script, "narration_id": narration_id, "engine": engine}
    # With the same key Prefect returns the same run, while it goes on and after its end.
    key = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
    run = run_deployment("narrate/narrate", parameters=parameters, idempotency_key=key, timeout=0)
    assert isinstance(run, FlowRun)  # it would be awaitable inside an event loop
    return run


def wait_for_end(run: FlowRun) -> FlowRun:
    """Wait until the run has ended, without a time limit; the run as it ended."""
    crashed = 0.0
    with get_client(sync_client=True) as client:
        while True:
            now = client.read_flow_run(run.id)
            assert now.state is not None  # every run has one from its creation on
            crashed = crashed + POLL_SECONDS if now.state.is_crashed() else 0.0
            if now.state.is_final() and (not crashed or crashed > CRASH_SECONDS):
                return now
            time.sleep(POLL_SECONDS)


def retry(run: FlowRun) -> None:
    """Do what the UI's Retry button does: run the same run again, which synthesizes what is missing."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, AwaitingRetry(), force=True)


def read_manifest(narration_id: str, engine: str | None) -> dict[str, Any]:
    """The published manifest; raises `LookupError` if this store has none of that id."""
    published = f"{narration_id}-draft" if engine == "draft" else narration_id
    stored = open_store(read_settings().store).manifests.read(published)
    if stored is None:
        raise LookupError(
            f"{published} is not published in this store (name the store and the engine of the workers: "
            "NARRATION_STORE, and --engine draft if they speak with the draft voice)"
        )
    manifest: dict[str, Any] = json.loads(stored[0])
    return manifest


def main() -> int:
    """Exit status 0 with a summary of the manifest on stdout, 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(description="Start a narration and wait for its manifest.")
    parser.add_argument("script", help="a file, a key in the store, or an https URL")
    parser.add_argument("narration_id")
    parser.add_argument("--engine", choices=["higgs", "draft"])
    parser.add_argument("--retry", action="store_true", help="if this request failed before, try it again")
    arguments = parser.parse_args()
    engine = arguments.engine or read_settings().engine
    run = start(reference_to(arguments.script), arguments.narration_id, engine)
    if arguments.retry and run.state is not None and run.state.is_final() and not run.state.is_completed():
        retry(run)
    run = wait_for_end(run)
    assert run.state is not None
    if not run.state.is_completed():
        print(f"{run.name} ({run.id}) ended {run.state.name}: {run.state.message}", file=sys.stderr)
        return 1
    try:
        manifest = read_manifest(arguments.narration_id, engine)
    except LookupError as error:
        print(f"{run.name} ({run.id}) is done, but {error}", file=sys.stderr)
        return 1
    summary = {
        "run": str(run.id),
        "duration": manifest["duration"],
        "audio": next(entry["key"] for entry in manifest["files"] if entry["kind"] == "mp3"),
        "chapters": manifest["chapters"],
    }
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
