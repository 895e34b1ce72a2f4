"""The object store in an S3 bucket, on AWS or on another server that speaks S3."""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError

from narration.errors import Damaged, ManifestConflict
from narration.store.atomic import partial_path
from narration.store.keys import check_key, is_key
from narration.store.objects import LINK_SECONDS, ObjectInfo, StoredObject
from narration.store.s3_conditional_writes import (
    SHA256_METADATA,
    head_object,
    put_if_unchanged,
    refuses_stale_writes,
)
from narration.store.s3_errors import MISSING, code_of, translated_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STALE_UPLOAD = timedelta(days=1)  # an unfinished upload this old belongs to a writer that died

_MULTIPART = TransferConfig(
    multipart_threshold=16 << 20,
    multipart_chunksize=16 << 20,
    max_concurrency=4,
    preferred_transfer_client="classic",
)
_CHUNK_BYTES = 1 << 20
_READ_TRIES = 3  # botocore retries a request, but not the reading of its body


class S3ObjectStore:
    """Objects of `bucket` whose S3 key starts with `prefix` (without slashes at its ends; may be empty)."""

    def __init__(self, client: S3Client, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.location = f"s3://{bucket}/{prefix}".removesuffix("/")

    def get(self, key: str) -> StoredObject | None:
        """Return the object, or None; read again, then `Damaged`, when it fails its recorded SHA-256."""
        buffer = io.BytesIO()
        checked = self._read(key, buffer)
        return None if checked is None else StoredObject(buffer.getvalue(), checked[0])

    def head(self, key: str) -> ObjectInfo | None:
        """Return the object's size and time, or None."""
        with translated_errors("read", self._locate(key)):
            answer = head_object(self._client, self._address(key))
        return None if answer is None else ObjectInfo(key, answer["ContentLength"], answer["LastModified"])

    def sha256(self, key: str) -> str | None:
        """Return the SHA-256 in the object's metadata; of its bytes where another program wrote it."""
        with translated_errors("read", self._locate(key)):
            answer = head_object(self._client, self._address(key))
        if answer is None:
            return None
        if SHA256_METADATA in answer["Metadata"]:
            return str(answer["Metadata"][SHA256_METADATA])
        with TemporaryFile() as file:
            checked = self._read(key, file)
        return None if checked is None else checked[1]

    def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,
        if_match: str | None = None,
        if_none_match: bool = False,
    ) -> str:
        """Write the object and return the server's etag."""
        arguments: dict[str, Any] = {
            **self._address(key),
            "Body": data,
            "ContentType": content_type,
            "Metadata": {SHA256_METADATA: hashlib.sha256(data).hexdigest()},
        }
        with translated_errors("write", self._locate(key)):
            if if_match is None and not if_none_match:
                return self._client.put_object(**arguments)["ETag"]
            etag = put_if_unchanged(self._client, arguments, if_match)
        if etag is None:
            raise ManifestConflict(f"{self._locate(key)} changed since it was read", remedy="try again")
        return etag

    def put_file(self, key: str, path: Path, *, content_type: str) -> None:
        """Upload the file, in parts where it is large; an upload that fails is aborted."""
        with path.open("rb") as file, translated_errors("write", self._locate(key)):
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if file.tell() >= _MULTIPART.multipart_threshold:
                self._abort_stale_uploads(key)
            file.seek(0)
            self._client.upload_fileobj(
                file,
                **self._address(key),
                ExtraArgs={"ContentType": content_type, "Metadata": {SHA256_METADATA: sha256}},
                Config=_MULTIPART,
            )

    def get_file(self, key: str, path: Path) -> None:
        """Download the object, of any size, and check its SHA-256."""
        partial = partial_path(path)
        try:
            with partial.open("wb") as file:
                checked = self._read(key, file)
            if checked is None:
                raise Damaged(f"{self._locate(key)} is missing")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object below `prefix`, except those whose S3 key is not a key of the store."""
        pages = self._client.get_paginator("list_objects_v2")
        start = f"{self._prefix}{check_key(prefix.removesuffix('/'))}/"
        with translated_errors("list", self._locate(prefix)):
            for page in pages.paginate(Bucket=self._bucket, Prefix=start):
                for entry in page.get("Contents", []):
                    key = entry["Key"].removeprefix(self._prefix)
                    if is_key(key):
                        yield ObjectInfo(key, entry["Size"], entry["LastModified"])

    def delete(self, key: str) -> None:
        """Delete the object; S3 does not say whether there was one."""
        with translated_errors("delete", self._locate(key)):
            self._client.delete_object(**self._address(key))

    def link(self, key: str, *, seconds: int) -> str:
        """Return a presigned URL, valid for `seconds`, at most seven days and as long as the credentials."""
        with translated_errors("sign a link to", self._locate(key)):
            return self._client.generate_presigned_url(
                "get_object", Params=self._address(key), ExpiresIn=min(seconds, LINK_SECONDS)
            )

    def free_bytes(self) -> int | None:
        """None: a bucket does not report its free space."""
        return None

    def supports_conditional_put(self) -> bool:
        """Whether the server refuses conditional writes whose condition fails; tried on a scratch object."""
        key = f"probe-{secrets.token_hex(8)}"
        with translated_errors("write", self._locate(key)):
            return refuses_stale_writes(self._client, self._address(key))

    def _read(self, key: str, target: IO[bytes]) -> tuple[str, str] | None:
        """Write the object's bytes to `target`; return its etag and their SHA-256, or None.

        Raises `Damaged` when the bytes fail the SHA-256 in the object's metadata at every try.
        """
        with translated_errors("read", self._locate(key)):
            for tries_left in reversed(range(_READ_TRIES)):
                try:
                    answer = self._client.get_object(**self._address(key))
                except ClientError as error:
                    if code_of(error) in MISSING:
                        return None
                    raise
                target.seek(0)
                target.truncate()
                sha256 = hashlib.sha256()
                try:
                    for chunk in answer["Body"].iter_chunks(_CHUNK_BYTES):
                        sha256.update(chunk)
                        target.write(chunk)
                except BotoCoreError:
                    if tries_left:
                        continue
                    raise
                if answer["Metadata"].get(SHA256_METADATA, sha256.hexdigest()) == sha256.hexdigest():
                    return answer["ETag"], sha256.hexdigest()
        raise Damaged(f"{self._locate(key)} is not what was stored: its SHA-256 differs")

    def _abort_stale_uploads(self, key: str) -> None:
        """Free the space of uploads that a killed writer left unfinished in the folder of `key`."""
        folder = (self._prefix + key).rpartition("/")[0] + "/"
        pages = self._client.get_paginator("list_multipart_uploads")
        try:
            for page in pages.paginate(Bucket=self._bucket, Prefix=folder):
                for upload in page.get("Uploads", []):
                    if upload["Initiated"] < datetime.now(UTC) - STALE_UPLOAD:
                        self._client.abort_multipart_upload(
                            Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
        except ClientError:
            return  # these credentials may not list uploads; the bucket's lifecycle rule aborts them later

    def _address(self, key: str) -> dict[str, Any]:
        """The arguments by which boto3's methods name the object."""
        return {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}

    def _locate(self, key: str) -> str:
        return f"{self.location}/{key}"
