"""Conditional writes to S3, which keep two writers of a manifest from overwriting each other."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from narration.errors import StoreUnavailable
from narration.store.s3_errors import MISSING, code_of, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SHA256_METADATA = "sha256"
"""Name of the metadata entry that holds the SHA-256 of an object's bytes."""

_TRIES = 6
_UNSUPPORTED = frozenset({"NotImplemented", "501", "InvalidArgument", "InvalidRequest"})
"""Error codes of servers that do not know a condition."""


def put_if_unchanged(client: S3Client, arguments: dict[str, Any], if_match: str | None) -> str | None:
    """Write the object only if the stored one has the etag `if_match`, or (None) there is none.

    `arguments` are those of `put_object`, with `SHA256_METADATA` in the metadata. Returns the new
    etag, or None when the condition fails. The etag is also compared here before the write, which protects
    a single writer on a server that does not know conditions. Raises botocore's errors, and
    `StoreUnavailable` when the server keeps reporting a conflict with other writers.
    """
    address = {"Bucket": arguments["Bucket"], "Key": arguments["Key"]}
    current = head_object(client, address)
    if (current["ETag"] if current else None) != if_match:
        return None
    condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_match is None else {"IfMatch": if_match}
    for attempt in range(_TRIES):
        try:
            return client.put_object(**arguments, **condition)["ETag"]
        except ClientError as error:
            if status_of(error) == 412 or code_of(error) in MISSING:
                return _etag_if_own_write(client, address, arguments, error)
            if condition and code_of(error) in _UNSUPPORTED:
                condition = {}
            elif status_of(error) != 409:
                raise
        time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311  spreads writers out, guards nothing
    raise StoreUnavailable(f"other writers keep replacing {arguments['Key']}", remedy="try again")


def refuses_stale_writes(client: S3Client, address: dict[str, Any]) -> bool:
    """Whether the server refuses writes whose condition fails, tried on a scratch object at `address`."""
    other_etag = '"00000000000000000000000000000000"'
    try:
        client.put_object(**address, Body=b"")
        return all(
            _refuses(client, {**address, "Body": b"", **condition})
            for condition in ({"IfNoneMatch": "*"}, {"IfMatch": other_etag})
        )
    finally:
        client.delete_object(**address)


def _refuses(client: S3Client, arguments: dict[str, Any]) -> bool:
    """Whether the server answers 412 to a write whose condition fails."""
    try:
        client.put_object(**arguments)
    except ClientError as error:
        if status_of(error) == 412:
            return True
        if code_of(error) not in _UNSUPPORTED:
            raise
    return False


def head_object(client: S3Client, address: dict[str, Any]) -> dict[str, Any] | None:
    """Return the server's answer to a HEAD request for the object, or None where there is no object."""
    try:
        return dict(client.head_object(**address))
    except ClientError as error:
        if code_of(error) in MISSING:
            return None
        raise


def _etag_if_own_write(
    client: S3Client, address: dict[str, Any], arguments: dict[str, Any], error: ClientError
) -> str | None:
    """The stored object's etag if this process wrote it and botocore retried after a lost answer, or None."""
    current = head_object(client, address)
    retried = error.response["ResponseMetadata"].get("RetryAttempts", 0) > 0
    own_sha256 = arguments["Metadata"][SHA256_METADATA]
    if retried and current and current["Metadata"].get(SHA256_METADATA) == own_sha256:
        return str(current["ETag"])
    return None
