"""An S3 bucket, or one that speaks S3 like it, as a place for objects."""

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
from narration.store.atomic import partial_beside
from narration.store.objects import LINK_SECONDS, ObjectInfo, StoredObject, check_key, is_key
from narration.store.s3_conditions import DIGEST, head_object, knows_conditions, put_if
from narration.store.s3_errors import MISSING, code_of, explained

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STALE_UPLOAD = timedelta(days=1)  # after which an unfinished upload has no writer any more

_MULTIPART = TransferConfig(
    multipart_threshold=16 << 20,
    multipart_chunksize=16 << 20,
    max_concurrency=4,
    preferred_transfer_client="classic",
)
_CHUNK = 1 << 20
_READ_TRIES = 3  # botocore tries a request again, but not the reading of its body


class S3Objects:
    """Objects below `prefix` (no slash at its ends, may be empty) of a bucket."""

    def __init__(self, client: S3Client, bucket: str, prefix: str) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.location = f"s3://{bucket}/{prefix}".removesuffix("/")

    def get(self, key: str) -> StoredObject | None:
        """Return the object, or None; read again, then `Damaged`, when its SHA-256 is not as recorded."""
        buffer = io.BytesIO()
        found = self._read(key, buffer)
        return None if found is None else StoredObject(buffer.getvalue(), found[0])

    def head(self, key: str) -> ObjectInfo | None:
        """Return what is known of the object, or None."""
        with explained("read", self._where(key)):
            answer = head_object(self._client, self._named(key))
        return None if answer is None else ObjectInfo(key, answer["ContentLength"], answer["LastModified"])

    def sha256(self, key: str) -> str | None:
        """Return the SHA-256 recorded with the object; where something else wrote it, of its bytes."""
        with explained("read", self._where(key)):
            answer = head_object(self._client, self._named(key))
        if answer is None:
            return None
        if DIGEST in answer["Metadata"]:
            return str(answer["Metadata"][DIGEST])
        with TemporaryFile() as file:
            found = self._read(key, file)
        return None if found is None else found[1]

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
        wanted: dict[str, Any] = {
            **self._named(key),
            "Body": data,
            "ContentType": content_type,
            "Metadata": {DIGEST: hashlib.sha256(data).hexdigest()},
        }
        with explained("write", self._where(key)):
            if if_match is None and not if_none_match:
                return self._client.put_object(**wanted)["ETag"]
            etag = put_if(self._client, wanted, if_match)
        if etag is None:
            raise ManifestConflict(f"{self._where(key)} changed since it was read", remedy="try again")
        return etag

    def put_file(self, key: str, path: Path, *, content_type: str) -> None:
        """Upload the file, in parts where it is large; an upload that fails is aborted."""
        with path.open("rb") as file, explained("write", self._where(key)):
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if file.tell() >= _MULTIPART.multipart_threshold:
                self._abort_stale_uploads(key)
            file.seek(0)
            self._client.upload_fileobj(
                file,
                **self._named(key),
                ExtraArgs={"ContentType": content_type, "Metadata": {DIGEST: digest}},
                Config=_MULTIPART,
            )

    def get_file(self, key: str, path: Path) -> None:
        """Download the object, of any size, and check its SHA-256."""
        partial = partial_beside(path)
        try:
            with partial.open("wb") as file:
                found = self._read(key, file)
            if found is None:
                raise Damaged(f"{self._where(key)} is missing")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object below `prefix` that a key can name."""
        pages = self._client.get_paginator("list_objects_v2")
        start = f"{self._prefix}{check_key(prefix.removesuffix('/'))}/"
        with explained("list", self._where(prefix)):
            for page in pages.paginate(Bucket=self._bucket, Prefix=start):
                for entry in page.get("Contents", []):
                    key = entry["Key"].removeprefix(self._prefix)
                    if is_key(key):
                        yield ObjectInfo(key, entry["Size"], entry["LastModified"])

    def delete(self, key: str) -> None:
        """Delete the object; S3 does not say whether there was one."""
        with explained("delete", self._where(key)):
            self._client.delete_object(**self._named(key))

    def link(self, key: str, *, seconds: int) -> str:
        """Return a presigned URL: good for `seconds`, seven days at most, never beyond the credentials."""
        with explained("sign a link to", self._where(key)):
            return self._client.generate_presigned_url(
                "get_object", Params=self._named(key), ExpiresIn=min(seconds, LINK_SECONDS)
            )

    def free_bytes(self) -> int | None:
        """Buckets do not say."""
        return None

    def supports_conditional_put(self) -> bool:
        """Whether the server knows conditions; asks it with a scratch object."""
        key = f"probe-{secrets.token_hex(8)}"
        with explained("write", self._where(key)):
            return knows_conditions(self._client, self._named(key))

    def _read(self, key: str, into: IO[bytes]) -> tuple[str, str] | None:
        """Write the object's bytes to `into`; its etag and their SHA-256, or None. `Damaged` if altered."""
        with explained("read", self._where(key)):
            for left in reversed(range(_READ_TRIES)):
                try:
                    answer = self._client.get_object(**self._named(key))
                except ClientError as error:
                    if code_of(error) in MISSING:
                        return None
                    raise
                into.seek(0)
                into.truncate()
                digest = hashlib.sha256()
                try:
                    for chunk in answer["Body"].iter_chunks(_CHUNK):
                        digest.update(chunk)
                        into.write(chunk)
                except BotoCoreError:
                    if left:
                        continue
                    raise
                if answer["Metadata"].get(DIGEST, digest.hexdigest()) == digest.hexdigest():
                    return answer["ETag"], digest.hexdigest()
        raise Damaged(f"{self._where(key)} is not what was stored: its SHA-256 differs")

    def _abort_stale_uploads(self, key: str) -> None:
        """Give back the room of uploads beside `key` that a killed writer left unfinished."""
        beside = (self._prefix + key).rpartition("/")[0] + "/"
        pages = self._client.get_paginator("list_multipart_uploads")
        try:
            for page in pages.paginate(Bucket=self._bucket, Prefix=beside):
                for upload in page.get("Uploads", []):
                    if upload["Initiated"] < datetime.now(UTC) - STALE_UPLOAD:
                        self._client.abort_multipart_upload(
                            Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
        except ClientError:
            return  # not every key may list uploads; a lifecycle rule of the bucket does the same, later

    def _named(self, key: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": self._prefix + check_key(key)}

    def _where(self, key: str) -> str:
        return f"{self.location}/{key}"
