"""The endpoint's address, id and key, checked before the key is sent anywhere."""

from __future__ import annotations

import pytest
from support.fake_runpod import ENDPOINT_ID, KEY

from narration.endpoint import Endpoint
from narration.errors import SettingsError


@pytest.mark.parametrize(
    "url",
    [
        "http://api.runpod.ai/v2",
        "http://127.0.0.1.example.com/v2",
        "http://169.254.169.254/v2",
        "http://0.0.0.0/v2",
        "ftp://127.0.0.1/v2",
        "file:///etc/passwd",
        "127.0.0.1:8000/v2",
        "https://",
        "https://user:secret@api.runpod.ai/v2",
        "https://api.runpod.ai/v2?key=secret",
        "https://api.runpod.ai/v2#secret",
        "https://api.runpod.ai:port/v2",
        "",
    ],
)
def test_an_address_that_would_expose_the_key_is_refused(url: str) -> None:
    """HTTPS to any host, HTTP to this machine only, and no user, query or fragment in the address."""
    with pytest.raises(SettingsError, match="NARRATION_RUNPOD_URL") as caught:
        Endpoint(ENDPOINT_ID, KEY, base_url=url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://api.runpod.ai/v2/", "http://127.0.0.1:1/v2", "http://[::1]:1/v2", "http://localhost:1"]
)
async def test_an_address_that_is_safe_is_accepted(url: str) -> None:
    """A slash at the end makes no difference."""
    async with Endpoint(ENDPOINT_ID, KEY, base_url=url) as endpoint:
        assert repr(endpoint) == f"Endpoint({url.rstrip('/')}/{ENDPOINT_ID})"


@pytest.mark.parametrize("key", ["", "with space", "rpa_SECRETSECRET\n", "rpa_SECRETSECRETé", "\x00"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(key: str) -> None:
    """Most often it was pasted with a line break; the error names the setting and not the key."""
    with pytest.raises(SettingsError, match="RUNPOD_API_KEY") as caught:
        Endpoint(ENDPOINT_ID, key)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("endpoint_id", ["", "a/b", "..", "a b", "é", "a?b"])
def test_an_endpoint_id_that_would_change_the_path_is_refused(endpoint_id: str) -> None:
    """The id becomes part of the address to which the key is sent."""
    with pytest.raises(SettingsError, match="RUNPOD_HIGGS_ENDPOINT_ID"):
        Endpoint(endpoint_id, KEY)
