"""The store of clips, jobs, scripts, voices and narrations, in a folder or in S3.

`open_store(url)` returns a `Store`, which has one collection for each kind of stored thing:
`store.clips`, `store.jobs`, `store.scripts`, `store.script_failures`, `store.voices`,
`store.manifests`, `store.files` (published files), `store.holds` and `store.all_objects`.
A function takes the one collection it uses, or the `Store` where it uses several.

A clip is stored under the digest of its request and found by it again, so that it is never
paid for twice. Its sidecar is written last; a clip that is missing, truncated or altered does not
count as stored. A manifest is replaced only by a writer who read the version before.

Modules: `store` and `opening`; one module for each collection, with `collection` for what they
share and `clip_sidecar` beside `clips`; `layout` and `keys` for the keys; `objects`, the protocol of
an object store, with its two implementations, `folder` (`atomic`, `lock`) and `s3` (`s3_client`,
`s3_conditional_writes`, `s3_errors`).
"""

from narration.store.all_objects import AllObjects
from narration.store.clip_holds import HoldCollection
from narration.store.clip_sidecar import ClipJob, ClipQuality, ClipSidecar, RefusedAttempt
from narration.store.clips import AudioClip, ClipCollection
from narration.store.jobs import JobCollection, JobRecord
from narration.store.layout import is_slug, sample_key, validate_id
from narration.store.manifests import ManifestCollection
from narration.store.objects import LINK_SECONDS, ObjectInfo, ObjectStore, StoredObject
from narration.store.opening import open_objects, open_store
from narration.store.published_files import PublishedFile, PublishedFileCollection
from narration.store.script_failures import ScriptFailureCollection
from narration.store.scripts import ScriptCollection
from narration.store.store import Store
from narration.store.voices import VoiceCollection

__all__ = [
    "LINK_SECONDS",
    "AllObjects",
    "AudioClip",
    "ClipCollection",
    "ClipJob",
    "ClipQuality",
    "ClipSidecar",
    "HoldCollection",
    "JobCollection",
    "JobRecord",
    "ManifestCollection",
    "ObjectInfo",
    "ObjectStore",
    "PublishedFile",
    "PublishedFileCollection",
    "RefusedAttempt",
    "ScriptCollection",
    "ScriptFailureCollection",
    "Store",
    "StoredObject",
    "VoiceCollection",
    "is_slug",
    "open_objects",
    "open_store",
    "sample_key",
    "validate_id",
]
