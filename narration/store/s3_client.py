"""The boto3 client for S3, with timeouts, retries and settings that servers other than AWS need."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from narration.errors import SettingsError
from narration.store.objects import PARALLEL_REQUESTS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECT_SECONDS = 5
READ_SECONDS = 30  # without a byte of an answer
ATTEMPTS = 5  # of one request, with backoff between them, on 5xx, throttling and connection errors


def s3_client() -> S3Client:
    """Return a client that threads may share; makes no request.

    boto3 reads credentials, region (`AWS_REGION`) and endpoint (`AWS_ENDPOINT_URL`) from the environment,
    the AWS files or the machine's role. At an endpoint other than AWS, buckets are addressed by path.
    Raises `SettingsError` for settings that boto3 cannot read.
    """
    config = Config(
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=PARALLEL_REQUESTS + 16,
        signature_version="s3v4",
        # Several servers other than AWS refuse the newer checksums that are boto3's default. The request's
        # signature protects an upload, the SHA-256 in the object's metadata protects a download.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        tcp_keepalive=True,
    )
    try:
        session = boto3.session.Session()
        # Of Amazon's SDKs, boto3 is the only one that does not read AWS_REGION.
        region = os.environ.get("AWS_REGION") or session.region_name or "us-east-1"
        client: S3Client = session.client("s3", config=config, region_name=region)
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(
            f"the AWS settings cannot be used: {type(error).__name__}",
            remedy="check AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL and the AWS files",
        ) from None
    return client
