"""Commands that make narrations: `plan`, `run`, `retake`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Group, Parameter

from flows.cli import terminal
from flows.cli.argument_types import (
    ChunkNumber,
    EngineOption,
    Json,
    MaxCost,
    NarrationId,
    NewId,
    NewTexts,
    ScriptFile,
    Seed,
    StoreOption,
    Take,
    VoiceOption,
    examples,
)
from flows.cli.command_settings import command_settings
from flows.cli.plan_text import LABEL, chunk_rows, describe_totals
from flows.cli.process_exit import DONE
from flows.cli.reported_run import run_and_report
from narration.errors import InputError
from narration.planning import NarrationSource, Plan, make_plan, narration_slug
from narration.script import Script, read_script, script_suffix
from narration.settings import Settings
from narration.store import Store, open_store, validate_id
from narration.synthesis.report import plan_report
from narration.voices import choose_voice

commands = App()
NARRATE = Group("Narrate", sort_key=1)


@commands.command(
    group=NARRATE,
    sort_key=1,
    help_epilogue=examples(
        "narrate plan talk.md", "narrate plan talk.md --summary", "narrate plan talk.md --json"
    ),
)
def plan(
    script: ScriptFile,
    /,
    *,
    narration_id: NewId = None,
    voice: VoiceOption = None,
    summary: Annotated[bool, Parameter(help="Show the totals without the chunks.")] = False,
    store: StoreOption = None,
    engine: EngineOption = None,
    json: Json = False,
) -> int:
    """Show what a run would synthesize and cost; nothing is started."""
    settings = command_settings(store=store, engine=engine, voice=voice)
    _, _, planned = _plan_script(script, narration_id, settings, importing=False)
    if json:
        report = plan_report(planned)
        terminal.result_json({key: report[key] for key in report if not (summary and key == "chunks")})
        return DONE
    if not summary:
        styles = ["dim" if chunk.clip else "" for chunk in planned.chunks]
        terminal.result_table(chunk_rows(planned), right=(0, 2), styles=styles)
        terminal.result("")
    terminal.result(describe_totals(planned), hanging=LABEL)
    return DONE


@commands.command(
    group=NARRATE,
    sort_key=2,
    help_epilogue=examples(
        "narrate run talk.md",
        "narrate run talk.md --id intro --voice anna --max-cost 2",
        "narrate run talk.md --json",
    ),
)
def run(
    script: ScriptFile,
    /,
    *,
    narration_id: NewId = None,
    voice: VoiceOption = None,
    max_cost: MaxCost = None,
    store: StoreOption = None,
    engine: EngineOption = None,
    json: Json = False,
) -> int:
    """Narrate a script: synthesize what is missing, master it, publish it."""
    began = time.monotonic()
    settings = command_settings(store=store, engine=engine, voice=voice, max_cost=max_cost)
    opened, read, planned = _plan_script(script, narration_id, settings, importing=True)
    reference = opened.scripts.put(read.source, script_suffix(script.name))

    async def flow() -> dict[str, Any]:
        from flows.narrate import narrate  # noqa: PLC0415  # Prefect is imported only where it runs

        return await narrate(
            script=reference,
            narration_id=planned.narration_id,
            voice=settings.voice,
            engine=planned.engine,
            max_cost=settings.max_cost,
        )

    return run_and_report(flow, settings, synthesizes=bool(planned.missing), json=json, began=began)


@commands.command(
    group=NARRATE,
    sort_key=3,
    help_epilogue=examples(
        "narrate retake intro 3 7",
        'narrate retake intro 3 --text "3=Other words."',
        "narrate retake intro 3 --take 1",
    ),
)
def retake(
    narration_id: NarrationId,
    /,
    *chunks: ChunkNumber,
    seed: Seed = None,
    text: NewTexts = None,
    take: Take = None,
    max_cost: MaxCost = None,
    store: StoreOption = None,
    engine: EngineOption = None,
    json: Json = False,
) -> int:
    """Speak some chunks of a narration again, or go back to an earlier take of them."""
    began = time.monotonic()
    settings = command_settings(store=store, engine=engine, max_cost=max_cost)
    texts = dict(_new_text(entry) for entry in text or [])

    async def flow() -> dict[str, Any]:
        from flows.retake import retake as retake_flow  # noqa: PLC0415  # Prefect is imported only where it runs

        return await retake_flow(
            narration_id=narration_id,
            chunks=list(chunks),
            seed=seed,
            texts=texts,
            take=take,
            engine=settings.engine_in_use(),
            max_cost=settings.max_cost,
        )

    return run_and_report(flow, settings, synthesizes=True, json=json, began=began)


def _new_text(entry: str) -> tuple[int, str]:
    """The chunk number and the words of one `--text`."""
    number, equals, text = entry.partition("=")
    if not equals or not number.strip().isdecimal() or not text.strip():
        raise InputError(
            f"--text {entry[:40]!r} is not CHUNK=TEXT", remedy='for example --text "3=Other words."'
        )
    return int(number), text


def _plan_script(
    path: Path, narration_id: str | None, settings: Settings, *, importing: bool
) -> tuple[Store, Script, Plan]:
    """Read and plan a script file; nothing is written but, with `importing`, the default voice."""
    new_id = validate_id(narration_id) if narration_id is not None else narration_slug(path.stem)
    script = read_script(path)
    store = open_store(settings.store)
    voice = choose_voice(store.voices, settings, importing=importing)
    source = NarrationSource(script, key="", settings=settings)
    return store, script, make_plan(store, source, narration_id=new_id, voice=voice)
