"""Publishing a rendered narration in the store: its files first, the manifest last.

- `publisher` stores the files and replaces the manifest; it also renews a review page.
- `manifest_builder` makes the manifest of a rendered narration.
- `review` makes the review page, from the template `review.html.j2`.
- `retake_command` makes the shell commands that the page and the run's summary show.
"""

from narration.publishing.publisher import publish, renew_review, report_of

__all__ = [
    "publish",
    "renew_review",
    "report_of",
]
