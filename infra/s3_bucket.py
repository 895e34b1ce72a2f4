"""Sets up an S3 bucket to be the store: private, without what writers left behind, its links playable.

`python -m infra.s3_bucket [--store s3://BUCKET/PREFIX] [--dry-run]` shows what differs and changes it;
run again, it changes nothing. Other rules in the bucket are left as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from infra.bucket_rules import Rule, by_id, cors_rule, describe_danger, lifecycle_rules, public_access_block
from infra.provisioning import ProvisioningChange, apply_changes, compare, flatten, run_script
from narration.errors import SettingsError
from narration.settings import read_settings
from narration.store import open_store
from narration.store.s3_client import s3_client
from narration.store.s3_errors import code_of, translated_errors

_NO_BUCKET = frozenset({"404", "NoSuchBucket", "NotFound"})
_NOT_SET = frozenset(
    {
        "NoSuchBucket",
        "NoSuchCORSConfiguration",
        "NoSuchLifecycleConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
    }
)
_NOT_SUPPORTED = frozenset({"MethodNotAllowed", "NotImplemented", "405", "501"})


class Bucket:
    """One bucket, and the store's `prefix` in it (empty, or ending in a slash)."""

    def __init__(self, url: str, *, origins: Sequence[str] = ("*",)) -> None:
        location = open_store(url).location
        if not location.startswith("s3://"):
            raise SettingsError(
                f"{location} is a folder, not a bucket", remedy="set NARRATION_STORE to s3://BUCKET/PREFIX"
            )
        self.name, _, prefix = location.removeprefix("s3://").partition("/")
        self.prefix = f"{prefix}/" if prefix else ""
        self._origins = origins
        self._client = s3_client()
        self._is_minio = False

    def changes(self) -> list[ProvisioningChange]:
        """The changes that make the bucket fit to be the store, in the order to apply them."""
        with translated_errors("look at", self.name):
            exists = self._exists()
            return [
                ProvisioningChange(f"bucket {self.name}", exists, (), self._create),
                *self._public_access_changes(),
                *self._lifecycle_changes(),
                *self._cors_changes(),
            ]

    def warnings(self) -> list[str]:
        """Warnings of lifecycle rules that would delete objects of the store."""
        with translated_errors("look at", self.name):
            rules = self._read(self._client.get_bucket_lifecycle_configuration, "Rules") or []
        return [warning for rule in rules if (warning := describe_danger(rule, self.prefix)) is not None]

    def _exists(self) -> bool:
        exists = True
        try:
            metadata: Mapping[str, Any] = self._client.head_bucket(Bucket=self.name)["ResponseMetadata"]
        except ClientError as error:
            if code_of(error) not in _NO_BUCKET:
                raise
            exists, metadata = False, error.response["ResponseMetadata"]
        self._is_minio = metadata["HTTPHeaders"].get("server") == "MinIO"
        return exists

    def _create(self) -> None:
        region = self._client.meta.region_name
        # S3 refuses us-east-1, its default, as a location constraint.
        location: Any = (
            {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        )
        with translated_errors("create", self.name):
            self._client.create_bucket(Bucket=self.name, **location)

    def _public_access_changes(self) -> list[ProvisioningChange]:
        desired = public_access_block()
        return self._change(
            "block of public access",
            self._read(self._client.get_public_access_block, "PublicAccessBlockConfiguration"),
            desired,
            partial(
                self._client.put_public_access_block,
                Bucket=self.name,
                PublicAccessBlockConfiguration=desired,  # type: ignore[arg-type]  # the keys are those it knows
            ),
        )

    def _lifecycle_changes(self) -> list[ProvisioningChange]:
        return self._rule_changes(
            "lifecycle",
            self._read(self._client.get_bucket_lifecycle_configuration, "Rules"),
            lifecycle_rules(self.prefix, is_minio=self._is_minio),
            lambda rules: self._client.put_bucket_lifecycle_configuration(
                Bucket=self.name, LifecycleConfiguration={"Rules": rules}
            ),
        )

    def _cors_changes(self) -> list[ProvisioningChange]:
        if self._is_minio:  # allows every origin by a setting of the server, and refuses bucket rules
            return []
        return self._rule_changes(
            "CORS",
            self._read(self._client.get_bucket_cors, "CORSRules"),
            [cors_rule(self._origins)],
            lambda rules: self._client.put_bucket_cors(
                Bucket=self.name, CORSConfiguration={"CORSRules": rules}
            ),
        )

    def _rule_changes(
        self,
        kind: str,
        actual: list[Rule] | None,
        desired: list[Rule],
        save: Callable[[list[Any]], object],
    ) -> list[ProvisioningChange]:
        """The change of this project's rules of one kind, by id; `save` is given others' rules too."""
        own_ids = {rule["ID"] for rule in desired}
        others = [rule for rule in actual or [] if rule.get("ID") not in own_ids]
        return self._change(
            f"{kind} rules",
            None if actual is None else by_id(rule for rule in actual if rule.get("ID") in own_ids),
            by_id(desired),
            lambda: save(others + desired),
        )

    def _change(
        self, setting: str, actual: Rule | None, desired: Rule, save: Callable[[], object]
    ) -> list[ProvisioningChange]:
        """The change of one setting; none if `actual` is None, since the server does not support it."""
        if actual is None:
            sys.stderr.write(f"note: this server has no {setting}; nothing to set\n")
            return []
        settings = flatten(actual)
        return [
            ProvisioningChange(
                f"{setting} of {self.name}",
                bool(settings),
                compare(settings, flatten(desired)),
                partial(self._save, setting, save),
            )
        ]

    def _save(self, setting: str, save: Callable[[], object]) -> None:
        with translated_errors(f"set the {setting} of", self.name):
            try:
                save()
            except ClientError as error:
                if code_of(error) not in _NOT_SUPPORTED:
                    raise
                sys.stderr.write(f"note: this server has no {setting}; left unset\n")

    def _read(self, get: Callable[..., Mapping[str, Any]], field: str) -> Any:
        """A field of the bucket's configuration: empty if not set, None if the server does not support it."""
        try:
            return get(Bucket=self.name)[field]
        except ClientError as error:
            if code_of(error) in _NOT_SET:
                return {} if field == "PublicAccessBlockConfiguration" else []
            if code_of(error) in _NOT_SUPPORTED:
                return None
            raise


def _run(arguments: argparse.Namespace) -> None:
    bucket = Bucket(read_settings(store=arguments.store).store, origins=arguments.origin or ("*",))
    changes = bucket.changes()
    for warning in bucket.warnings():
        sys.stderr.write(f"warning: {warning}\n")
    apply_changes(changes, dry_run=arguments.dry_run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse `arguments` and set up the bucket; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.s3_bucket",
        description="Create the bucket of NARRATION_STORE if it does not exist, and set it up: no public "
        "access, abandoned uploads and probes deleted after a day, nothing else ever deleted, links playable "
        "from other pages. Credentials, region and AWS_ENDPOINT_URL are those of boto3. Run again, it "
        "changes nothing.",
    )
    parser.add_argument("--store", metavar="URL", help="s3://BUCKET/PREFIX instead of NARRATION_STORE")
    parser.add_argument(
        "--origin",
        action="append",
        metavar="URL",
        help="a web page's origin that may play links, such as https://example.org; may be repeated "
        "(default: any, since a link carries its own permission)",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would change and change nothing")
    parsed = parser.parse_args(arguments)
    return run_script(lambda: _run(parsed))


if __name__ == "__main__":
    sys.exit(main())
