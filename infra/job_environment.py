"""What a flow run's process is told by its work pool: settings in the clear, keys by Secret block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from pydantic import SecretStr

from infra.automations import HEARTBEAT_SECONDS
from narration.errors import SettingsError
from narration.settings import Settings

ENDPOINT_LIMIT = "narration-endpoint"

_SECRET_SETTINGS = frozenset({"voice_sample_url"})  # a presigned link is a key to what it names
_AWS_SETTINGS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_HEARTBEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"


@dataclass(frozen=True, slots=True)
class JobEnvironment:
    """Variables by name: `plain` as text, `secrets` as what their Secret block shall hold."""

    plain: Mapping[str, str]
    secrets: Mapping[str, str]


def job_environment(settings: Settings, environ: Mapping[str, str]) -> JobEnvironment:
    """What `settings` and the AWS variables in `environ` say outright; defaults stay with the code.

    Raises `SettingsError` where deployments could not run with it: no store that every worker
    reaches, or neither an endpoint nor the draft engine asked for.
    """
    _require_usable(settings)
    plain = {
        _HEARTBEAT: str(HEARTBEAT_SECONDS),
        _variable("endpoint_limit"): settings.endpoint_limit or ENDPOINT_LIMIT,
    }
    secrets: dict[str, str] = {}
    for field in Settings.model_fields:
        if field in settings.model_fields_set and field != "endpoint_limit":
            value = getattr(settings, field)
            if isinstance(value, SecretStr):
                secrets[_variable(field)] = value.get_secret_value()
            elif value is not None:
                (secrets if field in _SECRET_SETTINGS else plain)[_variable(field)] = _text(value)
    plain |= {name: environ[name] for name in _AWS_SETTINGS if environ.get(name)}
    # A session token means keys that expire within hours: workers must find their own.
    if not environ.get("AWS_SESSION_TOKEN"):
        secrets |= {name: environ[name] for name in _AWS_KEYS if environ.get(name)}
    return JobEnvironment(plain, secrets)


def secret_variables() -> list[str]:
    """Every variable that is kept in a Secret block."""
    kept = [
        _variable(name)
        for name, field in Settings.model_fields.items()
        if name in _SECRET_SETTINGS or "SecretStr" in str(field.annotation)
    ]
    return [*kept, *_AWS_KEYS]


def managed_variables() -> frozenset[str]:
    """Every variable that is set or unset here; others in the work pool are left as they are."""
    settings = (_variable(name) for name in Settings.model_fields)
    return frozenset({_HEARTBEAT, *settings, *_AWS_SETTINGS, *_AWS_KEYS})


def _require_usable(settings: Settings) -> None:
    store = settings.store
    absolute = PurePosixPath(store).is_absolute() or PureWindowsPath(store).is_absolute()
    if not (store.startswith("s3://") or absolute):
        raise SettingsError(
            "NARRATION_STORE must be the same place for every worker",
            remedy="set it to s3://BUCKET/PREFIX, or to the whole path of a folder",
        )
    if settings.engine is None and settings.endpoint_id is None:
        raise SettingsError(
            "no endpoint is configured for the deployments",
            remedy="set RUNPOD_HIGGS_ENDPOINT_ID and RUNPOD_API_KEY, or say NARRATION_ENGINE=draft outright",
        )


def _variable(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"NARRATION_{field.upper()}"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
