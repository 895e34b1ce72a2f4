"""Planning: what a narration needs, decided before anything is paid.

`make_plan` is the entry point. `plan` holds its input and its result, `takes` chooses the take of each
chunk and its request, `estimate` computes the price, `ids` the id to publish under; `script_source` reads
scripts, and `inbox` finds those that wait for the sweep.
"""

from narration.planning.ids import narration_slug, published_id
from narration.planning.plan import Estimate, NarrationSource, Plan, PlannedChunk, SynthesizedNarration
from narration.planning.planner import make_plan
from narration.planning.takes import RetakeRequest, retake_requests

__all__ = [
    "Estimate",
    "NarrationSource",
    "Plan",
    "PlannedChunk",
    "RetakeRequest",
    "SynthesizedNarration",
    "make_plan",
    "narration_slug",
    "published_id",
    "retake_requests",
]
