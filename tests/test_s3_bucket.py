"""The script that sets up the bucket, against an S3 server over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer
from support.faulty_http import FaultProxy, Forward, Handler, s3_error

from infra.bucket_rules import PROBE_PREFIX
from infra.s3_bucket import main
from narration.store import open_store

URL = "s3://narrations/shelf"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The S3 server's address."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(scope="module")
def s3(server: str) -> Any:
    """A client to look at the bucket with."""
    return boto3.client(
        "s3",
        endpoint_url=server,
        region_name="eu-west-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


@pytest.fixture(autouse=True)
def account(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty account, which the environment names."""
    httpx.post(f"{server}/moto-api/reset")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "NARRATION_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


@pytest.fixture
def proxy(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before the server, which records and alters requests."""
    running = FaultProxy(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", running.endpoint)
    yield running
    running.close()


def rules(s3: Any) -> dict[str, Any]:
    """The bucket's lifecycle rules by id."""
    return {rule["ID"]: rule for rule in s3.get_bucket_lifecycle_configuration(Bucket="narrations")["Rules"]}


def test_a_bucket_is_created_in_its_region_with_all_settings(s3: Any) -> None:
    """After one run on an empty account the bucket can be the store."""
    assert main(["--store", URL]) == 0
    assert s3.get_bucket_location(Bucket="narrations")["LocationConstraint"] == "eu-west-1"
    access = s3.get_public_access_block(Bucket="narrations")["PublicAccessBlockConfiguration"]
    assert access == {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": True,
    }
    uploads = rules(s3)["narration-abandoned-uploads shelf/"]
    assert uploads["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert uploads["Filter"] == {"Prefix": "shelf/"}
    (cors,) = s3.get_bucket_cors(Bucket="narrations")["CORSRules"]
    assert cors["AllowedMethods"] == ["GET", "HEAD"]
    assert "Content-Range" in cors["ExposeHeaders"]  # without it a player cannot seek


def test_aws_region_is_used_before_aws_default_region(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 by itself reads only the latter."""
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert main(["--store", URL]) == 0
    assert s3.get_bucket_location(Bucket="narrations")["LocationConstraint"] == "eu-north-1"


def test_only_probes_ever_expire(s3: Any) -> None:
    """The bucket itself never deletes a clip, which was paid for."""
    main(["--store", URL])
    expiring = [rule for rule in rules(s3).values() if "Expiration" in rule]
    assert [rule["Filter"] for rule in expiring] == [{"Prefix": "shelf/probe-"}]


def test_the_probes_that_expire_are_those_of_the_store(proxy: FaultProxy) -> None:
    """The rule's prefix is that of the objects that the store writes to test a bucket."""
    main(["--store", URL])
    store = open_store(URL)
    proxy.requests.clear()
    store.check_writable()
    written = [path for method, path in proxy.requests if method == "PUT"]
    assert written
    assert all(path.startswith(f"/narrations/shelf/{PROBE_PREFIX}") for path in written)


def test_a_second_run_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The script can be run on every deployment."""
    main(["--store", URL])
    capsys.readouterr()
    assert main(["--store", URL]) == 0
    shown = capsys.readouterr().err
    assert "Nothing to do." in shown
    assert "create" not in shown
    assert "update" not in shown


def test_a_dry_run_shows_the_changes_and_makes_none(s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A person can read what would happen."""
    assert main(["--store", URL, "--dry-run"]) == 0
    assert "create     bucket narrations" in capsys.readouterr().err
    assert s3.list_buckets()["Buckets"] == []


def test_other_rules_are_kept(s3: Any) -> None:
    """A shared bucket keeps the rules that others set in it, and those of a second store."""
    main(["--store", "s3://narrations/other"])
    other = {
        "ID": "theirs",
        "Filter": {"Prefix": "logs/"},
        "Status": "Enabled",
        "Expiration": {"Days": 30},
    }
    s3.put_bucket_lifecycle_configuration(
        Bucket="narrations", LifecycleConfiguration={"Rules": [*rules(s3).values(), other]}
    )
    s3.put_bucket_cors(
        Bucket="narrations",
        CORSConfiguration={
            "CORSRules": [
                {"ID": "theirs", "AllowedMethods": ["PUT"], "AllowedOrigins": ["https://a.example"]}
            ]
        },
    )
    assert main(["--store", URL]) == 0
    assert {"theirs", "narration-probes other/", "narration-probes shelf/"} < set(rules(s3))
    assert {rule["ID"] for rule in s3.get_bucket_cors(Bucket="narrations")["CORSRules"]} == {
        "theirs",
        "narration-links",
    }


def test_a_rule_altered_by_hand_is_set_back(s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The difference is shown with both values, and the rule is changed."""
    main(["--store", URL])
    changed = rules(s3)
    changed["narration-abandoned-uploads shelf/"]["AbortIncompleteMultipartUpload"] = {
        "DaysAfterInitiation": 90
    }
    s3.put_bucket_lifecycle_configuration(
        Bucket="narrations", LifecycleConfiguration={"Rules": list(changed.values())}
    )
    capsys.readouterr()
    main(["--store", URL])
    assert "DaysAfterInitiation: 90 -> 1" in capsys.readouterr().err
    assert rules(s3)["narration-abandoned-uploads shelf/"]["AbortIncompleteMultipartUpload"] == {
        "DaysAfterInitiation": 1
    }


@pytest.mark.parametrize(
    ("scope", "warned"), [("", True), ("shelf/", True), ("shelf/clips/", True), ("logs/", False)]
)
def test_a_rule_that_would_delete_narrations_causes_a_warning(
    s3: Any, capsys: pytest.CaptureFixture[str], scope: str, warned: bool
) -> None:
    """A lifecycle rule of somebody else is reported before it deletes clips."""
    main(["--store", URL])
    other = {"ID": "tidy", "Filter": {"Prefix": scope}, "Status": "Enabled", "Expiration": {"Days": 30}}
    s3.put_bucket_lifecycle_configuration(
        Bucket="narrations", LifecycleConfiguration={"Rules": [*rules(s3).values(), other]}
    )
    capsys.readouterr()
    assert main(["--store", URL]) == 0
    assert ("warning: lifecycle rule 'tidy' deletes" in capsys.readouterr().err) is warned


def test_origins_can_be_given(s3: Any) -> None:
    """Links then play on pages of these origins only."""
    main(["--store", URL, "--origin", "https://a.example", "--origin", "https://b.example"])
    (cors,) = s3.get_bucket_cors(Bucket="narrations")["CORSRules"]
    assert cors["AllowedOrigins"] == ["https://a.example", "https://b.example"]


def refuse_cors(handler: Handler, forward: Forward) -> None:
    """Answer as a server without CORS rules for buckets, such as MinIO."""
    if handler.command == "PUT" and handler.path.endswith("?cors"):
        s3_error(501, "NotImplemented")(handler, forward)
    else:
        handler.answer(*forward(handler.body()))


def test_a_setting_that_the_server_does_not_support_is_noted_and_the_others_are_set(
    s3: Any, proxy: FaultProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server without one of the settings still gets the others."""
    proxy.default_fault = refuse_cors
    assert main(["--store", URL]) == 0
    assert "note: this server has no CORS rules; left unset" in capsys.readouterr().err
    assert "narration-probes shelf/" in rules(s3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--store", "./folder"], "is a folder, not a bucket"),
        (["--store", "s3://No_Such_Name/x"], "is not the name of a bucket"),
    ],
)
def test_a_store_that_is_not_a_bucket_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """The error is one line, and the exit status is that of wrong input."""
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_an_error_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network failure shows no traceback."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert main(["--store", URL]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: cannot look at narrations: no answer")
