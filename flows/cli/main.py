"""The command `narrate`: everything a person does from a terminal."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

from flows.cli import arguments, terminal, voice
from flows.cli.flow_run import leave, run_flow
from flows.cli.terminal import BAD_INPUT, DONE, FAILED, STOPPED
from narration.errors import ChunksFailed, InputError, NarrationError, SettingsError
from narration.planning import NarrationSource, Plan, make_plan, narration_slug
from narration.script import Script, read_script, script_suffix
from narration.settings import RUNPOD_URL, Settings, read_settings
from narration.store import Store, open_store, validate_id
from narration.synthesis.report import RunReport, plan_report
from narration.voices import choose_voice

Command = Callable[[argparse.Namespace, Settings], int]


def program() -> NoReturn:
    """The whole life of a process `narrate`."""
    leave(main())


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 (some chunk failed; the rest is stored) or 2 (bad input)."""
    given = arguments.parse(words)
    try:
        return COMMANDS[given.command](given, _settings(given))
    except NarrationError as error:
        terminal.say(f"narrate: {error}")
        return FAILED if error.clips_stored else BAD_INPUT
    except KeyboardInterrupt:
        terminal.say("narrate: stopped; what was stored is kept, the same command goes on from there")
        return STOPPED


def _plan(given: argparse.Namespace, settings: Settings) -> int:
    _, _, plan = _plan_of(given, settings, importing=False)
    if given.json:
        terminal.result_json(plan_report(plan))
    else:
        terminal.result(terminal.describe_plan(plan))
    return DONE


def _run(given: argparse.Namespace, settings: Settings) -> int:
    store, script, plan = _plan_of(given, settings, importing=True)
    reference = store.scripts.put(script.source, script_suffix(given.script.name))

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


def _retake(given: argparse.Namespace, settings: Settings) -> int:
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
    if not equals or not number.strip().isdecimal() or not text.strip():
        raise InputError(
            f"--text {entry[:40]!r} is not CHUNK=TEXT", remedy='for example --text "3=Other words."'
        )
    return int(number), text


def _review(given: argparse.Namespace, settings: Settings) -> int:
    from narration.publishing import renew_review  # noqa: PLC0415  # numpy, which `plan` does without

    terminal.result(renew_review(open_store(settings.store), given.id))
    return DONE


def _doctor(given: argparse.Namespace, settings: Settings) -> int:
    from narration import preflight  # noqa: PLC0415  # httpx, which `plan` does without

    findings = preflight.run_checks(settings)
    wrong = any(finding.ok is False for finding in findings)
    if given.json:
        terminal.result_json({"ok": not wrong, "findings": [finding.to_json() for finding in findings]})
        return BAD_INPUT if wrong else DONE
    marks = {True: "ok", False: "wrong", None: "unknown"}
    for finding in findings:
        remedy = f" -> {finding.remedy}" if finding.remedy and not finding.ok else ""
        terminal.result(f"{marks[finding.ok]:<8} {finding.name:<9} {finding.message}{remedy}")
    return BAD_INPUT if wrong else DONE


COMMANDS: dict[str, Command] = {
    "run": _run,
    "plan": _plan,
    "retake": _retake,
    "review": _review,
    "voice add": voice.add,
    "voice list": voice.show_all,
    "voice check": voice.check,
    "doctor": _doctor,
}


def _plan_of(given: argparse.Namespace, settings: Settings, *, importing: bool) -> tuple[Store, Script, Plan]:
    """Read and plan a script file; nothing is written but, with `importing`, the default voice."""
    narration_id = validate_id(given.id) if given.id is not None else narration_slug(given.script.stem)
    script = read_script(given.script)
    store = open_store(settings.store)
    voice = choose_voice(store.voices, settings, importing=importing)
    source = NarrationSource(script, key="", settings=settings)
    plan = make_plan(store, source, narration_id=narration_id, voice=voice)
    return store, script, plan


def _start(
    given: argparse.Namespace,
    settings: Settings,
    flow: Callable[[], Coroutine[Any, Any, dict[str, Any]]],
    *,
    needs_endpoint: bool,
) -> int:
    """Run a flow in this process, with a stand-in for RunPod beside it where no endpoint is configured."""
    os.environ["NARRATION_STORE"] = settings.store
    own_worker = _needs_stand_in(settings)
    remedy = ""
    try:
        with _stand_in(settings) if own_worker and needs_endpoint else nullcontext():
            outcome = run_flow(flow)
    except ChunksFailed as error:
        outcome, remedy = error.report, error.remedy
    except SettingsError:
        if needs_endpoint or not own_worker:
            raise
        # A clip that was stored proved damaged: now a worker is needed after all.
        return _start(given, settings, flow, needs_endpoint=True)
    report = RunReport.model_validate(outcome)
    if given.json:
        terminal.result_json(report.model_dump(mode="json"))
    else:
        terminal.result(terminal.describe_run(report))
    if remedy:
        terminal.say(f"narrate: {remedy}")
    return FAILED if report.failed else DONE


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


if __name__ == "__main__":
    program()
