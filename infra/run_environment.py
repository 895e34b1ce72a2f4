"""The environment that the work pool gives each flow run: settings as text, keys by Secret block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from pydantic import SecretStr

from infra.automations import HEARTBEAT_SECONDS
from narration.errors import SettingsError
from narration.settings import Settings

ENDPOINT_LIMIT = "narration-endpoint"

_SECRET_SETTINGS = frozenset({"voice_sample_url"})  # a presigned link gives access like a key
_AWS_SETTINGS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_HEARTBEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"


@dataclass(frozen=True, slots=True)
class RunEnvironment:
    """Variables by name: `plain` ones by their value, `secrets` by the value of their Secret block."""

    plain: Mapping[str, str]
    secrets: Mapping[str, str]


def run_environment(settings: Settings, environ: Mapping[str, str]) -> RunEnvironment:
    """The variables for every value set in `settings` and for the AWS variables in `environ`.

    Defaults are left out: the code of the run has them. Raises `SettingsError` if no deployment could
    run with these settings: the store is not the same place for every worker, or there is neither an
    endpoint nor `engine=draft`.
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
    # Keys with a session token expire within hours, so workers must find keys of their own.
    if not environ.get("AWS_SESSION_TOKEN"):
        secrets |= {name: environ[name] for name in _AWS_KEYS if environ.get(name)}
    return RunEnvironment(plain, secrets)


def secret_variables() -> list[str]:
    """The variables that are kept in Secret blocks."""
    settings = [
        _variable(name)
        for name, field in Settings.model_fields.items()
        if name in _SECRET_SETTINGS or "SecretStr" in str(field.annotation)
    ]
    return [*settings, *_AWS_KEYS]


def managed_variables() -> frozenset[str]:
    """The variables that are set or unset here; other variables of the work pool are left as they are."""
    settings = (_variable(name) for name in Settings.model_fields)
    return frozenset({_HEARTBEAT, *settings, *_AWS_SETTINGS, *_AWS_KEYS})


def _require_usable(settings: Settings) -> None:
    store = settings.store
    absolute = PurePosixPath(store).is_absolute() or PureWindowsPath(store).is_absolute()
    if not (store.startswith("s3://") or absolute):
        raise SettingsError(
            "NARRATION_STORE must be the same place for every worker",
            remedy="set it to s3://BUCKET/PREFIX, or to the absolute path of a folder",
        )
    if settings.engine is None and settings.endpoint_id is None:
        raise SettingsError(
            "no endpoint is configured for the deployments",
            remedy="set RUNPOD_HIGGS_ENDPOINT_ID and RUNPOD_API_KEY, or set NARRATION_ENGINE=draft",
        )


def _variable(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"NARRATION_{field.upper()}"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
