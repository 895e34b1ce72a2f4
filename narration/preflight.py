"""Checks of the store, ffmpeg, the endpoint, the model and the voice, made before a run pays for anything."""

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
    """The result of one check. `ok` is None where it could not be decided; `error` is what a run raises."""

    name: str
    ok: bool | None
    message: str
    remedy: str = ""
    error: NarrationError | None = None

    def to_json(self) -> dict[str, object]:
        """The result as plain values."""
        return {"name": self.name, "ok": self.ok, "message": self.message, "remedy": self.remedy}


def check_store(store: Store) -> CheckResult:
    """Whether a small object can be written to the store, read back and deleted."""
    try:
        store.check_writable()
    except NarrationError as error:
        return _failed("store", error)
    message = f"{store.location} is writable"
    if not store.supports_concurrent_writers():
        remedy = "one run at a time for each narration, or a server with If-Match and If-None-Match"
        return CheckResult("store", None, f"{message}, but cannot refuse the second of two writers", remedy)
    return CheckResult("store", True, message)


def check_ffmpeg(settings: Settings) -> CheckResult:
    """Whether there is an ffmpeg with the filters and encoders that mastering needs."""
    from narration.audio.ffmpeg import find_ffmpeg  # noqa: PLC0415  # seconds of import that a cached run saves

    try:
        path = find_ffmpeg(settings.ffmpeg)
    except NarrationError as error:
        return _failed("ffmpeg", error)
    return CheckResult("ffmpeg", True, f"{path}")


async def check_endpoint(settings: Settings) -> CheckResult:
    """Whether the endpoint accepts the key, and has workers or may start some."""
    try:
        async with open_endpoint(settings) as endpoint:
            health = await endpoint.health()
    except NarrationError as error:
        # A refused address may hold a password, so it is not repeated.
        if settings.endpoint_id is not None and not isinstance(error, SettingsError):
            error.message = f"{settings.runpod_url}/{settings.endpoint_id}: {error.message}"
        return _failed("endpoint", error)
    if settings.management_key is not None and settings.runpod_url == RUNPOD_URL:
        disabled = await asyncio.to_thread(
            _check_disabled, settings, settings.management_key.get_secret_value()
        )
        if disabled is not None:
            return disabled
    return _check_workers(settings, health)


def _check_disabled(settings: Settings, key: str) -> CheckResult | None:
    """A failed check if the management API says that no worker may start, which `/health` does not say."""
    try:
        state = endpoint_state(settings.endpoint_id or "", key)
    except NarrationError:
        return None  # without this API the workers alone decide
    if not state.closed:
        return None
    message = f"endpoint {state.name} may have 0 workers, as RunPod sets it after seven idle days"
    remedy = "raise its maximum in the console or by `python -m infra.runpod_endpoint`"
    return CheckResult("endpoint", False, message, remedy, EndpointRefused(message, remedy=remedy))


def _check_workers(settings: Settings, health: Health) -> CheckResult:
    workers = health.workers
    counts = (
        f"workers: {workers.idle} idle, {workers.running} running, {workers.initializing} starting, "
        f"{workers.throttled} throttled, {workers.unhealthy} unhealthy"
    )
    name = f"endpoint {settings.endpoint_id}"
    if workers.idle or workers.ready or workers.running or workers.initializing:
        return CheckResult("endpoint", True, f"{name}: {counts}, {health.jobs.in_queue} jobs queued")
    if workers.unhealthy:
        message = f"{name} has only unhealthy workers: they crash at start"
        remedy = (
            "read a worker's log in the RunPod console; `python -m gpu_worker check` runs its checks again"
        )
        return CheckResult("endpoint", False, message, remedy, EndpointError(message, remedy=remedy))
    if workers.throttled:
        return CheckResult(
            "endpoint", None, f"{name}: {counts}", "RunPod has no free GPU of its types; add a type or wait"
        )
    return CheckResult(
        "endpoint",
        None,
        f"{name} has no workers now",
        "normal when scaled to zero; after seven idle days RunPod sets the maximum to 0 until it is raised",
    )


async def require_ready(store: Store, plan: Plan) -> list[str]:
    """Make the checks that a run of `plan` needs; raises the first failure.

    Returns a sentence for each check that could not be decided.
    """
    results = await asyncio.gather(
        asyncio.to_thread(check_store, store),
        asyncio.to_thread(check_ffmpeg, plan.settings),
        *([check_endpoint(plan.settings)] if plan.missing else []),
    )
    for result in results:
        if result.error is not None:
            raise result.error
    return [f"{result.message} ({result.remedy})" for result in results if result.ok is None]


def _failed(name: str, error: NarrationError) -> CheckResult:
    return CheckResult(name, False, error.message, error.remedy, error)


def run_checks(settings: Settings) -> list[CheckResult]:
    """Every check that needs no plan, for `narrate doctor`."""
    others = [check_ffmpeg(settings), _check_endpoint_or_draft(settings), _check_model(settings)]
    try:
        store = open_store(settings.store)
    except NarrationError as error:
        return [_failed("store", error), *others]
    return [check_store(store), *others, check_default_voice(store, settings)]


def _check_endpoint_or_draft(settings: Settings) -> CheckResult:
    try:
        draft = settings.engine_in_use() == "draft" and settings.runpod_url == RUNPOD_URL
    except NarrationError as error:
        return _failed("endpoint", error)
    if draft:
        message = "no endpoint is configured: a run starts a worker with the draft voice on this machine"
        return CheckResult("endpoint", True, message, "set RUNPOD_HIGGS_ENDPOINT_ID for a cloned voice")
    return asyncio.run(check_endpoint(settings))


def _check_model(settings: Settings) -> CheckResult:
    try:
        return CheckResult("model", True, settings.model_id())
    except NarrationError as error:
        return _failed("model", error)


def check_default_voice(store: Store, settings: Settings) -> CheckResult:
    """Whether the voice that a run would use is in the store and its sample is fit for use."""
    try:
        voice = choose_voice(store.voices, settings, importing=False)
        problems = recheck_voice(store.voices, voice.name) if voice else []
    except NarrationError as error:
        return _failed("voice", error)
    if voice is None:
        return CheckResult("voice", True, "the model has a voice of its own and needs no sample")
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        return CheckResult("voice", False, f"{voice.name}: {errors[0].message}", errors[0].remedy)
    warnings = "; ".join(problem.message for problem in problems)
    return CheckResult(
        "voice", True, f"{voice.name}: {voice.seconds:.1f} s" + (f" ({warnings})" if warnings else "")
    )
