"""A finished narration becomes public: files named by content first, the manifest last.

`publishing` does it, `describing` writes the manifest's entries, `review` the page for listening,
`commands` what a person can paste from it.
"""

from narration.publishing.publisher import publish, renew_review, report_of

__all__ = [
    "publish",
    "renew_review",
    "report_of",
]
