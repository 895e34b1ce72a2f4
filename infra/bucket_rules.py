"""The settings that a bucket needs to be the store: no public access, lifecycle rules, a CORS rule.

All of them are plain documents of the S3 API; `s3_bucket` compares them with the bucket's and sets them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

UPLOADS_RULE = "narration-abandoned-uploads"  # followed by the prefix: a bucket may hold several stores
PROBES_RULE = "narration-probes"
LINKS_RULE = "narration-links"
PROBE_PREFIX = "probe-"  # of the objects that the store writes and deletes to test a bucket

Rule = dict[str, Any]


def public_access_block() -> Rule:
    """Blocks every way of making objects public: the store shares objects by links that expire."""
    return dict.fromkeys(
        ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
    )


def lifecycle_rules(prefix: str, *, is_minio: bool) -> list[Rule]:
    """Delete, after a day, parts of uploads and probes that a killed writer left; nothing else expires."""
    probes = _lifecycle_rule(PROBES_RULE, prefix, PROBE_PREFIX, {"Expiration": {"Days": 1}})
    uploads = _lifecycle_rule(
        UPLOADS_RULE, prefix, "", {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}}
    )
    # MinIO deletes abandoned uploads after a day by itself, and refuses the rule for it.
    return [probes] if is_minio else [uploads, probes]


def cors_rule(origins: Sequence[str]) -> Rule:
    """Lets pages of `origins` play and seek audio by a presigned link."""
    return {
        "ID": LINKS_RULE,
        "AllowedMethods": ["GET", "HEAD"],
        "AllowedOrigins": list(origins),
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["Accept-Ranges", "Content-Length", "Content-Range", "ETag"],
        "MaxAgeSeconds": 3600,
    }


def describe_danger(rule: Rule, prefix: str) -> str | None:
    """The warning for a lifecycle rule that would delete objects of the store, None for any other rule."""
    if rule.get("ID", "").startswith(PROBES_RULE) or rule["Status"] != "Enabled":
        return None
    if not {"Days", "Date"} & set(rule.get("Expiration", {})):
        return None
    scope = _scope(rule)
    if not (scope.startswith(prefix) or prefix.startswith(scope)):
        return None
    return (
        f"lifecycle rule {rule.get('ID', '(unnamed)')!r} deletes objects below {scope or '/'!r}: "
        "clips and narrations would have to be made and paid for again"
    )


def by_id(rules: Iterable[Rule]) -> Rule:
    """The rules without their ids, by id."""
    return {rule["ID"]: {key: value for key, value in rule.items() if key != "ID"} for rule in rules}


def _lifecycle_rule(name: str, prefix: str, key: str, action: Rule) -> Rule:
    return {
        "ID": f"{name} {prefix}".strip(),
        "Filter": {"Prefix": prefix + key},
        "Status": "Enabled",
        **action,
    }


def _scope(rule: Rule) -> str:
    """The prefix of the keys to which a lifecycle rule applies, in any of its three spellings."""
    selection = rule.get("Filter", {})
    return str(selection.get("Prefix", selection.get("And", {}).get("Prefix", rule.get("Prefix", ""))))
