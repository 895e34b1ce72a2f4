"""Reports of runs for tests that run no narration."""

from __future__ import annotations

from narration.synthesis.report import RunReport


def unfinished_report(failures: dict[int, str]) -> RunReport:
    """The report of a run of nine chunks, of which those in `failures` have no clip."""
    return RunReport(
        narration_id="long",
        manifest=None,
        files={},
        duration=None,
        chunks=9,
        synthesized=9 - len(failures),
        cached=0,
        failed=len(failures),
        failures=failures,
        engine="higgs",
    )
