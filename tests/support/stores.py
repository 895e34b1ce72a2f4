"""Stores for tests: a folder, and two S3 servers in processes of their own.

moto is lenient where SeaweedFS is strict: it takes any key, so what a wrong key does is
asked of the other.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from narration.store import ClipSidecar, Store, open_store, s3_client
from narration.store.s3 import S3ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "narrations"
WRITER = ("WRITERKEY0000", "writer-s3cret")
READER = ("READERKEY0000", "reader-s3cret")

_WEED = Path(sys.executable).with_name("weed.exe" if os.name == "nt" else "weed")
_WEED_RUNS_HERE = sys.platform != "darwin" or os.uname().machine == "arm64"
SERVERS = ("moto", "seaweedfs") if _WEED_RUNS_HERE else ("moto",)
STRICT = SERVERS[-1]  # checks credentials and signatures

_numbers = count()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a test's store is, and the environment to reach it by, also from another process."""

    url: str
    env: dict[str, str]

    def open(self) -> Store:
        """The store; its environment must be set. Clients are shared: each takes a while to make."""
        if not self.env:
            return open_store(self.url)
        bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        return Store(S3ObjectStore(_client(*self.env.items()), bucket, prefix))


def aws_env(endpoint: str, keys: tuple[str, str] = WRITER) -> dict[str, str]:
    """All that boto3 reads to reach `endpoint`, and nothing of this machine's."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": keys[0],
        "AWS_SECRET_ACCESS_KEY": keys[1],
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def plain_client(endpoint: str, keys: tuple[str, str] = WRITER) -> S3Client:
    """A plain boto3 client, for what happens behind the store's back."""
    import boto3
    from botocore.config import Config

    client: S3Client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        region_name="us-east-1",
        config=Config(
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )
    return client


stop_servers = ExitStack()  # closed by the session's end, and by the process's where no session is
atexit.register(stop_servers.close)


def server(name: str) -> str:
    """Endpoint of the S3 server of that name in `SERVERS`, with the bucket in it; one for all tests."""
    return {"moto": _moto, "seaweedfs": _seaweedfs}[name]()


def s3_place(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, str] = WRITER, bucket: str = BUCKET
) -> Place:
    """A new prefix in the bucket at `endpoint`, with the environment set to reach it."""
    env = aws_env(endpoint, keys)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return Place(f"s3://{bucket}/tests/{os.getpid()}-{next(_numbers)}", env)


def sidecar_of(digest: str, flac: bytes, **changes: Any) -> ClipSidecar:
    """A sidecar that agrees with `flac`."""
    fields: dict[str, Any] = {
        "digest": digest,
        "samples": 24_000,
        "sample_rate": 24_000,
        "size": len(flac),
        "sha256": hashlib.sha256(flac).hexdigest(),
        "text": "A clip.",
        "model": "draft/test",
        "seed": 7,
        "take": 1,
        "attempt": 1,
        "frames": 25,
        "finish_reason": "stop",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return ClipSidecar(**fields | changes)


def digest_of(text: str) -> str:
    """A digest for tests."""
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _moto() -> str:
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    return _start(command, f"http://127.0.0.1:{port}", _server_folder())


@cache
def _seaweedfs() -> str:
    """With keys that may write and keys that may only read."""
    folder = _server_folder()
    identities = [
        _identity("writer", WRITER, ["Admin", "Read", "Write", "List", "Tagging"]),
        _identity("reader", READER, ["Read", "List"]),
    ]
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    roles = ("master", "volume", "filer", "s3", "admin")
    ports = {f"{role}.{kind}": _free_port() for role in roles for kind in ("port", "port.grpc")}
    command = [
        str(_WEED),
        "mini",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.config={config}",
        "-s3.autoCreateBucket=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-admin.ui=false",
        "-webdav=false",
        "-master.telemetry=false",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    return _start(command, f"http://127.0.0.1:{ports['s3.port']}", folder)


@cache
def _client(*_env: tuple[str, str]) -> S3Client:
    return s3_client.s3_client()


def _identity(name: str, keys: tuple[str, str], actions: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "credentials": [{"accessKey": keys[0], "secretKey": keys[1]}],
        "actions": actions,
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _server_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="s3-server-"))
    stop_servers.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _start(command: list[str], endpoint: str, folder: Path) -> str:
    """Run an S3 server until this process ends; it is ready when the bucket could be made."""
    from botocore.exceptions import BotoCoreError, ClientError

    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    stop_servers.callback(_stop, process)
    client, give_up = plain_client(endpoint), time.monotonic() + 60
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > give_up or process.poll() is not None:
                raise RuntimeError(f"{command[:3]} did not start: {log.read_text()[-2000:]}") from error
            time.sleep(0.1)
        else:
            return endpoint


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
