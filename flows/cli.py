"""The command `narrate`: everything a person does from a terminal."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from flows import terminal
from narration.errors import ChunksFailed, InputError, NarrationError, SettingsError
from narration.planning import Plan, make_plan, narration_slug
from narration.report import RunReport
from narration.script import Script, read_script, script_suffix
from narration.settings import RUNPOD_URL, Settings, read_settings
from narration.store import Store, open_store, validate_id
from narration.voices import add_voice, check_voice, choose_voice, list_voices

DONE, FAILED, BAD_INPUT = 0, 1, 2
STOPPED = 130  # by Ctrl-C, as shells have it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 (some chunk failed; the rest is stored) or 2 (bad input)."""
    given = _parser().parse_args(arguments)
    try:
        status: int = given.command(given)
    except NarrationError as error:
        terminal.say(f"narrate: {error}")
        return FAILED if error.clips_stored else BAD_INPUT
    except KeyboardInterrupt:
        terminal.say("narrate: stopped; what was stored is kept, the same command goes on from there")
        return STOPPED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="narrate", description="Narration scripts to finished narrations in a cloned voice."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="narrate a script: synthesize what is missing, master, publish")
    _script_arguments(run)
    run.add_argument("--max-cost", type=float, metavar="USD", help="refuse to start, or go on, beyond this")
    run.set_defaults(command=_run)

    plan = commands.add_parser("plan", help="show what a run would synthesize and cost")
    _script_arguments(plan)
    plan.set_defaults(command=_plan)

    retake = commands.add_parser("retake", help="speak some chunks of a narration again")
    retake.add_argument("id", help="the narration's id")
    retake.add_argument("chunks", type=int, nargs="+", metavar="CHUNK", help="chunk numbers, from 1")
    retake.add_argument("--seed", type=int, help="seed of the new takes; default: derived from the take")
    retake.add_argument(
        "--text", action="append", default=[], metavar="CHUNK=TEXT", help="other words for a chunk"
    )
    retake.add_argument("--take", type=int, metavar="N", help="go back to take N instead of making one")
    retake.add_argument(
        "--max-cost", type=float, metavar="USD", help="refuse to start, or go on, beyond this"
    )
    _common_arguments(retake)
    retake.set_defaults(command=_retake)

    voice = commands.add_parser("voice", help="add, list and check voices").add_subparsers(
        required=True, metavar="COMMAND"
    )
    add = voice.add_parser("add", help="import a voice into the store")
    add.add_argument("name")
    add.add_argument("--sample", required=True, metavar="FILE_OR_URL", help="1 to 30 s of clean speech")
    add.add_argument(
        "--transcript", required=True, metavar="FILE_OR_TEXT", help="exactly what the sample says"
    )
    add.add_argument("--replace", action="store_true", help="replace a voice of that name")
    _store_argument(add)
    add.set_defaults(command=_voice_add)
    listing = voice.add_parser("list", help="list the store's voices")
    _store_argument(listing)
    listing.set_defaults(command=_voice_list)
    check = voice.add_parser("check", help="check a voice's sample again")
    check.add_argument("name")
    _store_argument(check)
    check.set_defaults(command=_voice_check)

    doctor = commands.add_parser("doctor", help="check store, ffmpeg, endpoint and voice")
    _common_arguments(doctor)
    doctor.add_argument("--voice", metavar="NAME")
    doctor.set_defaults(command=_doctor)
    return parser


def _store_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="URL", help="a folder or s3://bucket/prefix")


def _common_arguments(parser: argparse.ArgumentParser) -> None:
    _store_argument(parser)
    parser.add_argument(
        "--engine", choices=["draft", "higgs"], help="default: higgs with an endpoint, else draft"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout, and nothing else"
    )


def _script_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("script", metavar="SCRIPT", type=Path, help="a text or Markdown file")
    parser.add_argument("--id", help="the narration's id; default: made of the file's name")
    parser.add_argument("--voice", metavar="NAME", help="default: the voice named `default`")
    _common_arguments(parser)


def _settings(given: argparse.Namespace) -> Settings:
    """Settings with what the command line says on top; both reach the flow through the environment."""
    names = ("store", "engine", "voice", "max_cost")
    settings = read_settings(**{name: getattr(given, name, None) for name in names})
    if settings.endpoint_id is None and os.environ.get("WORKER_ENGINE") == "higgs" and not settings.engine:
        # The worker will be this machine's own, so its settings say which engine and model speak.
        model = settings.model or _local_model()
        settings = read_settings(
            **{name: getattr(given, name, None) for name in names} | {"engine": "higgs", "model": model}
        )
        os.environ["NARRATION_MODEL"] = model
    return settings


