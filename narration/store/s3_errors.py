"""What boto3 raises, as what it means to a person: try again, or mend this.

Messages are made here from the error's code alone: what servers and botocore say may hold
key ids, tokens or signed URLs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError

from narration.errors import StoreError, StoreRefused, StoreUnavailable

_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_PERMISSIONS = (
    "allow these keys s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there; "
    "without the last, S3 calls every object that is not there yet forbidden"
)
_REGION = "set AWS_REGION to the bucket's region"
_ROOM = "free some, raise the quota, or set NARRATION_STORE to another bucket"

_REFUSALS: dict[str, tuple[str, str]] = {
    "NoSuchBucket": (
        "the bucket does not exist",
        "create it, or correct NARRATION_STORE or AWS_ENDPOINT_URL",
    ),
    "AccessDenied": ("access is denied", _PERMISSIONS),
    "AllAccessDisabled": ("access is denied", _PERMISSIONS),
    "AccountProblem": ("the account is suspended", "settle it with the provider"),
    "InvalidAccessKeyId": ("the access key id is unknown", f"{_KEYS}, of this provider and account"),
    "SignatureDoesNotMatch": ("the secret key does not belong to the access key id", _KEYS),
    "ExpiredToken": ("the credentials have expired", "sign in again, or renew the session token"),
    "ExpiredTokenException": ("the credentials have expired", "sign in again, or renew the session token"),
    "TokenRefreshRequired": ("the credentials have expired", "sign in again, or renew the session token"),
    "InvalidToken": (
        "the session token is not valid",
        f"{_KEYS}, and AWS_SESSION_TOKEN only with temporary ones",
    ),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set the clock"),
    "PermanentRedirect": ("the bucket is in another region", _REGION),
    "TemporaryRedirect": ("the bucket is in another region", _REGION),
    "IllegalLocationConstraintException": ("the bucket is in another region", _REGION),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", _REGION),
    "QuotaExceeded": ("there is no room left", _ROOM),
    "XMinioStorageFull": ("there is no room left", _ROOM),
    "XMinioAdminBucketQuotaExceeded": ("there is no room left", _ROOM),
    "EntityTooLarge": ("the object is larger than the server takes", "raise its limit"),
    "InvalidBucketName": ("the server takes no bucket of that name", "correct NARRATION_STORE"),
    # A HEAD answer has no body and so no code but its status.
    "301": ("the bucket is in another region", _REGION),
    "307": ("the bucket is in another region", _REGION),
    "400": ("the request was refused", "check AWS_ENDPOINT_URL, AWS_REGION and the session token"),
    "401": ("the credentials are refused", _KEYS),
    "403": ("access is denied", f"{_KEYS}; {_PERMISSIONS}"),
    "507": ("there is no room left", _ROOM),
}

MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
"""Codes by which a server says that there is no such object."""

_PASSING_CODES = frozenset(
    {
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
    }
)

_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.LoginError,
)
_CONNECTION = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.MetadataRetrievalError,
)


def code_of(error: ClientError) -> str:
    """Return the server's error code, or the HTTP status where it gave none."""
    return str(error.response.get("Error", {}).get("Code") or status_of(error))


def status_of(error: ClientError) -> int:
    """Return the HTTP status, 0 when there was none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


@contextmanager
def explained(action: str, location: str) -> Iterator[None]:
    """Raise what boto3 raises inside as `StoreUnavailable` or `StoreRefused`, with a remedy."""
    try:
        yield
    except ClientError as error:
        raise _explain_answer(error, f"cannot {action} {location}") from None
    except BotoCoreError as error:
        raise _explain_trouble(error, f"cannot {action} {location}") from None
    except RecursionError:
        # Redirected without being told the region, botocore asks for it, is redirected, asks for it...
        reason, remedy = _REFUSALS["PermanentRedirect"]
        raise StoreRefused(f"cannot {action} {location}: {reason}", remedy=remedy) from None


def _explain_answer(error: ClientError, subject: str) -> StoreError:
    code, status = code_of(error), status_of(error)
    if code in _REFUSALS:
        reason, remedy = _REFUSALS[code]
        region = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
        if remedy is _REGION and region and region.replace("-", "").isalnum():
            reason = f"{reason}, {region}"
        return StoreRefused(f"{subject}: {reason} ({_plain(code)})", remedy=remedy)
    if code in _PASSING_CODES or status >= 500 or status == 429:
        return StoreUnavailable(f"{subject}: the server answered {status} {_plain(code)}", remedy="try again")
    return StoreRefused(
        f"{subject}: the server answered {status} {_plain(code)}",
        remedy="check NARRATION_STORE, AWS_ENDPOINT_URL and the credentials",
    )


def _explain_trouble(error: BotoCoreError, subject: str) -> StoreError:
    kind = type(error).__name__
    if isinstance(error, _NO_CREDENTIALS):
        return StoreRefused(f"{subject}: no usable credentials ({kind})", remedy=_KEYS)
    if isinstance(error, boto.SSLError):
        return StoreRefused(
            f"{subject}: the server's certificate is not trusted ({kind})",
            remedy="correct AWS_ENDPOINT_URL, or name the authority's certificates in AWS_CA_BUNDLE",
        )
    if isinstance(error, _CONNECTION):
        return StoreUnavailable(
            f"{subject}: no answer ({kind})", remedy="check the network and AWS_ENDPOINT_URL, and try again"
        )
    return StoreRefused(f"{subject}: {kind}", remedy="check NARRATION_STORE and the AWS settings")


def _plain(code: str) -> str:
    """Return a server's code fit for a log line."""
    return "".join(c for c in code if c.isascii() and c.isalnum())[:60]
