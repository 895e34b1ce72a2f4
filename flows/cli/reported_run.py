"""A flow run in this process whose report is printed, and the exit status that follows from it."""

from __future__ import annotations

import os

from flows.cli import terminal
from flows.cli.flow_run import Flow, run_flow
from flows.cli.local_endpoint import local_endpoint, needs_local_endpoint
from flows.cli.process_exit import DONE, FAILED
from flows.cli.run_text import describe_run
from narration.errors import ChunksFailed, PrefectUnavailable, SettingsError
from narration.settings import Settings
from narration.synthesis.report import RunReport


def run_and_report(flow: Flow, settings: Settings, *, synthesizes: bool, json: bool, began: float) -> int:
    """Run `flow` and print its report; returns the exit status.

    `synthesizes` says that clips are missing: where no endpoint is configured, a local one then runs
    as long as the flow. `json` prints the report as JSON. `began` is when the command began, by
    `time.monotonic`.
    """
    os.environ["NARRATION_STORE"] = settings.store
    local = needs_local_endpoint(settings)
    remedy = ""
    try:
        outcome = run_flow(
            flow,
            endpoint=local_endpoint(settings) if local and synthesizes else None,
            free=settings.engine_in_use() == "draft",
            began=began,
        )
    except ChunksFailed as error:
        outcome, remedy = error.report, error.remedy
    except PrefectUnavailable:
        raise
    except SettingsError:
        if synthesizes or not local:
            raise
        terminal.say("a stored clip is damaged: once more, with a worker to make it again")
        return run_and_report(flow, settings, synthesizes=True, json=json, began=began)
    report = RunReport.model_validate(outcome)
    if json:
        terminal.result_json(report.model_dump(mode="json"))
    else:
        terminal.result(describe_run(report))
    if remedy:
        terminal.say(f"narrate: {remedy}")
    return FAILED if report.failed else DONE
