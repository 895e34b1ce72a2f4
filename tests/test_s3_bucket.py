"""The bucket's setup, against an S3 server over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from infra import s3_bucket
from infra.s3_bucket import main
from narration.store import open_store

URL = "s3://narrations/shelf"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(scope="module")
def s3(server: str) -> Any:
    """A client of one's own, to look at what the script did."""
    return boto3.client(
        "s3",
        endpoint_url=server,
        region_name="eu-west-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )


@pytest.fixture(autouse=True)
def account(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty account, and the environment that leads to it."""
    httpx.post(f"{server}/moto-api/reset")
    monkeypatch.chdir(tmp_path)  # away from any .env
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "NARRATION_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


def rules(s3: Any) -> dict[str, Any]:
    return {rule["ID"]: rule for rule in s3.get_bucket_lifecycle_configuration(Bucket="narrations")["Rules"]}


def test_a_bucket_is_made_in_its_region_private_and_tidy(s3: Any) -> None:
    """One run on an empty account leaves a bucket fit to be the store."""
    assert main(["--store", URL]) == 0
    assert s3.get_bucket_location(Bucket="narrations")["LocationConstraint"] == "eu-west-1"
    access = s3.get_public_access_block(Bucket="narrations")["PublicAccessBlockConfiguration"]
    assert access == {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": True,
        "RestrictPublicBuckets": True,
    }
    found = rules(s3)
    uploads = found["narration-abandoned-uploads shelf/"]
    assert uploads["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert uploads["Filter"] == {"Prefix": "shelf/"}
    (cors,) = s3.get_bucket_cors(Bucket="narrations")["CORSRules"]
    assert cors["AllowedMethods"] == ["GET", "HEAD"]
    assert "Content-Range" in cors["ExposeHeaders"]  # without it a player cannot seek


def test_the_region_named_for_all_of_amazons_tools_counts(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_REGION goes before AWS_DEFAULT_REGION, which boto3 alone would look at."""
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert main(["--store", URL]) == 0
    assert s3.get_bucket_location(Bucket="narrations")["LocationConstraint"] == "eu-north-1"


def test_only_probes_ever_expire(s3: Any) -> None:
    """What was paid for is never deleted by the bucket itself."""
    main(["--store", URL])
    expiring = [rule for rule in rules(s3).values() if "Expiration" in rule]
    assert [rule["Filter"] for rule in expiring] == [{"Prefix": "shelf/probe-"}]


def test_the_probes_that_expire_are_the_stores_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule's prefix is that of the scratch objects the store writes to test a bucket."""
    main(["--store", URL])
    store = open_store(URL)
    written: list[str] = []
    original = store._objects.put

    def recording(key: str, data: bytes, **options: Any) -> str:
        written.append(key)
        return original(key, data, **options)

    monkeypatch.setattr(store._objects, "put", recording)
    store.check_writable()
    assert written
    assert all(key.startswith(s3_bucket.PROBE_PREFIX) for key in written)


def test_a_second_run_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The setup is safe to run on every deployment."""
    main(["--store", URL])
    capsys.readouterr()
    assert main(["--store", URL]) == 0
    shown = capsys.readouterr().err
    assert "Nothing to do." in shown
    assert "create" not in shown
    assert "update" not in shown


def test_a_dry_run_shows_the_plan_and_makes_nothing(s3: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A person reads what would happen before it does."""
    assert main(["--store", URL, "--dry-run"]) == 0
    assert "create     bucket narrations" in capsys.readouterr().err
    assert s3.list_buckets()["Buckets"] == []


def test_rules_of_others_stay(s3: Any) -> None:
    """A bucket that is shared keeps what others set in it, two stores of ours included."""
    main(["--store", "s3://narrations/other"])
    theirs = {
        "ID": "theirs",
        "Filter": {"Prefix": "logs/"},
        "Status": "Enabled",
        "Expiration": {"Days": 30},
    }
    s3.put_bucket_lifecycle_configuration(
        Bucket="narrations", LifecycleConfiguration={"Rules": [*rules(s3).values(), theirs]}
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
    """What differs is shown with both values, and mended."""
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
def test_a_rule_that_would_delete_narrations_is_pointed_out(
    s3: Any, capsys: pytest.CaptureFixture[str], scope: str, warned: bool
) -> None:
    """Somebody's bucket-wide clean-up is seen before it costs clips."""
    main(["--store", URL])
    theirs = {"ID": "tidy", "Filter": {"Prefix": scope}, "Status": "Enabled", "Expiration": {"Days": 30}}
    s3.put_bucket_lifecycle_configuration(
        Bucket="narrations", LifecycleConfiguration={"Rules": [*rules(s3).values(), theirs]}
    )
    capsys.readouterr()
    assert main(["--store", URL]) == 0
    assert ("warning: lifecycle rule 'tidy' deletes" in capsys.readouterr().err) is warned


def test_origins_can_be_named(s3: Any) -> None:
    """Who wants links to play on one site only says which."""
    main(["--store", URL, "--origin", "https://a.example", "--origin", "https://b.example"])
    (cors,) = s3.get_bucket_cors(Bucket="narrations")["CORSRules"]
    assert cors["AllowedOrigins"] == ["https://a.example", "https://b.example"]


class RefusesCors:
    """The S3 client of a server that has no bucket rules for other origins, as MinIO's."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def put_bucket_cors(self, **_: Any) -> None:
        answer: Any = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 501}}
        raise ClientError(answer, "PutBucketCors")


def test_what_a_server_does_not_offer_is_noted_and_the_rest_is_set(
    s3: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server without one of the features still gets the others."""
    monkeypatch.setattr(s3_bucket, "s3_client", lambda: RefusesCors(s3))
    assert main(["--store", URL]) == 0
    assert "note: this server has no CORS rules; left unset" in capsys.readouterr().err
    assert "narration-probes shelf/" in rules(s3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--store", "./folder"], "is a folder, not a bucket"),
        (["--store", "s3://No_Such_Name/x"], "is not the name of a bucket"),
    ],
)
def test_what_is_no_bucket_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """A mistaken setting ends in one line that says so, with the status of a mistake."""
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_a_failure_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback where the network is the matter."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert main(["--store", URL]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: cannot look at narrations: no answer")
