"""Stores for tests: in a folder, and on two S3 servers in processes of their own.

moto accepts any credentials, so tests of wrong credentials use SeaweedFS, which checks them.
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

from narration.store import ClipSidecar, ObjectStore, Store, open_objects, s3_client
from narration.store.s3 import S3ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "narrations"
WRITER = ("WRITERKEY0000", "writer-s3cret")
READER = ("READERKEY0000", "reader-s3cret")

_WEED = Path(sys.executable).with_name("weed.exe" if os.name == "nt" else "weed")
_WEED_RUNS_HERE = sys.platform != "darwin" or os.uname().machine == "arm64"
SERVERS = ("moto", "seaweedfs") if _WEED_RUNS_HERE else ("moto",)
STRICT = SERVERS[-1]  # the server that checks credentials and signatures

_numbers = count()


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A store's URL, and the environment variables by which any process reaches it (none for a folder)."""

    url: str
    env: dict[str, str]

    def open(self) -> Store:
        """The store; the environment must be set."""
        return Store(self.open_objects())

    def open_objects(self) -> ObjectStore:
        """Its object store. Tests share S3 clients, since each takes a while to make."""
        if not self.env:
            return open_objects(self.url)
        bucket = self.url.removeprefix("s3://").partition("/")[0]
        return S3ObjectStore(_client(*self.env.items()), bucket, self.prefix)

    @property
    def prefix(self) -> str:
        """The prefix of the store's keys in the bucket."""
        return self.url.removeprefix("s3://").partition("/")[2]

    def client(self) -> S3Client:
        """A boto3 client for the store's server."""
        return plain_client(self.env["AWS_ENDPOINT_URL"])


def aws_env(endpoint: str, keys: tuple[str, str] = WRITER) -> dict[str, str]:
    """The variables by which boto3 reaches `endpoint`, whatever the AWS files of this machine say."""
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
    """A boto3 client of another program than the store."""
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


stop_servers = ExitStack()  # closed at the end of the session, or of a process without a session
atexit.register(stop_servers.close)


def server(name: str) -> str:
    """Endpoint of the S3 server `name`, one of `SERVERS`, which has the bucket; all tests share it."""
    return {"moto": _moto, "seaweedfs": _seaweedfs}[name]()


def new_s3_address(
    endpoint: str, monkeypatch: pytest.MonkeyPatch, keys: tuple[str, str] = WRITER, bucket: str = BUCKET
) -> StoreAddress:
    """An empty prefix in the bucket at `endpoint`; sets the environment to reach it."""
    env = aws_env(endpoint, keys)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return StoreAddress(f"s3://{bucket}/tests/{os.getpid()}-{next(_numbers)}", env)


def sidecar_of(digest: str, flac: bytes, **changes: Any) -> ClipSidecar:
    """A sidecar that matches `flac`, with `changes` to its fields."""
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
    """The SHA-256 of a text, which serves as a clip's digest."""
    return hashlib.sha256(text.encode()).hexdigest()


DIGEST = digest_of("a clip")
FLAC = b"fLaC" + bytes(range(256)) * 20
"""A clip for tests; its bytes are not audio."""
LARGE_FLAC = b"fLaC" + bytes(range(256)) * 2_000
"""A clip that takes several packets to transfer."""


def put_clip(store: Store, digest: str = DIGEST, flac: bytes = FLAC, **changes: Any) -> None:
    """Store a clip whose sidecar matches, apart from `changes` to its other fields."""
    store.clips.put(digest, flac, sidecar_of(digest, flac, **changes))


@cache
def _moto() -> str:
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    return _start(command, f"http://127.0.0.1:{port}", _server_folder())


@cache
def _seaweedfs() -> str:
    """A server with the credentials `WRITER` and, for reading only, `READER`."""
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
    """Run an S3 server until this process ends; return its endpoint once the bucket is created."""
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
