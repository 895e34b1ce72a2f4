"""The endpoint's settings file, validated, and the request bodies for RunPod's REST API v2 made from it.

The API turns FlashBoot off and sets no timeout unless both are stated, so the bodies state both; it
refuses an idle timeout beside a request count, so the file must not have both.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from narration.endpoint.management import JsonObject
from narration.errors import SettingsError

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)
_SECRET_REFERENCE = re.compile(r"\{\{ RUNPOD_SECRET_\w+ \}\}")
_PINNED = re.compile(r"@sha256:[0-9a-f]{64}$|:(?!latest$)[\w.-]+$")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class WorkerSection(_Section):
    """The image, disk and variables of each worker. `disk_gb` is its own disk, deleted when it stops."""

    image: Annotated[str, Field(min_length=1)]
    disk_gb: Annotated[int, Field(ge=1)]
    registry: str | None = None
    env: dict[str, str] = {}

    @field_validator("image")
    @classmethod
    def _is_pinned(cls, image: str) -> str:
        if image.split("/", maxsplit=1)[0].endswith(".example"):
            raise ValueError("is that of the example; name the image you pushed")
        if not _PINNED.search(image.rpartition("/")[2]):
            raise ValueError("must end in a tag other than latest, or in a digest")
        return image

    @field_validator("env")
    @classmethod
    def _holds_no_secret(cls, env: dict[str, str]) -> dict[str, str]:
        for name, value in env.items():
            if _SECRET_NAME.search(name) and not _SECRET_REFERENCE.fullmatch(value):
                raise ValueError(f"{name} must be a reference such as {{{{ RUNPOD_SECRET_{name.lower()} }}}}")
        return env


class GpuSection(_Section):
    """A worker's GPUs: `count` of any type of `pools` except `excluded`, with CUDA `min_cuda` or later."""

    pools: Annotated[list[str], Field(min_length=1)]
    count: Annotated[int, Field(ge=1)] = 1
    excluded: list[str] = []
    min_cuda: Annotated[str, Field(pattern=r"^\d+\.\d+$")] | None = None


class WorkersSection(_Section):
    """The number of workers. `idle_seconds`, with scaling by delay: until a worker without a job stops."""

    min: Annotated[int, Field(ge=0)] = 0
    max: Annotated[int, Field(ge=0)]
    idle_seconds: Annotated[int, Field(ge=1, le=3600)] | None = None


class ScalingSection(_Section):
    """When a worker is added: for each so many requests, or when a request has waited so long."""

    requests_per_worker: Annotated[int, Field(ge=1)] | None = None
    queue_delay_seconds: Annotated[float, Field(ge=0.5)] | None = None


class JobsSection(_Section):
    """The settings that hold for every job."""

    timeout_seconds: Annotated[int, Field(ge=5, le=7 * 86_400)]
    flashboot: bool = True


class EndpointFile(_Section):
    """The whole file. `max_usd_per_hour` and `prices` (USD per GPU hour by pool) are not sent to RunPod."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    max_usd_per_hour: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    worker: WorkerSection
    gpu: GpuSection
    workers: WorkersSection
    scaling: ScalingSection
    jobs: JobsSection
    prices: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = {}
    data_centers: list[str] = []
    network_volumes: list[str] = []

    @model_validator(mode="after")
    def _is_consistent(self) -> EndpointFile:
        by_count = self.scaling.requests_per_worker is not None
        if by_count == (self.scaling.queue_delay_seconds is not None):
            raise ValueError("scaling: give requests_per_worker or queue_delay_seconds, and not both")
        if by_count and self.workers.idle_seconds is not None:
            raise ValueError(
                "workers.idle_seconds: RunPod refuses it where scaling is by requests_per_worker"
            )
        if self.workers.min > self.workers.max:
            raise ValueError("workers: min is greater than max")
        return self

    @property
    def template_name(self) -> str:
        """The template's name, which must be unique in an account."""
        return f"{self.name}-worker"

    def template(self) -> JsonObject:
        """The body of the template: the worker as a preset, for other endpoints created by hand."""
        return {
            "name": self.template_name,
            **self._container(),
            "serverless": True,
            "public": False,
            "startSsh": False,
            "startJupyter": False,
        }

    def endpoint(self) -> JsonObject:
        """The body of the endpoint. RunPod keeps no link to a template, so it states every setting."""
        return {
            "name": self.name,
            "type": "QUEUE",
            **self._container(),
            "gpu": self._gpu(),
            "workers": self._workers(),
            "scaling": self._scaling(),
            "timeout": self.jobs.timeout_seconds * 1000,
            "flashboot": "FLASHBOOT" if self.jobs.flashboot else "OFF",
            "dataCenterIds": self.data_centers,
            "networkVolumes": self.network_volumes,
        }

    def _container(self) -> JsonObject:
        registry = {"registry": self.worker.registry} if self.worker.registry else {}
        return {
            "image": self.worker.image,
            "args": "",
            "disk": self.worker.disk_gb,
            "ports": [],
            "env": dict(self.worker.env),
            **registry,
        }

    def _gpu(self) -> JsonObject:
        min_cuda = {"minCudaVersion": self.gpu.min_cuda} if self.gpu.min_cuda else {}
        return {
            "pools": self.gpu.pools,
            "count": self.gpu.count,
            "excludedTypes": self.gpu.excluded,
            "allowedCudaVersions": [],
            **min_cuda,
        }

    def _workers(self) -> JsonObject:
        idle = self.workers.idle_seconds
        return {
            "min": self.workers.min,
            "max": self.workers.max,
            **({"idleTimeout": idle} if idle is not None else {}),
        }

    def _scaling(self) -> JsonObject:
        if self.scaling.requests_per_worker is not None:
            return {"type": "REQUEST_COUNT", "requestCount": self.scaling.requests_per_worker}
        return {"type": "QUEUE_DELAY", "queueDelay": self.scaling.queue_delay_seconds}


def read_endpoint_file(path: Path) -> EndpointFile:
    """Read the settings file; raises `SettingsError` with the line or the field that is wrong."""
    try:
        return EndpointFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{path}: {field and f'{field}: '}{message}", remedy="correct the file") from None
