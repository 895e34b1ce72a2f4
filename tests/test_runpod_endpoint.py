"""The endpoint as a settings file, against a twin of RunPod's management API."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.runpod_account import KEY, Account

from infra.endpoint_file import EndpointFile
from infra.runpod_endpoint import SETTINGS_FILE, main
from narration.endpoint.management import ManagementApi, endpoint_state
from narration.errors import EndpointError, EndpointRefused, EndpointUnavailable, SettingsError

FILE = """
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

Run = Callable[..., int]


@pytest.fixture
def account() -> Account:
    return Account()


@pytest.fixture
def run(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run the script on a settings file; what it printed before is forgotten."""
    monkeypatch.chdir(tmp_path)  # away from any .env
    monkeypatch.setenv("RUNPOD_MANAGEMENT_KEY", KEY)

    def run_once(text: str = FILE, *flags: str) -> int:
        path = tmp_path / "endpoint.toml"
        path.write_text(text)
        capsys.readouterr()
        return main(["--file", str(path), *flags], transport=account.transport)

    return run_once


def by_delay(text: str = FILE) -> str:
    """The file with the other way of scaling."""
    delay = text.replace("requests_per_worker = 32", "queue_delay_seconds = 4.0")
    return delay.replace("max = 3\n", "max = 3\nidle_seconds = 60\n")


def test_an_empty_account_gets_template_and_endpoint(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run makes both, says every setting outright, and prints the id alone on standard output."""
    assert run() == 0
    shown = capsys.readouterr()
    assert shown.out == "ep1\n"
    assert "create     endpoint narration-higgs" in shown.err
    endpoint = account.endpoint
    assert endpoint["type"] == "QUEUE"
    assert endpoint["timeout"] == 600_000  # ms; left out it would be 0
    assert endpoint["flashboot"] == "FLASHBOOT"  # left out it would be OFF
    assert endpoint["workers"] == {"min": 0, "max": 3}
    assert endpoint["scaling"] == {"type": "REQUEST_COUNT", "requestCount": 32}
    assert endpoint["gpu"]["pools"] == ["ADA_24"]
    assert endpoint["gpu"]["minCudaVersion"] == "13.0"
    assert endpoint["env"] == {"WORKER_ENGINE": "higgs"}
    (template,) = account.collections["templates"]
    assert (template["serverless"], template["public"], template["startSsh"]) == (True, False, False)
    assert template["image"] == endpoint["image"] == "docker.io/me/narration-worker:1.2.3"


@pytest.mark.parametrize(
    "text",
    [FILE, by_delay(), FILE.replace('["ADA_24"]', '["AMPERE_24", "ADA_24"]')],
    ids=["by count", "by delay", "pools in an order that RunPod does not keep"],
)
def test_a_second_run_changes_nothing(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """Found by name, compared, left alone: no write goes out."""
    run(text)
    account.requests.clear()
    assert run(text) == 0
    assert account.writes() == []
    shown = capsys.readouterr()
    assert "Nothing to do." in shown.err
    assert shown.out == "ep1\n"


def test_a_dry_run_writes_nothing(account: Account, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The plan and the price are read before they are paid."""
    assert run(FILE, "--dry-run") == 0
    assert account.writes() == []
    shown = capsys.readouterr()
    assert "cost: at most 3.30 USD an hour with all 3 workers running" in shown.err
    assert "timeout: 600000" in shown.err
    assert shown.out == ""


def test_what_changed_in_the_file_changes_in_the_account_and_nothing_else(account: Account, run: Run) -> None:
    """An update names the changed settings alone."""
    run()
    account.requests.clear()
    assert run(FILE.replace("1.2.3", "1.2.4")) == 0
    image = {"image": "docker.io/me/narration-worker:1.2.4"}
    assert account.writes() == [("PATCH", "/templates/tpl1", image), ("PATCH", "/serverless/ep1", image)]


def test_an_endpoint_that_runpod_closed_is_opened_again(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """After seven idle days RunPod allows no worker; applying the file allows them again."""
    run()
    account.endpoint["workers"]["max"] = 0
    assert endpoint_state("ep1", KEY, transport=account.transport).closed
    assert run() == 0
    assert "workers.max: 0 -> 3" in capsys.readouterr().err
    state = endpoint_state("ep1", KEY, transport=account.transport)
    assert (state.name, state.max_workers, state.min_workers, state.timeout) == ("narration-higgs", 3, 0, 600)
    assert not state.closed


@pytest.mark.parametrize(("before", "after"), [(FILE, by_delay()), (by_delay(), FILE)])
def test_the_way_of_scaling_can_change(account: Account, run: Run, before: str, after: str) -> None:
    """The idle timeout goes and comes with the scaler that it belongs to."""
    run(before)
    assert run(after) == 0
    assert ("idleTimeout" in account.endpoint["workers"]) == ("idle_seconds" in after)


def test_what_is_taken_out_of_the_file_is_cleared(account: Account, run: Run) -> None:
    """A constraint, an exclusion or a variable that is no longer asked for does not linger."""
    gpu = 'pools = ["AMPERE_24", "ADA_24"]\nexcluded = ["NVIDIA L4"]'
    run(FILE.replace('pools = ["ADA_24"]', gpu).replace("[gpu]", 'OLD = "1"\n[gpu]'))
    assert account.endpoint["gpu"]["excludedTypes"] == ["NVIDIA L4"]
    assert run(FILE.replace('min_cuda = "13.0"\n', "").replace('"ADA_24"', '"ADA_24", "AMPERE_24"')) == 0
    assert account.endpoint["gpu"].get("excludedTypes", []) == []
    assert account.endpoint["gpu"]["minCudaVersion"] is None
    assert account.endpoint["env"] == {"WORKER_ENGINE": "higgs"}


def test_a_cuda_set_chosen_by_hand_gives_way_to_the_files_floor(account: Account, run: Run) -> None:
    """The two exclude each other, so one is cleared in the request that sets the other."""
    run()
    account.endpoint["gpu"] |= {"allowedCudaVersions": ["12.6"], "minCudaVersion": None}
    assert run() == 0
    assert account.endpoint["gpu"]["allowedCudaVersions"] == []
    assert account.endpoint["gpu"]["minCudaVersion"] == "13.0"


def test_a_variable_set_by_hand_is_not_printed(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be a secret; that it goes is said, what it held is not."""
    run()
    account.endpoint["env"] |= {"HF_TOKEN": "hf_very_secret", "WORKER_ENGINE": "hf_also_secret"}
    assert run(FILE, "--dry-run") == 0
    shown = capsys.readouterr()
    assert "env.HF_TOKEN: (another) -> (absent)" in shown.err
    assert "env.WORKER_ENGINE: (another) -> higgs" in shown.err
    assert "secret" not in shown.err + shown.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FILE.replace("max = 3", "max = 4"), "4.40 USD an hour with all 4 workers running"),
        (FILE.replace("[gpu]", "[gpu]\ncount = 2"), "6.60 USD an hour"),
        (
            FILE.replace('"ADA_24"', '"ADA_48_PRO"') + "[prices]\nADA_48_PRO = 1.91\n",
            "5.73 USD an hour",  # the catalogue lists no price for it, the file does
        ),
    ],
)
def test_what_could_cost_more_than_the_cap_is_refused(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """The price of every worker allowed, on the dearest GPU allowed, is known before anything is made."""
    assert run(text) == 2
    assert said in capsys.readouterr().err
    assert account.writes() == []


def test_the_dearest_gpu_that_a_worker_may_get_sets_the_price(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several pools cost as much as the worst of them, less the types that are excluded."""
    pools = FILE.replace('"ADA_24"', '"AMPERE_24", "ADA_24"')
    run(pools, "--dry-run")
    assert "at most 3.30 USD" in capsys.readouterr().err
    run(FILE.replace('"ADA_24"', '"AMPERE_24"'), "--dry-run")
    assert "at most 2.07 USD" in capsys.readouterr().err
    cheap = FILE.replace('["ADA_24"]', '["AMPERE_24"]\nexcluded = ["NVIDIA L4"]')
    run(cheap, "--dry-run")
    assert "at most 1.44 USD" in capsys.readouterr().err


def test_a_pool_without_a_price_is_refused(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """No cap can hold where nobody knows the price."""
    assert run(FILE.replace("ADA_24", "BLACKWELL_96")) == 2
    assert "no price is known for GPU pool BLACKWELL_96" in capsys.readouterr().err
    assert account.writes() == []


def test_two_endpoints_of_one_name_are_not_guessed_between(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person says which; nothing is changed and none is made beside them."""
    run()
    account.collections["endpoints"].append(account.endpoint | {"id": "ep9"})
    account.requests.clear()
    assert run() == 2
    assert "several endpoints are named narration-higgs: ep1, ep9" in capsys.readouterr().err
    assert account.writes() == []


def test_a_name_marked_by_the_console_is_still_the_endpoint(account: Account, run: Run) -> None:
    """No second endpoint is made beside one whose name got a mark."""
    run()
    account.endpoint["name"] = "narration-higgs -fb"
    account.requests.clear()
    assert run() == 0
    assert account.writes() == []


@pytest.mark.parametrize("change", [{"type": "LOAD_BALANCER"}, {"gpu": None}])
def test_an_endpoint_of_another_kind_is_refused(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str], change: dict[str, Any]
) -> None:
    """The kind of an endpoint cannot change, so its name is taken."""
    run()
    account.endpoint.update(change)
    assert run() == 2
    assert "an endpoint of another kind" in capsys.readouterr().err


def test_an_answer_that_is_not_what_was_asked_for_is_noticed(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """What RunPod accepts and then does otherwise is an error, not a success."""

    def forget_the_timeout(thing: dict[str, Any]) -> None:
        if "timeout" in thing:
            thing["timeout"] = 0

    account.alter = forget_the_timeout
    assert run() == 1
    shown = capsys.readouterr().err
    assert "RunPod accepted the changes and still shows others" in shown
    assert "timeout: 0 -> 600000" in shown


def test_a_refusal_is_told_in_runpods_words_without_the_key(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status, detail and each failing field, on one line; the key never."""
    problem = {
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "Request validation failed.",
        "errors": ["$: additional properties 'x' not allowed", f"key {KEY}"],
    }
    account.trouble = [httpx.Response(422, json=problem)]
    assert run() == 1
    shown = capsys.readouterr().err
    assert "HTTP 422: Request validation failed.; $: additional properties 'x' not allowed" in shown
    assert KEY not in shown


def test_a_wrong_key_is_said_to_be_one(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The remedy names the variable to mend."""
    monkeypatch.setenv("RUNPOD_MANAGEMENT_KEY", "rpa_wrong_key_entirely")
    assert run() == 1
    shown = capsys.readouterr().err
    assert "check RUNPOD_MANAGEMENT_KEY" in shown
    assert "rpa_wrong" not in shown


def test_without_a_key_nothing_is_asked(
    account: Account, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The missing variable is named before any request."""
    monkeypatch.delenv("RUNPOD_MANAGEMENT_KEY")
    assert run() == 2
    assert "RUNPOD_MANAGEMENT_KEY is not set" in capsys.readouterr().err
    assert account.requests == []


def test_a_full_rate_limit_is_waited_out_as_long_as_asked(account: Account) -> None:
    """Retry-After is honoured, with or without a body that is JSON; then the call goes on."""
    pauses: list[float] = []
    account.trouble = [
        httpx.Response(429, headers={"Retry-After": "12"}, text="<html>slow down</html>"),
        httpx.Response(503, text="upstream"),
    ]
    with ManagementApi(KEY, transport=account.transport, sleep=pauses.append) as management:
        assert management.read("/serverless") == {"endpoints": []}
    assert pauses == [12.0, 2.0]


def test_trouble_that_lasts_is_an_outage(account: Account) -> None:
    """After four tries the failure says that trying later may help."""
    account.trouble = [httpx.Response(503)] * 9
    with (
        ManagementApi(KEY, transport=account.transport, sleep=lambda _: None) as management,
        pytest.raises(EndpointUnavailable, match="HTTP 503") as caught,
    ):
        management.read("/serverless")
    assert caught.value.retryable
    assert len(account.requests) == 4


@pytest.mark.parametrize("trouble", [httpx.Response(502), httpx.ReadTimeout("no answer")])
def test_a_creation_whose_answer_was_lost_is_not_repeated(
    account: Account, trouble: httpx.Response | Exception
) -> None:
    """A second try could make a second endpoint; the next run finds the first by its name."""
    account.trouble = [trouble]
    with (
        ManagementApi(KEY, transport=account.transport, sleep=lambda _: None) as management,
        pytest.raises(EndpointUnavailable, match="was lost"),
    ):
        management.create("/serverless", {"name": "x"})
    assert len(account.requests) == 1


def test_a_state_of_nothing_is_refused(account: Account) -> None:
    """An id that the account does not hold is a refusal with a remedy."""
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
def test_an_answer_that_describes_no_endpoint_is_a_typed_failure(status: int, body: bytes) -> None:
    """Whatever stands where an endpoint should, the run's checks go on without it."""
    answering = httpx.MockTransport(lambda _: httpx.Response(status, content=body))
    with pytest.raises(EndpointError):
        endpoint_state("ep1", KEY, transport=answering)


@pytest.mark.parametrize("key", ["", "  ", "two words", "schlüssel", "a\nb"])
def test_what_is_no_key_is_refused_unseen(key: str) -> None:
    """What a header cannot hold is refused here, in words that do not repeat it."""
    with pytest.raises(SettingsError, match="RUNPOD_MANAGEMENT_KEY is not a key") as caught:
        ManagementApi(key)
    assert not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (FILE.replace(":1.2.3", ":latest"), "worker.image: must end in a tag other than latest"),
        (FILE.replace(":1.2.3", ""), "worker.image: must end in a tag"),
        (FILE.replace("docker.io", "registry.example"), "name the image you pushed"),
        (FILE.replace("WORKER_ENGINE", "HF_TOKEN"), "HF_TOKEN must be a reference such as {{ RUNPOD_SECRET_"),
        (FILE.replace("max = 3", "max = 3\nidle_seconds = 5"), "idle_seconds: RunPod refuses it"),
        (FILE.replace("requests_per_worker = 32", ""), "give requests_per_worker or queue_delay_seconds"),
        (FILE.replace("max = 3", "max = 3\nmin = 4"), "min is greater than max"),
        (FILE.replace("max = 3", "maximum = 3"), "workers.max: Field required"),
        (FILE.replace("max = 3", "max = 3\nmore = 1"), "workers.more: Extra inputs"),
        (FILE.replace("max = 3", "max ="), "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """Every setting is checked before anything is asked of RunPod."""
    assert run(text) == 2
    assert said in capsys.readouterr().err
    assert account.requests == []


@pytest.mark.parametrize("image", ["a:5000/b@sha256:" + "0" * 64, "b:1", "host:5000/b:v1.0-rc.2"])
def test_any_pinned_image_is_taken(image: str) -> None:
    """A digest or a tag pins what runs, with or without a registry and its port."""
    document = tomllib.loads(FILE)
    document["worker"]["image"] = image
    assert EndpointFile.model_validate(document).worker.image == image


def test_the_file_shipped_lacks_nothing_but_the_image(account: Account, run: Run) -> None:
    """Who names an image of their own can apply the file as it is."""
    text = SETTINGS_FILE.read_text()
    assert run(re.sub(r'image = "[^"]*"', 'image = "docker.io/me/worker:1"', text)) == 0
    assert account.endpoint["scaling"]["requestCount"] == int(account.endpoint["env"]["WORKER_SLOTS"])
    assert run(text) == 2
