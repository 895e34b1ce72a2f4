"""Writes to S3 that happen only if nobody wrote since: the manifest's protection."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from narration.errors import StoreUnavailable
from narration.store.s3_errors import MISSING, code_of, status_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DIGEST = "sha256"
"""The metadata entry in which each object carries the SHA-256 of its bytes."""

_TRIES = 6
_UNSUPPORTED = frozenset({"NotImplemented", "501", "InvalidArgument", "InvalidRequest"})


def put_if(client: S3Client, wanted: dict[str, Any], if_match: str | None) -> str | None:
    """Put `wanted` over the object of etag `if_match`, or (None) where there is none.

    Returns the new etag, or None when the condition does not hold. `wanted` are the arguments
    of `put_object`, `DIGEST` in its metadata. The condition is compared here first, so that
    it guards a single writer also where the server knows none; between two writers only the
    server can. Raises botocore's errors, and `StoreUnavailable` when the server stays torn
    between writers.
    """
    named = {"Bucket": wanted["Bucket"], "Key": wanted["Key"]}
    current = head_object(client, named)
    if (current["ETag"] if current else None) != if_match:
        return None
    condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_match is None else {"IfMatch": if_match}
    for tried in range(_TRIES):
        try:
            return client.put_object(**wanted, **condition)["ETag"]
        except ClientError as error:
            if status_of(error) == 412 or code_of(error) in MISSING:
                return _own_write(client, named, wanted, error)
            if condition and code_of(error) in _UNSUPPORTED:
                condition = {}
            elif status_of(error) != 409:
                raise
        time.sleep(random.uniform(0, 0.1 * 2**tried))  # noqa: S311  spreads writers out, guards nothing
    raise StoreUnavailable(f"{wanted['Key']} is being written by others without end", remedy="try again")


def knows_conditions(client: S3Client, scratch: dict[str, Any]) -> bool:
    """Whether the server holds to both conditions, tried on an object named by `scratch`."""
    another = '"00000000000000000000000000000000"'
    try:
        client.put_object(**scratch, Body=b"")
        return all(
            _refuses(client, {**scratch, "Body": b"", **condition})
            for condition in ({"IfNoneMatch": "*"}, {"IfMatch": another})
        )
    finally:
        client.delete_object(**scratch)


def _refuses(client: S3Client, asked: dict[str, Any]) -> bool:
    """Whether the server sees that the condition of a write does not hold."""
    try:
        client.put_object(**asked)
    except ClientError as error:
        if status_of(error) == 412:
            return True
        if code_of(error) not in _UNSUPPORTED:
            raise
    return False


def head_object(client: S3Client, named: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the server tells of an object, or None."""
    try:
        return dict(client.head_object(**named))
    except ClientError as error:
        if code_of(error) in MISSING:
            return None
        raise


def _own_write(
    client: S3Client, named: dict[str, Any], wanted: dict[str, Any], error: ClientError
) -> str | None:
    """Tell a lost race from our own write whose answer was lost, so that botocore sent it again."""
    current = head_object(client, named)
    retried = error.response["ResponseMetadata"].get("RetryAttempts", 0) > 0
    if retried and current and current["Metadata"].get(DIGEST) == wanted["Metadata"][DIGEST]:
        return str(current["ETag"])
    return None
