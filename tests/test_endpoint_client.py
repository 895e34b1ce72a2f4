"""The endpoint's client against a fake of RunPod's job API: submission, ids, health, the key."""

from __future__ import annotations

import json

import pytest
from support.clocks import in_virtual_time
from support.fake_runpod import (
    KEY,
    POLICY,
    REQUEST,
    FakeRunPod,
    JobScenario,
    client_of,
    clip_output,
    completed,
    responds,
)

from narration.endpoint import JobPolicy, Limits, open_endpoint
from narration.errors import BadResult, EndpointRefused, JobLost, SettingsError
from narration.settings import read_settings


@in_virtual_time
async def test_a_submission_holds_the_request_and_its_policy() -> None:
    """The contract's input arrives with every default, and the job's time limits in milliseconds."""
    fake = FakeRunPod()
    async with client_of(fake) as client:
        job_id = await client.run(REQUEST, JobPolicy(30, 60))
    body = fake.jobs[job_id].body
    assert body["policy"] == {"executionTimeout": 30_000, "ttl": 60_000}
    assert body["input"] == REQUEST.model_dump(mode="json", exclude_none=True)


@in_virtual_time
async def test_a_wrong_key_is_refused_naming_the_setting() -> None:
    """401 raises at once and names RUNPOD_API_KEY, but not the key."""
    fake = FakeRunPod()
    async with client_of(fake, key="rpa_WRONGWRONGWRONGWRONG") as client:
        for call in (client.run(REQUEST, POLICY), client.status("job-1"), client.health()):
            with pytest.raises(EndpointRefused, match="RUNPOD_API_KEY") as caught:
                await call
            assert not caught.value.retryable
            assert "WRONG" not in str(caught.value)
    assert len(fake.calls) == 3


@in_virtual_time
async def test_an_unknown_endpoint_is_refused_without_showing_its_html() -> None:
    """404 on a submission means a wrong endpoint id; an HTML body explains nothing and is not shown."""
    async with client_of(FakeRunPod(), endpoint_id="elsewhere") as client:
        with pytest.raises(EndpointRefused, match="RUNPOD_HIGGS_ENDPOINT_ID") as caught:
            await client.run(REQUEST, POLICY)
    assert "html" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 402, 403, 405, 413, 422])
@in_virtual_time
async def test_a_refusal_is_not_repeated_and_gives_the_endpoints_reason(status: int) -> None:
    """The call is made once, and the endpoint's reason is in the message, on one line."""
    fake = FakeRunPod()
    fake.before["run"].append(responds(status, json={"error": "input is\nwrong"}))
    async with client_of(fake) as client:
        with pytest.raises(EndpointRefused, match=f"HTTP {status}: input is wrong"):
            await client.run(REQUEST, POLICY)
    assert fake.count("run") == 1


@in_virtual_time
async def test_a_request_over_ten_megabytes_is_refused_with_a_remedy() -> None:
    """RunPod takes 10 MB a job; the remedy names the voice sample, which makes a request so large."""
    heavy = REQUEST.model_copy(update={"audio_base64": "A" * 10_000_000})
    async with client_of(FakeRunPod()) as client:
        with pytest.raises(EndpointRefused, match="shorter sample"):
            await client.run(heavy, POLICY)


@pytest.mark.parametrize("job_id", ["", "..", "a/b", "a b", "a\nb", "?x=1", "é", "x" * 300])
@in_virtual_time
async def test_an_invalid_job_id_is_not_sent_to_the_endpoint(job_id: str) -> None:
    """An altered job record cannot make the client call another path: its job counts as lost."""
    fake = FakeRunPod()
    async with client_of(fake) as client:
        with pytest.raises(JobLost):
            await client.status(job_id)
        await client.cancel(job_id)
    assert fake.calls == []


@in_virtual_time
async def test_health_counts_jobs_and_workers_and_ignores_the_rest() -> None:
    """Known counts are read, unknown ones are ignored, missing ones are zero."""
    fake = FakeRunPod()
    fake.workers = {"idle": 1, "throttled": 2}
    async with client_of(fake) as client:
        health = await client.health()
    assert (health.jobs.in_queue, health.jobs.in_progress, health.jobs.completed) == (2, 1, 3)
    assert (health.workers.idle, health.workers.throttled, health.workers.unhealthy) == (1, 2, 0)


@in_virtual_time
async def test_the_key_is_in_no_repr_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Even if a server repeats the key in its reason, no message contains it."""
    caplog.set_level("DEBUG")
    fake = FakeRunPod()
    echo = {"error": f"bad header: Bearer {KEY}"}
    for operation in ("run", "status", "health"):
        fake.before[operation].append(responds(400, json=echo))
    messages: list[str] = []
    async with client_of(fake) as client:
        messages.append(repr(client))
        for call in (client.run(REQUEST, POLICY), client.status("job-1"), client.health()):
            with pytest.raises(EndpointRefused) as caught:
                await call
            messages += [str(caught.value), repr(caught.value), json.dumps(caught.value.__dict__)]
    assert not [text for text in [*messages, caplog.text] if KEY in text]
    assert "ep-1" in messages[0]


@in_virtual_time
async def test_a_response_over_the_limit_is_refused_while_it_is_read() -> None:
    """A huge output takes no more memory than the limit, and is not requested again."""
    fake = FakeRunPod(JobScenario(run=0, end=completed(clip_output(audio_base64="A" * 200_000))))
    async with client_of(fake, limits=Limits(response_bytes=100_000)) as client:
        job_id = await client.run(REQUEST, POLICY)
        with pytest.raises(BadResult, match="100,000 bytes"):
            await client.result(job_id, deadline_seconds=60)
    assert fake.count("status") == 1


def test_open_endpoint_uses_the_endpoint_of_the_settings() -> None:
    """Address and id are those of the settings, and the key is not shown."""
    settings = read_settings(
        engine="higgs", runpod_url="http://127.0.0.1:8100/v2", endpoint_id="ep-1", runpod_api_key=KEY
    )
    assert repr(open_endpoint(settings)) == "Endpoint(http://127.0.0.1:8100/v2/ep-1)"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "higgs", "runpod_api_key": KEY}, "RUNPOD_HIGGS_ENDPOINT_ID is not set"),
        ({"engine": "higgs", "endpoint_id": "ep-1"}, "RUNPOD_API_KEY is not set"),
        (
            {"engine": "draft", "endpoint_id": "ep-1", "runpod_api_key": KEY},
            "RunPod's endpoint has no draft voice",
        ),
    ],
)
def test_settings_that_name_no_usable_endpoint_are_refused(settings: dict[str, str], message: str) -> None:
    """The error names the missing setting; a draft is never asked of RunPod."""
    with pytest.raises(SettingsError, match=message):
        open_endpoint(read_settings(**settings))
