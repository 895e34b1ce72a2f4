"""What must be true before anything is paid, checked in seconds, each with what to do about it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from narration.endpoint import Health, open_endpoint
from narration.endpoint.management import endpoint_state
from narration.errors import EndpointError, EndpointRefused, NarrationError, SettingsError
from narration.planning import Plan
from narration.settings import RUNPOD_URL, Settings
from narration.store import Store, open_store
from narration.voices import choose_voice, recheck_voice


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check: `ok` is None when it could not be made. `error` is what to raise for it."""

    name: str
    ok: bool | None
    message: str
    remedy: str = ""
    error: NarrationError | None = None

    def told(self) -> dict[str, object]:
        """The finding as JSON for programs."""
        return {"name": self.name, "ok": self.ok, "message": self.message, "remedy": self.remedy}


def check_store(store: Store) -> CheckResult:
    """The store takes, returns and deletes a probe."""
    try:
        store.check_writable()
    except NarrationError as error:
        return _failed("store", error)
    message = f"{store.location} is writable"
    if not store.supports_concurrent_writers():
        remedy = "one run at a time for each narration, or a server with If-Match and If-None-Match"
        return CheckResult("store", None, f"{message}, but keeps no two writers apart", remedy)
    return CheckResult("store", True, message)


def check_ffmpeg(settings: Settings) -> CheckResult:
    """An ffmpeg with the filters that mastering needs is at hand."""
    from narration.audio.ffmpeg import find_ffmpeg  # noqa: PLC0415  # seconds of import that a cached run saves

    try:
        found = find_ffmpeg(settings.ffmpeg)
    except NarrationError as error:
        return _failed("ffmpeg", error)
    return CheckResult("ffmpeg", True, f"{found}")


async def check_endpoint(settings: Settings) -> CheckResult:
    """The endpoint answers with this key, and has or can have workers."""
    try:
        async with open_endpoint(settings) as endpoint:
            health = await endpoint.health()
    except NarrationError as error:
        address_holds = not isinstance(
            error, SettingsError
        )  # else it may be what is wrong, or hold a password
        if settings.endpoint_id is not None and address_holds:
            error.message = f"{settings.runpod_url}/{settings.endpoint_id}: {error.message}"
        return _failed("endpoint", error)
    if settings.management_key is not None and settings.runpod_url == RUNPOD_URL:
        closed = await asyncio.to_thread(_closed, settings, settings.management_key.get_secret_value())
        if closed is not None:
            return closed
    return _judge(settings, health)


def _closed(settings: Settings, key: str) -> CheckResult | None:
    """A finding if the management API says that no worker may start, which `/health` does not tell."""
    try:
        state = endpoint_state(settings.endpoint_id or "", key)
    except NarrationError:
        return None  # it would only have told more
    if not state.closed:
        return None
    message = f"endpoint {state.name} may have 0 workers, as RunPod sets it after seven idle days"
    remedy = "raise its maximum in the console or by `python -m infra.runpod_endpoint`"
    return CheckResult("endpoint", False, message, remedy, EndpointRefused(message, remedy=remedy))


def _judge(settings: Settings, health: Health) -> CheckResult:
    workers = health.workers
    seen = (
        f"workers: {workers.idle} idle, {workers.running} running, {workers.initializing} starting, "
        f"{workers.throttled} throttled, {workers.unhealthy} unhealthy"
    )
    name = f"endpoint {settings.endpoint_id}"
    if workers.idle or workers.ready or workers.running or workers.initializing:
        return CheckResult("endpoint", True, f"{name}: {seen}, {health.jobs.in_queue} jobs queued")
    if workers.unhealthy:
        message = f"{name} has only unhealthy workers: they crash at start"
        remedy = "read a worker's log in the RunPod console; `python -m gpu_worker check` repeats"
        return CheckResult("endpoint", False, message, remedy, EndpointError(message, remedy=remedy))
    if workers.throttled:
        return CheckResult(
            "endpoint", None, f"{name}: {seen}", "its GPUs are taken; add another GPU type or wait"
        )
    return CheckResult(
        "endpoint",
        None,
        f"{name} shows no workers",
        "normal when scaled to zero; after seven idle days RunPod sets the maximum to 0, until raised",
    )


async def require_ready(store: Store, settings: Settings, plan: Plan) -> list[str]:
    """Check all that a run of `plan` needs; raise the first thing that is wrong.

    Returns, in words, what could not be checked.
    """
    findings = await asyncio.gather(
        asyncio.to_thread(check_store, store),
        asyncio.to_thread(check_ffmpeg, settings),
        *([check_endpoint(settings)] if plan.missing else []),
    )
    for finding in findings:
        if finding.error is not None:
            raise finding.error
    return [f"{finding.message} ({finding.remedy})" for finding in findings if finding.ok is None]


def _failed(name: str, error: NarrationError) -> CheckResult:
    return CheckResult(name, False, error.message, error.remedy, error)


def run_checks(settings: Settings) -> list[CheckResult]:
    """Every check that needs no plan, for a person who asks what is wrong."""
    others = [check_ffmpeg(settings), _check_worker(settings), _check_model(settings)]
    try:
        store = open_store(settings.store)
    except NarrationError as error:
        return [_failed("store", error), *others]
    return [check_store(store), *others, check_default_voice(store, settings)]


def _check_worker(settings: Settings) -> CheckResult:
    try:
        draft = settings.engine_in_use() == "draft" and settings.runpod_url == RUNPOD_URL
    except NarrationError as error:
        return _failed("endpoint", error)
    if draft:
        message = "no endpoint is configured: runs start the draft voice on this machine"
        return CheckResult("endpoint", True, message, "set RUNPOD_HIGGS_ENDPOINT_ID for the real one")
    return asyncio.run(check_endpoint(settings))


def _check_model(settings: Settings) -> CheckResult:
    try:
        return CheckResult("model", True, settings.model_id())
    except NarrationError as error:
        return _failed("model", error)


def check_default_voice(store: Store, settings: Settings) -> CheckResult:
    """The voice that runs would use is there and can be used."""
    try:
        voice = choose_voice(store.voices, settings, importing=False)
        findings = recheck_voice(store.voices, voice.name) if voice else []
    except NarrationError as error:
        return _failed("voice", error)
    if voice is None:
        return CheckResult("voice", True, "the draft voice needs no sample")
    wrong = [finding for finding in findings if finding.severity == "error"]
    if wrong:
        return CheckResult("voice", False, f"{voice.name}: {wrong[0].message}", wrong[0].remedy)
    doubts = "; ".join(finding.message for finding in findings)
    return CheckResult(
        "voice", True, f"{voice.name}: {voice.seconds:.1f} s" + (f" ({doubts})" if doubts else "")
    )
