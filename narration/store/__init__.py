"""Everything that lasts: clips, jobs, scripts, voices and narrations, in a folder or in S3.

One key layout over two backends. A clip, once paid for, is found again by the digest of what
made it; its sidecar is written last and a clip that is missing, torn or altered does not
exist. The manifest of a narration is replaced last, and only by a writer who read the one
before. Bytes stop here: above the store travel references.

`open_store` is the way in. What the rooms of this package hold: `objects` the primitives
both backends share, `folder` and `s3` the backends, `layout` the keys, `clips`, `jobs`,
`scripts`, `samples` and `narrations` what is kept under them, `store` all of it together.
"""

from narration.store.clips import AudioClip, ClipJob, ClipQuality, ClipSidecar, RefusedAttempt
from narration.store.jobs import JobRecord
from narration.store.layout import is_slug, sample_key, validate_id
from narration.store.objects import LINK_SECONDS, ObjectInfo
from narration.store.published_files import PublishedFile
from narration.store.store import Store, open_store

__all__ = [
    "LINK_SECONDS",
    "AudioClip",
    "ClipJob",
    "ClipQuality",
    "ClipSidecar",
    "JobRecord",
    "ObjectInfo",
    "PublishedFile",
    "RefusedAttempt",
    "Store",
    "is_slug",
    "open_store",
    "sample_key",
    "validate_id",
]
