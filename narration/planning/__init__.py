"""What a narration needs, decided before anything is paid: requests, identities, clips, price.

`make_plan` is the way in. `plan` holds what comes out, `takes` decides what each chunk asks of
the worker, `estimate` says what that will take, `ids` under which id it is published.
"""

from narration.planning.ids import narration_slug, published_id
from narration.planning.plan import Estimate, Plan, PlannedChunk
from narration.planning.planner import make_plan
from narration.planning.takes import RetakeRequest, retake_requests

__all__ = [
    "Estimate",
    "Plan",
    "PlannedChunk",
    "RetakeRequest",
    "make_plan",
    "narration_slug",
    "published_id",
    "retake_requests",
]
