"""Stores for the tests of this folder: of every kind, on each S3 server, and behind a faulty proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faulty_http import FaultProxy
from support.stores import SERVERS, STRICT, StoreAddress, new_s3_address, server

from narration.store import ObjectStore, Store


@pytest.fixture(params=("folder", *SERVERS))
def address(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreAddress:
    """An empty store in a folder and on each S3 server in turn."""
    if request.param == "folder":
        return StoreAddress(str(tmp_path / "store"), {})
    return new_s3_address(server(request.param), monkeypatch)


@pytest.fixture
def objects(address: StoreAddress) -> ObjectStore:
    """The object store at `address`, which a test may alter without the store's collections."""
    return address.open_objects()


@pytest.fixture
def store(objects: ObjectStore) -> Store:
    """The store at `address`."""
    return Store(objects)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a store, which does not exist yet."""
    return tmp_path / "store"


@pytest.fixture(params=SERVERS)
def endpoint(request: pytest.FixtureRequest) -> str:
    """The endpoint of each S3 server in turn."""
    return server(request.param)


@pytest.fixture
def s3_address(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> StoreAddress:
    """An empty store on each S3 server in turn."""
    return new_s3_address(endpoint, monkeypatch)


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy in front of the strict S3 server; botocore's pauses between attempts are short."""
    from botocore.retries import standard

    monkeypatch.setattr(standard.ExponentialBackoff, "delay_amount", lambda *_: 0.01)
    faulty = FaultProxy(server(STRICT))
    yield faulty
    faulty.close()


@pytest.fixture
def objects_behind_proxy(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """An empty object store that is reached through the proxy."""
    return new_s3_address(proxy.endpoint, monkeypatch).open_objects()


@pytest.fixture
def store_behind_proxy(objects_behind_proxy: ObjectStore) -> Store:
    """The store over `objects_behind_proxy`."""
    return Store(objects_behind_proxy)
