"""A fake of RunPod's management API (REST v2) for one account, and a settings file for its endpoint.

It enforces what the API's published schema states and what was observed of the running service: a body
with an unknown field is refused, FlashBoot is off and the timeout 0 unless stated, an idle timeout
beside a request count is refused, errors are RFC 9457 problems.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from infra.runpod_endpoint import main

KEY = "rpa_management_key_of_the_tests"

ENDPOINT_FILE = """
name = "narration-higgs"
max_usd_per_hour = 4.0
[worker]
image = "docker.io/me/narration-worker:1.2.3"
disk_gb = 40
[worker.env]
WORKER_ENGINE = "higgs"
[gpu]
pools = ["ADA_24"]
min_cuda = "13.0"
[workers]
max = 3
[scaling]
requests_per_worker = 32
[jobs]
timeout_seconds = 600
"""
"""A settings file as of `infra/endpoint.toml`."""

JsonObject = dict[str, Any]

CONTAINER = {"args", "disk", "env", "image", "ports", "registry"}
ENDPOINT = CONTAINER | {
    *("cpu", "dataCenterIds", "flashboot", "gpu", "name", "networkVolumes"),
    *("scaling", "templateId", "timeout", "workers"),
}
TEMPLATE = CONTAINER | {
    *("allowedCudaVersions", "category", "mounts", "name"),
    *("public", "serverless", "startJupyter", "startSsh"),
}
GPU = {"allowedCudaVersions", "count", "excludedTypes", "minCudaVersion", "pools"}
WORKERS = {"idleTimeout", "max", "min"}
SCALING = {"QUEUE_DELAY": {"queueDelay", "type"}, "REQUEST_COUNT": {"requestCount", "type"}}
FLASHBOOT = {"OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"}


def gpu_type(name: str, pool: str | None, price: float | None) -> JsonObject:
    """One entry of the catalogue; `price` in USD per hour, None if the catalogue has none."""
    prices = {"secure": 0.69, "community": 0.34} | ({} if price is None else {"serverless": price})
    return {"id": name, "name": name, "pool": pool, "manufacturer": "NVIDIA", "memory": 24, "price": prices}


CATALOGUE = [
    gpu_type("NVIDIA GeForce RTX 4090", "ADA_24", 1.10),
    gpu_type("NVIDIA L4", "AMPERE_24", 0.69),
    gpu_type("NVIDIA RTX A5000", "AMPERE_24", 0.48),
    gpu_type("NVIDIA L40S", "ADA_48_PRO", None),
    gpu_type("NVIDIA GeForce RTX 2080", None, None),
]


class Refusal(Exception):
    """A response that is not a success."""

    def __init__(self, status: int, detail: str, errors: list[str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.problem = {"title": "Problem", "status": status, "detail": detail}
        if errors:
            self.problem["errors"] = errors


class FakeAccount:
    """Templates and endpoints of one account, and every request that it received.

    `faults` are the responses to the next requests instead of the real ones; `alter` changes an
    object after it was written, as the service may do.
    """

    def __init__(self) -> None:
        self.collections: dict[str, list[JsonObject]] = {"endpoints": [], "templates": []}
        self.requests: list[tuple[str, str, JsonObject]] = []
        self.faults: list[httpx.Response | Exception] = []
        self.alter: Callable[[JsonObject], None] | None = None
        self.transport = httpx.MockTransport(self._respond)

    @property
    def endpoint(self) -> JsonObject:
        """The account's only endpoint."""
        (endpoint,) = self.collections["endpoints"]
        return endpoint

    def writes(self) -> list[tuple[str, str, JsonObject]]:
        """The requests that change something."""
        return [request for request in self.requests if request[0] != "GET"]

    def _respond(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        path = request.url.path.removeprefix("/v2")
        self.requests.append((request.method, path, body))
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, Exception):
                raise fault
            return fault
        assert str(request.url).startswith("https://api.runpod.io/v2/")
        try:
            _authorize(request)
            status, document = self._route(request.method, path, body)
        except Refusal as refusal:
            content_type = {"Content-Type": "application/problem+json"}
            return httpx.Response(refusal.status, json=refusal.problem, headers=content_type)
        return httpx.Response(status, json=document)

    def _route(self, method: str, path: str, body: JsonObject) -> tuple[int, JsonObject]:
        if (method, path) == ("GET", "/catalog/gpus"):
            return 200, {"gpus": CATALOGUE}
        root, _, object_id = path.strip("/").partition("/")
        kind = {"serverless": "endpoints", "templates": "templates"}.get(root)
        if kind is None:
            raise Refusal(404, "resource not found")
        objects = self.collections[kind]
        if not object_id:
            if method == "GET":
                return 200, {kind: copy.deepcopy(objects)}
            new = self._make_endpoint(body) if kind == "endpoints" else self._make_template(body)
            objects.append(new)
            return 201, self._altered_copy(new)
        existing = next((one for one in objects if one["id"] == object_id), None)
        if existing is None:
            raise Refusal(404, "resource not found")
        if method == "PATCH":
            self._patch(kind, existing, body)
        return 200, self._altered_copy(existing)

    def _altered_copy(self, existing: JsonObject) -> JsonObject:
        if self.alter is not None:
            self.alter(existing)
        return copy.deepcopy(existing)

    def _make_endpoint(self, body: JsonObject) -> JsonObject:
        _fields(body, ENDPOINT | {"type"}, required={"name", "type", "scaling"})
        _check(body)
        if ("gpu" in body) == ("cpu" in body):
            raise Refusal(400, "exactly one of gpu and cpu is required")
        if "gpu" in body and "pools" not in body["gpu"]:
            raise Refusal(422, "Request validation failed.", ["$.gpu: missing property 'pools'"])
        endpoint = {
            "id": f"ep{len(self.collections['endpoints']) + 1}",
            **_container(body),
            "dataCenterIds": [],
            "networkVolumes": [],
            "timeout": 0,
            "flashboot": "OFF",
            **body,
            "workers": {"min": 0, "max": 3, "idleTimeout": 10} | body.get("workers", {}),
            "createdAt": "2026-06-01T12:00:00Z",
        }
        if "gpu" in body:
            endpoint["gpu"] = {"count": 1, "allowedCudaVersions": [], "minCudaVersion": None} | body["gpu"]
        _normalize(endpoint)
        return endpoint

    def _make_template(self, body: JsonObject) -> JsonObject:
        _fields(body, TEMPLATE, required={"name", "image"})
        if any(template["name"] == body["name"] for template in self.collections["templates"]):
            raise Refusal(400, "template name must be unique")
        flags = {"serverless": False, "public": False, "startSsh": True, "startJupyter": True}
        template_id = f"tpl{len(self.collections['templates']) + 1}"
        extra = {"category": "NVIDIA", "mounts": {}, "allowedCudaVersions": []}
        return {"id": template_id, **_container(body), **flags, **extra, **body}

    def _patch(self, kind: str, existing: JsonObject, body: JsonObject) -> None:
        _fields(body, ENDPOINT if kind == "endpoints" else TEMPLATE)
        if kind == "endpoints":
            _check(body, scaling=existing["scaling"])
            gpu = body.get("gpu", {})
            if "excludedTypes" in gpu and "pools" not in gpu:
                raise Refusal(422, "Request validation failed.", ["$.gpu: 'excludedTypes' requires 'pools'"])
            if "pools" in gpu:  # one selection: pools without exclusions clears them
                existing["gpu"].pop("excludedTypes", None)
        for name, value in body.items():
            existing[name] = {**existing[name], **value} if name in ("gpu", "workers") else value
        if kind == "endpoints":
            _normalize(existing)


