"""A narration's objects in the S3 server: read, changed and damaged without the product's store."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from support.stores import BUCKET, plain_client

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class StoredObjects:
    """The objects under `prefix` of the S3 server at `url`; keys are whole ones, with the prefix."""

    def __init__(self, url: str, prefix: str) -> None:
        self._client = _client(url)
        self.prefix = prefix

    def keys(self, *parts: str) -> list[str]:
        """The keys that contain every one of `parts`, sorted."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=self.prefix + "/"
        )
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return sorted(key for key in keys if all(part in key for part in parts))

    def digests(self, *parts: str) -> set[str]:
        """The digests in the names of such keys."""
        return {key.rpartition("/")[2].partition(".")[0] for key in self.keys(*parts)}

    def job_records(self) -> list[str]:
        """The keys of all job records."""
        return self.keys("/jobs/")

    def read(self, key: str) -> bytes:
        """An object's bytes."""
        return self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def replace(self, key: str, change: Callable[[bytes], bytes]) -> None:
        """Overwrite an object with what `change` returns for its bytes; its metadata are lost."""
        self._client.put_object(Bucket=BUCKET, Key=key, Body=change(self.read(key)))

    def delete(self, *keys: str) -> None:
        """Delete these objects."""
        for key in keys:
            self._client.delete_object(Bucket=BUCKET, Key=key)


@cache
def _client(url: str) -> S3Client:
    return plain_client(url)


def flip_a_bit(flac: bytes) -> bytes:
    """The same bytes but for one bit of the audio."""
    return flac[:500] + bytes([flac[500] ^ 1]) + flac[501:]


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _sidecar(clip: str) -> str:
    return clip.replace(".flac", ".json")


def _copy_sidecar_of_another(stored: StoredObjects, clip: str) -> None:
    others = set(stored.keys("/clips/", ".json")) - {_sidecar(clip)}
    stored.replace(_sidecar(clip), lambda _: stored.read(min(others)))


DAMAGES: dict[str, Callable[[StoredObjects, str], object]] = {
    "flipped": lambda stored, clip: stored.replace(clip, flip_a_bit),
    "truncated": lambda stored, clip: stored.replace(clip, _half),
    "emptied": lambda stored, clip: stored.replace(clip, lambda _: b""),
    "sidecar missing": lambda stored, clip: stored.delete(_sidecar(clip)),
    "sidecar of another": _copy_sidecar_of_another,
    "sidecar truncated": lambda stored, clip: stored.replace(_sidecar(clip), _half),
    "missing": lambda stored, clip: stored.delete(clip),
}
"""By name: damages the clip whose audio has the given key."""
