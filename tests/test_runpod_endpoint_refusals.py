"""The provisioning script stops: prices above the cap, ambiguous names, refused or lost changes, no key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.runpod_account import ENDPOINT_FILE, KEY, FakeAccount, provision

Run = Callable[..., int]


@pytest.fixture
def account() -> FakeAccount:
    """An empty account."""
    return FakeAccount()


@pytest.fixture
def run(
    account: FakeAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run the script on a settings file; output of earlier runs is dropped."""
    monkeypatch.setenv("RUNPOD_MANAGEMENT_KEY", KEY)

    def run_once(text: str = ENDPOINT_FILE, *flags: str) -> int:
        capsys.readouterr()
        return provision(account, tmp_path, text, *flags)

    return run_once


@pytest.mark.parametrize(
    ("text", "price"),
    [
        (ENDPOINT_FILE.replace("max = 3", "max = 4"), "4.40 USD an hour with all 4 workers running"),
        (ENDPOINT_FILE.replace("[gpu]", "[gpu]\ncount = 2"), "6.60 USD an hour"),
        (
            ENDPOINT_FILE.replace('"ADA_24"', '"ADA_48_PRO"') + "[prices]\nADA_48_PRO = 1.91\n",
            "5.73 USD an hour",  # the catalogue lists no price for it, the file does
        ),
    ],
)
def test_an_endpoint_that_could_cost_more_than_the_cap_is_refused(
    account: FakeAccount, run: Run, capsys: pytest.CaptureFixture[str], text: str, price: str
) -> None:
    """The price of every allowed worker on the dearest allowed GPU is computed before anything is created."""
    assert run(text) == 2
    assert price in capsys.readouterr().err
    assert account.writes() == []


def test_the_dearest_gpu_that_a_worker_may_get_sets_the_price(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The price is that of the dearest GPU type in all pools that is not excluded."""
    pools = ENDPOINT_FILE.replace('"ADA_24"', '"AMPERE_24", "ADA_24"')
    run(pools, "--dry-run")
    assert "at most 3.30 USD" in capsys.readouterr().err
    run(ENDPOINT_FILE.replace('"ADA_24"', '"AMPERE_24"'), "--dry-run")
    assert "at most 2.07 USD" in capsys.readouterr().err
    cheap = ENDPOINT_FILE.replace('["ADA_24"]', '["AMPERE_24"]\nexcluded = ["NVIDIA L4"]')
    run(cheap, "--dry-run")
    assert "at most 1.44 USD" in capsys.readouterr().err


def test_a_pool_without_a_price_is_refused(
    account: FakeAccount, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a price the cap cannot be checked."""
    assert run(ENDPOINT_FILE.replace("ADA_24", "BLACKWELL_96")) == 2
    assert "no price is known for GPU pool BLACKWELL_96" in capsys.readouterr().err
    assert account.writes() == []


def test_two_endpoints_of_one_name_are_refused(
    account: FakeAccount, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person must choose; nothing is changed or created."""
    run()
    account.collections["endpoints"].append(account.endpoint | {"id": "ep9"})
    account.requests.clear()
    assert run() == 2
    assert "several endpoints are named narration-higgs: ep1, ep9" in capsys.readouterr().err
    assert account.writes() == []


@pytest.mark.parametrize("change", [{"type": "LOAD_BALANCER"}, {"gpu": None}])
def test_an_endpoint_of_another_type_is_refused(
    account: FakeAccount, run: Run, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    """An endpoint's type cannot change, so the name is taken."""
    run()
    account.endpoint.update(change)
    assert run() == 2
    assert "an endpoint of another type" in capsys.readouterr().err


def test_values_that_runpod_accepts_and_does_not_keep_are_an_error(
    account: FakeAccount, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The endpoint is read back and compared after it was changed."""

    def forget_the_timeout(thing: dict[str, Any]) -> None:
        if "timeout" in thing:
            thing["timeout"] = 0

    account.alter = forget_the_timeout
    assert run() == 1
    shown = capsys.readouterr().err
    assert "RunPod accepted the changes, but still shows other values" in shown
    assert "timeout: 0 -> 600000" in shown


def test_a_refusal_is_shown_with_runpods_reason_and_without_the_key(
    account: FakeAccount, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status, detail and each wrong field are on one line."""
    problem = {
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "Request validation failed.",
        "errors": ["$: additional properties 'x' not allowed", f"key {KEY}"],
    }
    account.faults = [httpx.Response(422, json=problem)]
    assert run() == 1
    shown = capsys.readouterr().err
    assert "HTTP 422: Request validation failed.; $: additional properties 'x' not allowed" in shown
    assert KEY not in shown


def test_a_wrong_key_is_reported_as_such(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The remedy names the variable to correct."""
    monkeypatch.setenv("RUNPOD_MANAGEMENT_KEY", "rpa_wrong_key_entirely")
    assert run() == 1
    shown = capsys.readouterr().err
    assert "check RUNPOD_MANAGEMENT_KEY" in shown
    assert "rpa_wrong" not in shown


def test_without_a_key_no_request_is_made(
    account: FakeAccount, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the missing variable."""
    monkeypatch.delenv("RUNPOD_MANAGEMENT_KEY")
    assert run() == 2
    assert "RUNPOD_MANAGEMENT_KEY is not set" in capsys.readouterr().err
    assert account.requests == []
