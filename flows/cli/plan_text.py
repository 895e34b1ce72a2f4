"""What `narrate plan` shows a person: a table of chunks, and totals with the inputs of the price."""

from __future__ import annotations

from narration.display_units import clock, count, dollars
from narration.escaping import single_line
from narration.planning import Plan

DRAFT_NOTICE = "This is the draft voice (espeak-ng): for hearing the timing, not for publishing."

LABEL = 11  # columns of a total's label
DROPPED_CHARACTERS = 60  # of a text that a choice was made for


def chunk_rows(plan: Plan) -> list[tuple[str, ...]]:
    """A heading and a row for each chunk: number, cached or new, characters, pause after it, text."""
    return [
        ("#", "", "chars", "pause", "text"),
        *(
            (
                str(planned.chunk.index),
                "cached" if planned.clip else "new",
                str(len(planned.text)),
                planned.chunk.boundary,
                planned.text,
            )
            for planned in plan.chunks
        ),
    ]


def describe_totals(plan: Plan) -> str:
    """Counts, duration of the speech, GPU time and price of a plan, a line each."""
    estimate = plan.estimate
    source = "measured" if estimate.speed_measured else "assumed"
    lines = [
        (
            f"{plan.narration_id}: {count(len(plan.chunks), 'chunk')}, {plan.cached} cached, "
            f"{len(plan.missing)} to synthesize"
        ),
        f"speech     about {clock(estimate.speech_seconds)}",
    ]
    if plan.engine == "draft":
        lines.append(f"price      free. {DRAFT_NOTICE}")
    else:
        lines.append(
            f"GPU        about {clock(estimate.gpu_seconds)}, at {estimate.speed:g} seconds of speech "
            f"per GPU second ({source})"
        )
        lines.append(
            f"price      {_about(estimate.price)}, at ${estimate.price_per_second:g} a GPU second; "
            "cold starts and idle time come on top"
        )
    lines.extend(
        f"dropped    the choices for a chunk that is gone: {single_line(text)}"
        for text in (entry.source_text[:DROPPED_CHARACTERS] for entry in plan.dropped)
    )
    return "\n".join(lines)


def _about(price: float) -> str:
    return f"about {dollars(price)}" if price >= 0.01 else dollars(price)
