"""boto3's errors, translated into `StoreUnavailable` and `StoreRefused` with a cause and a remedy.

Messages are made from the error's code alone, since the texts of servers and of botocore may contain
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
    "without s3:ListBucket, S3 answers 403 for every object that does not exist"
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
    "AccountProblem": ("the account is suspended", "ask the provider"),
    "InvalidAccessKeyId": ("the access key id is unknown", f"{_KEYS}, of this provider and account"),
    "SignatureDoesNotMatch": ("the secret key does not belong to the access key id", _KEYS),
    "ExpiredToken": ("the credentials have expired", "sign in again, or renew the session token"),
    "ExpiredTokenException": ("the credentials have expired", "sign in again, or renew the session token"),
    "TokenRefreshRequired": ("the credentials have expired", "sign in again, or renew the session token"),
    "InvalidToken": (
        "the session token is not valid",
        f"{_KEYS}, and AWS_SESSION_TOKEN only with temporary keys",
    ),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set the clock"),
    "PermanentRedirect": ("the bucket is in another region", _REGION),
    "TemporaryRedirect": ("the bucket is in another region", _REGION),
    "IllegalLocationConstraintException": ("the bucket is in another region", _REGION),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", _REGION),
    "QuotaExceeded": ("there is no room left", _ROOM),
    "XMinioStorageFull": ("there is no room left", _ROOM),
    "XMinioAdminBucketQuotaExceeded": ("there is no room left", _ROOM),
    "EntityTooLarge": ("the object is larger than the server accepts", "raise the server's limit"),
    "InvalidBucketName": ("the server does not accept the bucket's name", "correct NARRATION_STORE"),
    # The answer to a HEAD request has no body, so its HTTP status stands for the code.
    "301": ("the bucket is in another region", _REGION),
    "307": ("the bucket is in another region", _REGION),
    "400": ("the request was refused", "check AWS_ENDPOINT_URL, AWS_REGION and the session token"),
    "401": ("the credentials are refused", _KEYS),
    "403": ("access is denied", f"{_KEYS}; {_PERMISSIONS}"),
    "507": ("there is no room left", _ROOM),
}

MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
"""Error codes for an object that does not exist."""

_TRANSIENT_CODES = frozenset(
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
_CONNECTION_ERRORS = (
    boto.ConnectionError,
    boto.HTTPClientError,
    boto.IncompleteReadError,
    boto.MetadataRetrievalError,
)


def code_of(error: ClientError) -> str:
    """Return the server's error code, or the HTTP status where the answer has no code."""
    return str(error.response.get("Error", {}).get("Code") or status_of(error))


def status_of(error: ClientError) -> int:
    """Return the HTTP status, 0 when there was none."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


@contextmanager
def translated_errors(action: str, location: str) -> Iterator[None]:
    """Raise boto3's errors of the block as `StoreUnavailable` or `StoreRefused`, with a remedy."""
    try:
        yield
    except ClientError as error:
        raise _translate_client_error(error, f"cannot {action} {location}") from None
    except BotoCoreError as error:
        raise _translate_botocore_error(error, f"cannot {action} {location}") from None
    except RecursionError:
        # Redirected without the region's name, botocore asks for the region, is redirected again, and so on.
        reason, remedy = _REFUSALS["PermanentRedirect"]
        raise StoreRefused(f"cannot {action} {location}: {reason}", remedy=remedy) from None


def _translate_client_error(error: ClientError, subject: str) -> StoreError:
    code, status = code_of(error), status_of(error)
    if code in _REFUSALS:
        reason, remedy = _REFUSALS[code]
        region = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
        if remedy is _REGION and region and region.replace("-", "").isalnum():
            reason = f"{reason}, {region}"
        return StoreRefused(f"{subject}: {reason} ({_printable(code)})", remedy=remedy)
    if code in _TRANSIENT_CODES or status >= 500 or status == 429:
        return StoreUnavailable(
            f"{subject}: the server answered {status} {_printable(code)}", remedy="try again"
        )
    return StoreRefused(
        f"{subject}: the server answered {status} {_printable(code)}",
        remedy="check NARRATION_STORE, AWS_ENDPOINT_URL and the credentials",
    )


def _translate_botocore_error(error: BotoCoreError, subject: str) -> StoreError:
    kind = type(error).__name__
    if isinstance(error, _NO_CREDENTIALS):
        return StoreRefused(f"{subject}: no usable credentials ({kind})", remedy=_KEYS)
    if isinstance(error, boto.SSLError):
        return StoreRefused(
            f"{subject}: the server's certificate is not trusted ({kind})",
            remedy="correct AWS_ENDPOINT_URL, or name the authority's certificates in AWS_CA_BUNDLE",
        )
    if isinstance(error, _CONNECTION_ERRORS):
        return StoreUnavailable(
            f"{subject}: no answer ({kind})", remedy="check the network and AWS_ENDPOINT_URL, and try again"
        )
    return StoreRefused(f"{subject}: {kind}", remedy="check NARRATION_STORE and the AWS settings")


def _printable(code: str) -> str:
    """Return the letters and digits of a server's error code, at most 60."""
    return "".join(c for c in code if c.isascii() and c.isalnum())[:60]
