"""A twin of RunPod's management API (REST v2) for tests: one account, strict as the real one is.

What it enforces is what the published schema of the API states and what was observed of the running
service: bodies with unknown fields are refused whole, FlashBoot is off and the timeout 0 unless given,
an idle timeout beside a request count is refused, errors are RFC 9457 problems.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import httpx

KEY = "rpa_management_key_of_the_tests"
Document = dict[str, Any]

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


def gpu_type(name: str, pool: str | None, price: float | None) -> Document:
    """One entry of the catalogue; `price` in USD per hour, None where none is listed."""
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
    """An answer that is no success."""

    def __init__(self, status: int, detail: str, errors: list[str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.problem = {"title": "Problem", "status": status, "detail": detail}
        if errors:
            self.problem["errors"] = errors


class Account:
    """Templates and endpoints of one account, and every request that was made of it."""

    def __init__(self) -> None:
        self.collections: dict[str, list[Document]] = {"endpoints": [], "templates": []}
        self.requests: list[tuple[str, str, Document]] = []
        self.trouble: list[httpx.Response | Exception] = []  # comes before any answer
        self.alter: Callable[[Document], None] | None = None  # what the service does of its own accord
        self.transport = httpx.MockTransport(self._answer)

    @property
    def endpoint(self) -> Document:
        """The only endpoint."""
        (endpoint,) = self.collections["endpoints"]
        return endpoint

    def writes(self) -> list[tuple[str, str, Document]]:
        """The requests that would change something."""
        return [request for request in self.requests if request[0] != "GET"]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        path = request.url.path.removeprefix("/v2")
        self.requests.append((request.method, path, body))
        if self.trouble:
            answer = self.trouble.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        assert str(request.url).startswith("https://api.runpod.io/v2/")
        try:
            _authorize(request)
            status, document = self._route(request.method, path, body)
        except Refusal as refusal:
            content_type = {"Content-Type": "application/problem+json"}
            return httpx.Response(refusal.status, json=refusal.problem, headers=content_type)
        return httpx.Response(status, json=document)

    def _route(self, method: str, path: str, body: Document) -> tuple[int, Document]:
        if (method, path) == ("GET", "/catalog/gpus"):
            return 200, {"gpus": CATALOGUE}
        root, _, identity = path.strip("/").partition("/")
        kind = {"serverless": "endpoints", "templates": "templates"}.get(root)
        if kind is None:
            raise Refusal(404, "resource not found")
        things = self.collections[kind]
        if not identity:
            if method == "GET":
                return 200, {kind: copy.deepcopy(things)}
            made = self._make_endpoint(body) if kind == "endpoints" else self._make_template(body)
            things.append(made)
            return 201, self._shown(made)
        found = [thing for thing in things if thing["id"] == identity]
        if not found:
            raise Refusal(404, "resource not found")
        if method == "PATCH":
            self._patch(kind, found[0], body)
        return 200, self._shown(found[0])

    def _shown(self, thing: Document) -> Document:
        if self.alter is not None:
            self.alter(thing)
        return copy.deepcopy(thing)

    def _make_endpoint(self, body: Document) -> Document:
        _fields(body, ENDPOINT | {"type"}, required={"name", "type", "scaling"})
        _check(body)
        if ("gpu" in body) == ("cpu" in body):
            raise Refusal(400, "exactly one of gpu and cpu is required")
        if "gpu" in body and "pools" not in body["gpu"]:
            raise Refusal(422, "Request validation failed.", ["$.gpu: missing property 'pools'"])
        made = {
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
            made["gpu"] = {"count": 1, "allowedCudaVersions": [], "minCudaVersion": None} | body["gpu"]
        _settle(made)
        return made

    def _make_template(self, body: Document) -> Document:
        _fields(body, TEMPLATE, required={"name", "image"})
        if any(template["name"] == body["name"] for template in self.collections["templates"]):
            raise Refusal(400, "template name must be unique")
        flags = {"serverless": False, "public": False, "startSsh": True, "startJupyter": True}
        identity = f"tpl{len(self.collections['templates']) + 1}"
        extra = {"category": "NVIDIA", "mounts": {}, "allowedCudaVersions": []}
        return {"id": identity, **_container(body), **flags, **extra, **body}

    def _patch(self, kind: str, thing: Document, body: Document) -> None:
        _fields(body, ENDPOINT if kind == "endpoints" else TEMPLATE)
        if kind == "endpoints":
            _check(body, scaling=thing["scaling"])
            gpu = body.get("gpu", {})
            if "excludedTypes" in gpu and "pools" not in gpu:
                raise Refusal(422, "Request validation failed.", ["$.gpu: 'excludedTypes' requires 'pools'"])
            if "pools" in gpu:  # one selection: pools without exclusions clears them
                thing["gpu"].pop("excludedTypes", None)
        for name, value in body.items():
            thing[name] = {**thing[name], **value} if name in ("gpu", "workers") else value
        if kind == "endpoints":
            _settle(thing)


def _authorize(request: httpx.Request) -> None:
    if request.headers.get("Authorization") != f"Bearer {KEY}":
        raise Refusal(401, "missing bearer token")


def _fields(body: Document, allowed: set[str], *, required: set[str] | None = None, at: str = "$") -> None:
    unknown = [f"{at}: additional properties '{name}' not allowed" for name in body if name not in allowed]
    missing = [f"{at}: missing property '{name}'" for name in required or () if name not in body]
    if unknown or missing:
        raise Refusal(422, "Request validation failed.", missing + unknown)


def _check(body: Document, *, scaling: Document | None = None) -> None:
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
    strangers = [name for name in gpu.get("excludedTypes", ()) if name not in in_pools]
    if strangers:
        raise Refusal(400, f"not a GPU type of these pools: {strangers[0]}")


def _container(body: Document) -> Document:
    return {"image": body.get("image"), "args": "", "disk": 20, "ports": [], "env": {}, "registry": None}


def _settle(endpoint: Document) -> None:
    """What the service makes of what it was given."""
    if endpoint["scaling"]["type"] == "REQUEST_COUNT":
        endpoint["workers"].pop("idleTimeout", None)
    if endpoint.get("gpu"):
        endpoint["gpu"]["pools"] = sorted(endpoint["gpu"]["pools"])
        endpoint["gpu"]["minCudaVersion"] = endpoint["gpu"]["minCudaVersion"] or None
