"""Calls to a fake of RunPod's job API that fail: which are repeated, after which pauses, for how long."""

from __future__ import annotations

import itertools
from typing import Any

import httpx
import pytest
from support.clocks import in_virtual_time
from support.fake_runpod import (
    HTML,
    POLICY,
    REQUEST,
    FakeRunPod,
    Fault,
    JobScenario,
    breaks,
    client_of,
    now,
    record_nothing,
    responds,
    synthesize_with,
)

from narration.errors import EndpointUnavailable

TRANSIENT_STATUSES = [408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524]
BROKEN = [httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.WriteError]
UNSENT = [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout]


@in_virtual_time
async def test_after_429_a_submission_waits_as_long_as_retry_after_says() -> None:
    """Retry-After in seconds is obeyed, and the job is submitted once."""
    fake = FakeRunPod()
    fake.before["run"].extend([responds(429, html=HTML, headers={"Retry-After": "7"})] * 2)
    began = now()
    async with client_of(fake) as client:
        await client.run(REQUEST, POLICY)
    assert 14 <= now() - began <= 16
    assert len(fake.jobs) == 1


@in_virtual_time
async def test_after_429_without_retry_after_the_pauses_grow() -> None:
    """The pauses double, within their random spread, and the call is given up after a stated time."""
    fake = FakeRunPod()
    fake.allowed["run"] = 0
    began = now()
    async with client_of(fake) as client:
        with pytest.raises(EndpointUnavailable, match="HTTP 429") as caught:
            await client.run(REQUEST, POLICY)
    assert 90 <= now() - began <= 120
    assert fake.count("run") < 20
    assert not caught.value.maybe_accepted
    times = [call.at for call in fake.calls]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[0] <= 0.5
    assert pauses[2] > pauses[0]
    assert max(pauses) <= 15


@pytest.mark.parametrize("kind", UNSENT)
@in_virtual_time
async def test_a_submission_that_was_never_sent_is_sent_again(kind: type[httpx.TransportError]) -> None:
    """Without a connection no job can have been accepted."""
    fake = FakeRunPod()
    fake.before["run"].extend([breaks(kind)] * 3)
    async with client_of(fake) as client:
        await client.run(REQUEST, POLICY)
    assert (fake.count("run"), len(fake.jobs)) == (4, 1)


@pytest.mark.parametrize(
    "fault",
    [responds(status) for status in TRANSIENT_STATUSES]
    + [breaks(kind) for kind in BROKEN]
    + [
        responds(200, html=HTML),
        responds(200, content=b'{"id": "job-1'),
        responds(200, json={"status": "IN_QUEUE"}),
        responds(200, json={"id": 17}),
        responds(200, json={"id": "../../other"}),
        responds(200, json=["job-1"]),
    ],
)
@in_virtual_time
async def test_a_submission_whose_response_is_lost_is_not_repeated(fault: Fault) -> None:
    """A job may have been accepted: the error says so, and no second job is paid for."""
    fake = FakeRunPod()
    fake.after["run"].append(fault)
    async with client_of(fake) as client:
        with pytest.raises(EndpointUnavailable) as caught:
            await client.run(REQUEST, POLICY)
    assert caught.value.maybe_accepted
    assert caught.value.retryable
    assert (fake.count("run"), len(fake.jobs)) == (1, 1)


@pytest.mark.parametrize(
    "fault",
    [responds(status, html=HTML) for status in TRANSIENT_STATUSES]
    + [breaks(kind) for kind in BROKEN + UNSENT]
    + [
        responds(200, html=HTML),
        responds(200, content=b'{"id": "job-1", "sta'),
        responds(200, content=b"\xff\xfe"),
        responds(200, json={}),
        responds(200, json={"status": None}),
        responds(200, json=[1]),
        responds(200, content=b"[" * 100_000),
        responds(204),
        responds(429, html=HTML),
        responds(429, headers={"Retry-After": "soon"}),
        responds(503, headers={"Retry-After": "Fri, 20 Nov 99999999999999999999 10:00:00 GMT"}),
    ],
)
@in_virtual_time
async def test_a_poll_that_fails_is_repeated(fault: Fault) -> None:
    """A poll changes nothing: the clip is taken in spite of four failures."""
    fake = FakeRunPod(JobScenario(run=2))
    fake.before["status"].extend([fault] * 4)
    assert (await synthesize_with(fake)).job_id == "job-1-u1"
    assert (len(fake.jobs), fake.count("cancel")) == (1, 0)


@in_virtual_time
async def test_an_outage_longer_than_the_retries_leaves_the_job_running() -> None:
    """The endpoint is unreachable for minutes: the job goes on, and a later call takes its clip."""
    fake = FakeRunPod(JobScenario(run=140))
    fake.before["status"].extend([breaks(httpx.ConnectError)] * 100)
    began = now()
    async with client_of(fake) as client:
        with pytest.raises(EndpointUnavailable, match="ConnectError") as caught:
            await client.synthesize(REQUEST, POLICY, deadline_seconds=900, on_submitted=record_nothing)
        assert caught.value.retryable
        assert not caught.value.maybe_accepted
        assert 90 < now() - began < 150
        fake.before["status"].clear()
        assert (await client.result("job-1-u1", deadline_seconds=60)).job_id == "job-1-u1"
    assert fake.cancelled() == []


@in_virtual_time
async def test_a_minute_without_network_costs_nothing() -> None:
    """Sixty seconds are within the time for which a failing call is repeated."""
    fake = FakeRunPod(JobScenario(run=2))
    began = now()

    def gone(request: httpx.Request) -> Any:
        return httpx.ConnectError("no route", request=request) if now() < began + 60 else None

    fake.before["status"].extend([gone] * 1_000)
    await synthesize_with(fake)
    assert now() < began + 80


@pytest.mark.parametrize(("header", "least", "most"), [("3", 3, 3.3), ("0", 0.5, 0.6), ("86400", 60, 66)])
@in_virtual_time
async def test_retry_after_is_obeyed_within_bounds(header: str, least: float, most: float) -> None:
    """The pause is never zero and never longer than a minute, whatever the server asks for."""
    fake = FakeRunPod(JobScenario(run=0))
    fake.before["status"].append(responds(429, headers={"Retry-After": header}))
    async with client_of(fake) as client:
        job_id = await client.run(REQUEST, POLICY)
        began = now()
        await client.status(job_id)
        assert least <= now() - began <= most


@in_virtual_time
async def test_retry_after_as_a_date_is_measured_by_the_servers_clock() -> None:
    """A laptop whose clock is an hour off waits as long as the server meant."""
    fake = FakeRunPod(JobScenario(run=0))
    dates = {"Date": "Fri, 20 Nov 2026 10:00:00 GMT", "Retry-After": "Fri, 20 Nov 2026 10:00:12 GMT"}
    fake.before["status"].append(responds(503, headers=dates))
    async with client_of(fake) as client:
        job_id = await client.run(REQUEST, POLICY)
        began = now()
        await client.status(job_id)
        assert 12 <= now() - began <= 13.2


@pytest.mark.parametrize(
    "fault", [responds(500), responds(200, html=HTML), responds(200, json={"workers": "many"}), responds(429)]
)
@in_virtual_time
async def test_health_is_given_up_within_seconds(fault: Fault) -> None:
    """A person waits for it: it is repeated for ten seconds only."""
    fake = FakeRunPod()
    fake.before["health"].extend([fault] * 100)
    began = now()
    async with client_of(fake) as client:
        with pytest.raises(EndpointUnavailable):
            await client.health()
    assert now() - began < 11
