"""Commands that look after the installation: `doctor`."""

from __future__ import annotations

from cyclopts import App, Group

from flows.cli import terminal
from flows.cli.argument_types import EngineOption, Json, StoreOption, VoiceOption, examples
from flows.cli.command_settings import command_settings
from flows.cli.process_exit import BAD_INPUT, DONE

commands = App()
UPKEEP = Group("Upkeep", sort_key=4)

MARKS = {True: "ok", False: "wrong", None: "unknown"}
MESSAGE = 19  # columns before a finding's message
STYLES = {True: "green", False: "red", None: "yellow"}


@commands.command(
    group=UPKEEP,
    help_epilogue=examples("narrate doctor", "narrate doctor --voice anna --store s3://bucket/talks"),
)
def doctor(
    *, voice: VoiceOption = None, store: StoreOption = None, engine: EngineOption = None, json: Json = False
) -> int:
    """Check store, ffmpeg, endpoint and voice: one line each, with what to do."""
    from narration import preflight  # noqa: PLC0415  # httpx, which `plan` does without

    findings = preflight.run_checks(command_settings(voice=voice, store=store, engine=engine))
    wrong = any(finding.ok is False for finding in findings)
    if json:
        terminal.result_json({"ok": not wrong, "findings": [finding.to_json() for finding in findings]})
    for finding in [] if json else findings:
        remedy = f" -> {finding.remedy}" if finding.remedy and not finding.ok else ""
        line = f"{MARKS[finding.ok]:<8} {finding.name:<9} {finding.message}{remedy}"
        terminal.result(line, style=STYLES[finding.ok], hanging=MESSAGE)
    return BAD_INPUT if wrong else DONE
