"""Makes an S3 bucket fit to be the store: private, rid of what writers left behind, its links playable.

`python -m infra.s3_bucket [--store s3://BUCKET/PREFIX] [--dry-run]` shows what differs and makes it
so; run again, it changes nothing. Rules of others in the bucket stay as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from infra.plan import ProvisioningChange, apply_changes, compare, flatten, run_script
from narration.errors import SettingsError
from narration.settings import read_settings
from narration.store import open_store
from narration.store.s3_client import s3_client
from narration.store.s3_errors import code_of, translated_errors

UPLOADS_RULE = "narration-abandoned-uploads"  # followed by the prefix: a bucket may hold several stores
PROBES_RULE = "narration-probes"
LINKS_RULE = "narration-links"
PROBE_PREFIX = "probe-"  # of the scratch objects by which the store tests a bucket

_NO_BUCKET = frozenset({"404", "NoSuchBucket", "NotFound"})
_NOTHING_YET = frozenset(
    {
        "NoSuchBucket",
        "NoSuchCORSConfiguration",
        "NoSuchLifecycleConfiguration",
        "NoSuchPublicAccessBlockConfiguration",
    }
)
_NOT_OFFERED = frozenset({"MethodNotAllowed", "NotImplemented", "405", "501"})

Rule = dict[str, Any]


class Bucket:
    """One bucket and the part of it below `prefix` (empty, or ending in a slash) that is the store's."""

    def __init__(self, url: str, *, origins: Sequence[str] = ("*",)) -> None:
        location = open_store(url).location
        if not location.startswith("s3://"):
            raise SettingsError(
                f"{location} is a folder, not a bucket", remedy="set NARRATION_STORE to s3://BUCKET/PREFIX"
            )
        self.name, _, prefix = location.removeprefix("s3://").partition("/")
        self.prefix = f"{prefix}/" if prefix else ""
        self._origins = list(origins)
        self._client = s3_client()
        self._is_minio = False

    def plan(self) -> list[ProvisioningChange]:
        """What differs in the bucket from what the store needs, in the order to apply it."""
        with translated_errors("look at", self.name):
            exists = self._exists()
            return [
                ProvisioningChange(f"bucket {self.name}", exists, (), self._create),
                *self._private(),
                *self._lifecycle(),
                *self._links(),
            ]

    def warnings(self) -> list[str]:
        """Rules of others that would delete what was paid for, in words."""
        with translated_errors("look at", self.name):
            rules = self._read(self._client.get_bucket_lifecycle_configuration, "Rules") or []
        return [
            f"lifecycle rule {rule.get('ID', '(unnamed)')!r} deletes objects below {_scope(rule) or '/'!r}: "
            "clips and narrations would have to be made and paid for again"
            for rule in rules
            if not rule.get("ID", "").startswith(PROBES_RULE)
            and rule["Status"] == "Enabled"
            and {"Days", "Date"} & set(rule.get("Expiration", {}))
            and (_scope(rule).startswith(self.prefix) or self.prefix.startswith(_scope(rule)))
        ]

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
        # us-east-1 is the one region that S3 does not want named.
        where: Any = (
            {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        )
        with translated_errors("create", self.name):
            self._client.create_bucket(Bucket=self.name, **where)

    def _private(self) -> list[ProvisioningChange]:
        """No object may become public: what is shared is shared by links that expire."""
        block = dict.fromkeys(
            ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
        )
        present = self._read(self._client.get_public_access_block, "PublicAccessBlockConfiguration")
        save = partial(
            self._client.put_public_access_block,
            Bucket=self.name,
            PublicAccessBlockConfiguration=block,  # type: ignore[arg-type]  # the keys are those it knows
        )
        return self._change("block of public access", present, block, save)

    def _lifecycle(self) -> list[ProvisioningChange]:
        """Parts of uploads and probes that a killed writer left go after a day; nothing else ever does."""
        probes = self._rule(PROBES_RULE, PROBE_PREFIX, {"Expiration": {"Days": 1}})
        uploads = self._rule(UPLOADS_RULE, "", {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}})
        # MinIO drops abandoned uploads by itself after a day and refuses the rule that says so.
        wanted = [probes] if self._is_minio else [uploads, probes]
        return self._rules(
            "lifecycle",
            self._read(self._client.get_bucket_lifecycle_configuration, "Rules"),
            wanted,
            lambda rules: self._client.put_bucket_lifecycle_configuration(
                Bucket=self.name, LifecycleConfiguration={"Rules": rules}
            ),
        )

    def _rule(self, name: str, key: str, action: Rule) -> Rule:
        return {
            "ID": f"{name} {self.prefix}".strip(),
            "Filter": {"Prefix": self.prefix + key},
            "Status": "Enabled",
            **action,
        }

    def _links(self) -> list[ProvisioningChange]:
        """A page elsewhere may play and seek what a presigned link gives it."""
        if self._is_minio:  # allows every origin by a setting of the server, and refuses bucket rules
            return []
        wanted = {
            "ID": LINKS_RULE,
            "AllowedMethods": ["GET", "HEAD"],
            "AllowedOrigins": self._origins,
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["Accept-Ranges", "Content-Length", "Content-Range", "ETag"],
            "MaxAgeSeconds": 3600,
        }
        return self._rules(
            "CORS",
            self._read(self._client.get_bucket_cors, "CORSRules"),
            [wanted],
            lambda rules: self._client.put_bucket_cors(
                Bucket=self.name, CORSConfiguration={"CORSRules": rules}
            ),
        )

    def _rules(
        self,
        what: str,
        present: list[Rule] | None,
        wanted: list[Rule],
        save: Callable[[list[Any]], object],
    ) -> list[ProvisioningChange]:
        """Our rules of one kind, by id; `present` None where the server has no such thing."""
        ours = {rule["ID"] for rule in wanted}
        others = [rule for rule in present or [] if rule.get("ID") not in ours]
        return self._change(
            f"{what} rules",
            None if present is None else _by_id(rule for rule in present if rule.get("ID") in ours),
            _by_id(wanted),
            lambda: save(others + wanted),
        )

    def _change(
        self, what: str, present: Rule | None, wanted: Rule, save: Callable[[], object]
    ) -> list[ProvisioningChange]:
        if present is None:
            sys.stderr.write(f"note: this server has no {what}; nothing to set\n")
            return []
        known = flatten(present)
        apply = partial(self._save, what, save)
        return [
            ProvisioningChange(f"{what} of {self.name}", bool(known), compare(known, flatten(wanted)), apply)
        ]

    def _save(self, what: str, save: Callable[[], object]) -> None:
        with translated_errors(f"set the {what} of", self.name):
            try:
                save()
            except ClientError as error:
                if code_of(error) not in _NOT_OFFERED:
                    raise
                sys.stderr.write(f"note: this server has no {what}; left unset\n")

    def _read(self, get: Callable[..., Mapping[str, Any]], field: str) -> Any:
        """A part of the bucket's configuration; empty if unset, None where the server has no such thing."""
        try:
            return get(Bucket=self.name)[field]
        except ClientError as error:
            if code_of(error) in _NOTHING_YET:
                return {} if field == "PublicAccessBlockConfiguration" else []
            if code_of(error) in _NOT_OFFERED:
                return None
            raise


def _by_id(rules: Iterable[Rule]) -> Rule:
    return {rule["ID"]: {key: value for key, value in rule.items() if key != "ID"} for rule in rules}


def _scope(rule: Rule) -> str:
    """The prefix of the keys that a lifecycle rule is about, however it is spelled."""
    chosen = rule.get("Filter", {})
    return str(chosen.get("Prefix", chosen.get("And", {}).get("Prefix", rule.get("Prefix", ""))))


def _run(arguments: argparse.Namespace) -> None:
    bucket = Bucket(read_settings(store=arguments.store).store, origins=arguments.origin or ("*",))
    plan = bucket.plan()
    for warning in bucket.warnings():
        sys.stderr.write(f"warning: {warning}\n")
    apply_changes(plan, dry_run=arguments.dry_run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse `arguments`, set the bucket up; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.s3_bucket",
        description="Create the bucket of NARRATION_STORE if need be and set it up: no public access, "
        "abandoned uploads and probes removed after a day, nothing else ever deleted, links playable "
        "from other pages. Credentials, region and AWS_ENDPOINT_URL as boto3 finds them. Run again, it "
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
    chosen = parser.parse_args(arguments)
    return run_script(lambda: _run(chosen))


if __name__ == "__main__":
    sys.exit(main())