def provision(account: FakeAccount, folder: Path, text: str = ENDPOINT_FILE, *flags: str) -> int:
    """Run the provisioning script on a settings file of this text; returns the exit status."""
    path = folder / "endpoint.toml"
    path.write_text(text)
    return main(["--file", str(path), *flags], transport=account.transport)


def _authorize(request: httpx.Request) -> None:
    if request.headers.get("Authorization") != f"Bearer {KEY}":
        raise Refusal(401, "missing bearer token")


def _fields(body: JsonObject, allowed: set[str], *, required: set[str] | None = None, at: str = "$") -> None:
    unknown = [f"{at}: additional properties '{name}' not allowed" for name in body if name not in allowed]
    missing = [f"{at}: missing property '{name}'" for name in required or () if name not in body]
    if unknown or missing:
        raise Refusal(422, "Request validation failed.", missing + unknown)


def _check(body: JsonObject, *, scaling: JsonObject | None = None) -> None:
    _fields(body.get("gpu", {}), GPU, at="$.gpu")
    _fields(body.get("workers", {}), WORKERS, at="$.workers")
    kind = body.get("scaling", scaling or {}).get("type")
    if "scaling" in body:
        _fields(body["scaling"], SCALING[kind], required=SCALING[kind], at="$.scaling")
    if kind == "REQUEST_COUNT" and "idleTimeout" in body.get("workers", {}):
        raise Refusal(422, "idleTimeout does not apply to queue-based endpoints scaling on requestCount")
    if body.get("flashboot", "OFF") not in FLASHBOOT:
        raise Refusal(422, "Request validation failed.", ["$.flashboot: not one of the values allowed"])
    if not all(isinstance(value, str) for value in body.get("env", {}).values()):
        raise Refusal(422, "Request validation failed.", ["$.env: values are strings"])
    gpu = body.get("gpu", {})
    if gpu.get("allowedCudaVersions") and gpu.get("minCudaVersion"):
        raise Refusal(400, "allowedCudaVersions and minCudaVersion are mutually exclusive")
    in_pools = {one["id"] for one in CATALOGUE if one["pool"] in gpu.get("pools", ())}
    others = [name for name in gpu.get("excludedTypes", ()) if name not in in_pools]
    if others:
        raise Refusal(400, f"not a GPU type of these pools: {others[0]}")


def _container(body: JsonObject) -> JsonObject:
    return {"image": body.get("image"), "args": "", "disk": 20, "ports": [], "env": {}, "registry": None}


def _normalize(endpoint: JsonObject) -> None:
    """Change the fields as the service does when it stores them."""
    if endpoint["scaling"]["type"] == "REQUEST_COUNT":
        endpoint["workers"].pop("idleTimeout", None)
    if endpoint.get("gpu"):
        endpoint["gpu"]["pools"] = sorted(endpoint["gpu"]["pools"])
        endpoint["gpu"]["minCudaVersion"] = endpoint["gpu"]["minCudaVersion"] or None