def _local_model() -> str:
    """The model id that a worker with this environment answers for."""
    command = [sys.executable, "-m", "gpu_worker", "model-id"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own module
    if asked.returncode != 0:
        raise SettingsError(f"WORKER_MODEL and WORKER_CODEC name no model: {asked.stderr.strip()[-300:]}")
    return asked.stdout.strip()


def _needs_stand_in(settings: Settings) -> bool:
    """Whether the worker has to be this machine's own; RunPod's never speaks drafts."""
    if settings.engine_in_use() == "draft":
        return settings.runpod_url == RUNPOD_URL
    return settings.endpoint_id is None and os.environ.get("WORKER_ENGINE") == "higgs"


@contextmanager
def _stand_in(settings: Settings) -> Iterator[None]:
    """RunPod's queue and one worker on this machine while a run needs them."""
    from infra.local_runpod.launch import local_runpod  # noqa: PLC0415  # as late as the run itself

    with local_runpod(engine=settings.engine_in_use()) as endpoint:
        os.environ["NARRATION_RUNPOD_URL"] = endpoint.base_url
        os.environ["RUNPOD_HIGGS_ENDPOINT_ID"] = endpoint.endpoint_id
        os.environ["RUNPOD_API_KEY"] = endpoint.api_key
        yield


def _plan_of(given: argparse.Namespace, settings: Settings, *, importing: bool) -> tuple[Store, Script, Plan]:
    """Read and plan a script file; nothing is written but, with `importing`, the default voice."""
    narration_id = validate_id(given.id) if given.id else narration_slug(given.script.stem)
    script = read_script(given.script)
    store = open_store(settings.store)
    voice = choose_voice(store, settings, importing=importing)
    plan = make_plan(store, script, narration_id=narration_id, settings=settings, voice=voice)
    return store, script, plan


def _plan(given: argparse.Namespace) -> int:
    _, _, plan = _plan_of(given, _settings(given), importing=False)
    if not given.json:
        terminal.result(terminal.describe_plan(plan))
        return DONE
    estimate = plan.estimate
    _print_json(
        {
            "narration_id": plan.narration_id,
            "model": plan.model,
            "voice": plan.voice.name if plan.voice else None,
            "chunks": [
                {
                    "index": planned.chunk.index,
                    "text": planned.text,
                    "characters": len(planned.text),
                    "digest": planned.digest,
                    "cached": planned.clip is not None,
                    "boundary": planned.chunk.boundary,
                }
                for planned in plan.chunks
            ],
            "totals": {
                "chunks": len(plan.chunks),
                "cached": plan.cached,
                "characters": sum(len(planned.text) for planned in plan.chunks),
                "speech_seconds": round(estimate.speech_seconds, 2),
                "gpu_seconds": round(estimate.gpu_seconds, 2),
                "price": round(estimate.price, 6),
                "price_per_second": estimate.price_per_second,
                "speed": estimate.speed,
                "speed_source": "measured" if estimate.speed_measured else "assumed",
            },
        }
    )
    return DONE


def _run(given: argparse.Namespace) -> int:
    settings = _settings(given)
    store, script, plan = _plan_of(given, settings, importing=True)
    reference = store.put_script(script.source, script_suffix(given.script.name))

    async def flow() -> dict[str, Any]:
        from flows.narrate import narrate  # noqa: PLC0415  # Prefect is imported only where it runs

        return await narrate(
            script=reference,
            narration_id=plan.narration_id,
            voice=settings.voice,
            engine=plan.engine,
            max_cost=settings.max_cost,
        )

    return _start(given, settings, flow, needs_endpoint=bool(plan.missing))


def _retake(given: argparse.Namespace) -> int:
    settings = _settings(given)
    texts = dict(_override(entry) for entry in given.text)

    async def flow() -> dict[str, Any]:
        from flows.retake import retake  # noqa: PLC0415  # Prefect is imported only where it runs

        return await retake(
            narration_id=given.id,
            chunks=given.chunks,
            seed=given.seed,
            texts=texts,
            take=given.take,
            engine=settings.engine_in_use(),
            max_cost=settings.max_cost,
        )

    return _start(given, settings, flow, needs_endpoint=True)


def _override(entry: str) -> tuple[int, str]:
    number, equals, text = entry.partition("=")
    if not equals or not number.strip().isdigit() or not text.strip():
        raise InputError(
            f"--text {entry[:40]!r} is not CHUNK=TEXT", remedy='for example --text "3=Other words."'
        )
    return int(number), text


def _start(
    given: argparse.Namespace,
    settings: Settings,
    flow: Callable[[], Coroutine[Any, Any, dict[str, Any]]],
    *,
    needs_endpoint: bool,
) -> int:
    """Run a flow in this process, with a stand-in for RunPod beside it where no endpoint is configured."""
    _prepare_prefect()
    os.environ["NARRATION_STORE"] = settings.store
    own_worker = _needs_stand_in(settings)
    try:
        with _stand_in(settings) if own_worker and needs_endpoint else nullcontext():
            outcome = _finish(flow)
    except ChunksFailed as error:
        outcome = error.report
    except SettingsError:
        if needs_endpoint or not own_worker:
            raise
        # A clip that was stored proved damaged: now a worker is needed after all.
        return _start(given, settings, flow, needs_endpoint=True)
    report = RunReport.model_validate(outcome)
    if given.json:
        _print_json(report.model_dump(mode="json"))
    else:
        terminal.result(terminal.describe_run(report))
    return FAILED if report.failed else DONE


def _finish(flow: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
    """Run a flow to its end, its progress shown; what Prefect refuses becomes words."""
    from prefect.exceptions import ParameterTypeError, PrefectException  # noqa: PLC0415  # as above

    try:
        with terminal.progress_bar():
            return asyncio.run(flow())
    except ParameterTypeError as error:
        raise InputError(" ".join(str(error).split())[:500]) from None
    except (PrefectException, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "API" not in str(error):
            raise
        where = os.environ.get("PREFECT_API_URL", "this machine")
        raise SettingsError(
            f"the Prefect server at {where} cannot be used: {' '.join(str(error).split())[:300]}",
            remedy="start it, or unset PREFECT_API_URL to run without one",
        ) from None


def _prepare_prefect() -> None:
    """Before Prefect is imported: no telemetry, patience for its first start, a terminal left to us."""
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")


def _print_json(value: object) -> None:
    terminal.result(json.dumps(value, ensure_ascii=False))


def _voice_add(given: argparse.Namespace) -> int:
    settings = _settings(given)
    voice = add_voice(
        open_store(settings.store),
        given.name,
        given.sample,
        given.transcript,
        replace=given.replace,
        allow_private=settings.allow_private_urls,
    )
    terminal.result(f"{voice.name}: {voice.seconds:.1f} s, SHA-256 {voice.sha256[:12]}…")
    return _show_findings(open_store(settings.store), voice.name)


def _voice_list(given: argparse.Namespace) -> int:
    voices = list_voices(open_store(_settings(given).store))
    if not voices:
        terminal.say("no voices yet; add one with `narrate voice add NAME --sample … --transcript …`")
        return DONE
    rows = [("voice", "seconds", "SHA-256", "transcript")]
    rows += [
        (voice.name, f"{voice.seconds:.1f}", voice.sha256[:12], voice.transcript[:60]) for voice in voices
    ]
    terminal.result(terminal.table(rows, right=(1,)))
    return DONE


def _voice_check(given: argparse.Namespace) -> int:
    return _show_findings(open_store(_settings(given).store), given.name)


def _show_findings(store: Store, name: str) -> int:
    findings = check_voice(store, name)
    for finding in findings:
        terminal.result(f"  {finding.severity:<8} {finding.message}; {finding.remedy}")
    if not findings:
        terminal.result("  ok       length, level, clipping and a quiet end")
    return BAD_INPUT if any(finding.severity == "error" for finding in findings) else DONE


def _doctor(given: argparse.Namespace) -> int:
    from narration import preflight  # noqa: PLC0415  # httpx, which `plan` does without

    settings = _settings(given)
    findings = preflight.examine(settings)
    marks = {True: "ok", False: "wrong", None: "unknown"}
    for finding in findings:
        remedy = f" -> {finding.remedy}" if finding.remedy and not finding.ok else ""
        terminal.result(f"{marks[finding.ok]:<8} {finding.name:<9} {finding.message}{remedy}")
    return BAD_INPUT if any(finding.ok is False for finding in findings) else DONE


if __name__ == "__main__":
    sys.exit(main())
