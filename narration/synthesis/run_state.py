"""What one run has made, failed and spent so far, over as many plans as it takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from narration.errors import ChunksFailed, Damaged, NarrationError
from narration.escaping import single_line
from narration.planning import Plan
from narration.store import AudioClip
from narration.synthesis.budget import Budget
from narration.synthesis.report import RunReport
from narration.synthesis.synthesizer import SynthesizedClip


@dataclass(slots=True)
class RunState:
    """Clips made and failures met, by digest; money by way of the budget."""

    budget: Budget
    made: dict[str, SynthesizedClip] = field(default_factory=dict)
    failed: dict[str, BaseException] = field(default_factory=dict)
    whole: bool = False  # every chunk has its clip: what goes wrong now costs no clip

    def new(self, digest: str) -> SynthesizedClip | None:
        """What this run made for `digest`; None for a clip that was there, or that another run stored."""
        made = self.made.get(digest)
        return made if made and not made.found else None

    def counts(self, plan: Plan) -> tuple[int, int, int]:
        """Chunks of `plan` synthesized in this run, cached before it, and failed."""
        made = sum(self.new(entry.digest) is not None for entry in plan.chunks)
        failed = sum(entry.digest in self.failed and entry.digest not in self.made for entry in plan.chunks)
        return made, len(plan.chunks) - made - failed, failed

    def clips(self, plan: Plan) -> dict[str, AudioClip]:
        """The clip of every chunk that has one, by digest: made in this run, or stored before."""
        found = {entry.digest: entry.clip for entry in plan.chunks if entry.clip is not None}
        made = {
            entry.digest: self.made[entry.digest].clip for entry in plan.chunks if entry.digest in self.made
        }
        return made | found

    def failures(self, plan: Plan) -> dict[int, str]:
        """Why each chunk without a clip has none, by index."""
        at_hand = self.clips(plan)
        return {
            entry.chunk.index: single_line(str(self.failed.get(entry.digest, "it was never finished")))
            for entry in plan.chunks
            if entry.digest not in at_hand
        }

    def report(self, plan: Plan, **published: object) -> RunReport:
        """The run's outcome; `published` adds what only a finished narration has."""
        made, cached, failed = self.counts(plan)
        fields: dict[str, object] = {
            "narration_id": plan.narration_id,
            "manifest": None,
            "files": {},
            "duration": None,
            "chunks": len(plan.chunks),
            "synthesized": made,
            "cached": cached,
            "failed": failed,
            "failures": self.failures(plan),
            "engine": plan.engine,
            "cost": round(self.budget.spent, 6),
            "dropped": tuple(entry.source_text for entry in plan.dropped),
        }
        return RunReport.model_validate(fields | published)

    def require_all(self, plan: Plan, *, remedy: str) -> None:
        """Raise `ChunksFailed`, naming every chunk, unless each has its clip.

        A single cause that stopped the run before anything was stored is raised as itself, unless
        it is a trouble of one chunk, which says nothing of what to do.
        """
        failures = self.failures(plan)
        if not failures:
            self.whole = True
            return
        damaged = next((error for error in self.failed.values() if isinstance(error, Damaged)), None)
        if damaged is not None:  # a stored clip that others continue from: a new plan makes it again
            self.failed.clear()
            raise damaged
        causes = {id(error): error for error in self.failed.values()}
        if not self.made and not plan.cached and len(causes) == 1:
            cause = next(iter(causes.values()))
            if not isinstance(cause, NarrationError) or cause.remedy:
                raise cause
        listed = "; ".join(f"chunk {index}: {reason}" for index, reason in list(failures.items())[:10])
        more = f"; and {len(failures) - 10} more" if len(failures) > 10 else ""
        stored = len(plan.chunks) - len(failures)
        raise ChunksFailed(
            f"{len(failures)} of {len(plan.chunks)} chunks failed, {stored} are stored: {listed}{more}",
            failures=failures,
            report=self.report(plan).model_dump(mode="json"),
            remedy=remedy,
        )
