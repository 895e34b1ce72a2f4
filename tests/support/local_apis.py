"""The local endpoint's two HTTP APIs without worker processes: a test acts as client and as worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from infra.local_runpod.endpoint import LocalEndpoint, LocalEndpointOptions, serve_endpoint

INPUT = {"input": {"prompt": "x"}}


@dataclass
class LocalApis:
    """An endpoint, a client with its key, and the URLs that the SDK in the worker `hand` would call."""

    endpoint: LocalEndpoint
    client: httpx.AsyncClient
    urls: dict[str, str]

    async def run(self, **body: Any) -> str:
        """Submit a job; returns its id."""
        response = await self.client.post("/local/run", json=INPUT | body)
        assert response.status_code == 200, response.text
        assert response.json()["status"] == "IN_QUEUE"
        return str(response.json()["id"])

    async def status(self, job: str) -> dict[str, Any]:
        """The response to /status."""
        response = await self.client.get(f"/local/status/{job}")
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def take(self, batch: int = 1) -> httpx.Response:
        """Poll for jobs as the SDK does."""
        url = self.urls["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", "hand") + "&job_in_progress=0"
        if batch > 1:
            url = url.replace("/job-take/", "/job-take-batch/") + f"&batch_size={batch}"
        return await self.client.get(url)

    async def done(self, job: str, result: bytes) -> httpx.Response:
        """Post a result as the SDK does."""
        url = self.urls["RUNPOD_WEBHOOK_POST_OUTPUT"].replace("$RUNPOD_POD_ID", "hand").replace("$ID", job)
        return await self.client.post(
            url + "&isStream=false",
            content=result,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )

    async def stop_requests(self) -> httpx.Response:
        """Poll for jobs to stop as the SDK does."""
        url = self.urls["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", "hand").replace("job-take", "job-stop")
        return await self.client.get(url)


@asynccontextmanager
async def local_apis(**options: Any) -> AsyncIterator[LocalApis]:
    """An endpoint without workers; `options` are those of `serve_endpoint`."""
    async with serve_endpoint(LocalEndpointOptions(workers=0, api_key="key"), **options) as endpoint:
        headers = {"Authorization": "Bearer key"}
        async with httpx.AsyncClient(
            base_url=endpoint.base_url, headers=headers, timeout=30, verify=False
        ) as client:
            yield LocalApis(endpoint, client, endpoint.worker_variables("hand"))
