"""A narration's objects in the S3 server, read and changed without the product's store."""

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
