"""The client of RunPod's management API, against a fake of it: retries, refusals, malformed responses."""

from __future__ import annotations

import httpx
import pytest
from support.runpod_account import KEY, FakeAccount

from narration.endpoint.management import ManagementApi, endpoint_state
from narration.errors import EndpointError, EndpointRefused, EndpointUnavailable, SettingsError


@pytest.fixture
def account() -> FakeAccount:
    """An empty account."""
    return FakeAccount()


def test_a_call_waits_as_long_as_retry_after_says(account: FakeAccount) -> None:
    """Also if the body of the 429 is not JSON; then the call is repeated."""
    pauses: list[float] = []
    account.faults = [
        httpx.Response(429, headers={"Retry-After": "12"}, text="<html>slow down</html>"),
        httpx.Response(503, text="upstream"),
    ]
    with ManagementApi(KEY, transport=account.transport, sleep=pauses.append) as management:
        assert management.read("/serverless") == {"endpoints": []}
    assert pauses == [12.0, 2.0]


def test_a_call_is_given_up_after_four_failures(account: FakeAccount) -> None:
    """The error says that trying later may help."""
    account.faults = [httpx.Response(503)] * 9
    with (
        ManagementApi(KEY, transport=account.transport, sleep=lambda _: None) as management,
        pytest.raises(EndpointUnavailable, match="HTTP 503") as caught,
    ):
        management.read("/serverless")
    assert caught.value.retryable
    assert len(account.requests) == 4


@pytest.mark.parametrize("fault", [httpx.Response(502), httpx.ReadTimeout("no response")])
def test_a_creation_whose_response_was_lost_is_not_repeated(
    account: FakeAccount, fault: httpx.Response | Exception
) -> None:
    """A second call could create a second endpoint; the next run finds the first by its name."""
    account.faults = [fault]
    with (
        ManagementApi(KEY, transport=account.transport, sleep=lambda _: None) as management,
        pytest.raises(EndpointUnavailable, match="was lost"),
    ):
        management.create("/serverless", {"name": "x"})
    assert len(account.requests) == 1


def test_an_unknown_endpoint_id_is_refused(account: FakeAccount) -> None:
    """The error has a remedy."""
    with pytest.raises(EndpointRefused, match="not found"):
        endpoint_state("nowhere", KEY, transport=account.transport)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"workers": {"min": null, "max": "many"}, "timeout": 1}'),
        (200, b'{"workers": {"max": 3}, "timeout": 1%b}' % (b"0" * 400)),
        (200, b'{"workers": {"max": [3]}, "timeout": 5}'),
        (200, b"[" * 100_000),
        (400, b"[" * 100_000),
        (400, b'{"errors": 7, "title": ["no"]}'),
    ],
)
def test_a_response_that_describes_no_endpoint_is_an_endpoint_error(status: int, body: bytes) -> None:
    """Whatever the response holds, the preflight can go on without it."""
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=body))
    with pytest.raises(EndpointError):
        endpoint_state("ep1", KEY, transport=transport)


@pytest.mark.parametrize("key", ["", "  ", "two words", "schlüssel", "a\nb"])
def test_text_that_is_not_a_key_is_refused_without_being_shown(key: str) -> None:
    """A value that no HTTP header can hold is refused before httpx would show it."""
    with pytest.raises(SettingsError, match="RUNPOD_MANAGEMENT_KEY is not a key") as caught:
        ManagementApi(key)
    assert not key.strip() or key not in str(caught.value)
