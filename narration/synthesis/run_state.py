"""The state of a run: which clips it has, which chunks failed, what it has spent, over all its plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from narration.errors import ChunksFailed, Damaged, NarrationError
from narration.escaping import single_line
from narration.planning import Plan, RetakeRequest, SynthesizedNarration
from narration.settings import Settings
from narration.store import AudioClip, Store
from narration.synthesis.budget import Budget
from narration.synthesis.report import RunReport
from narration.synthesis.synthesizer import SynthesizedClip

MAX_LISTED = 10  # failed chunks that an error message lists


@dataclass(slots=True)
class RunState:
    """Clips stored and failures met since the first plan of a run, by digest; and its budget."""

    budget: Budget
    synthesized: dict[str, SynthesizedClip] = field(default_factory=dict)  # by this run or meanwhile another
    failures: dict[str, BaseException] = field(default_factory=dict)
    complete: bool = False  # every chunk has its clip, so that a later failure costs none
    notes: tuple[str, ...] = ()  # of the preflight: checks that could not be decided

    @property
    def has_stored_clips(self) -> bool:
        """Whether this run's clips are stored, some or all, so that a failure leaves them behind."""
        return bool(self.synthesized) or self.complete

    def synthesized_here(self, digest: str) -> SynthesizedClip | None:
        """The clip if this run made it; None for one from the cache and one that another run stored."""
        clip = self.synthesized.get(digest)
        return None if clip is None or clip.by_another_run else clip

    def counts(self, plan: Plan) -> tuple[int, int, int]:
        """How many chunks of `plan` are synthesized by this run, cached, and failed."""
        synthesized = sum(self.synthesized_here(entry.digest) is not None for entry in plan.chunks)
        failed = sum(
            entry.digest in self.failures and entry.digest not in self.synthesized for entry in plan.chunks
        )
        return synthesized, len(plan.chunks) - synthesized - failed, failed

    def waiting(self, plan: Plan) -> int:
        """How many chunks of `plan` have neither a clip nor a failure yet."""
        return sum(
            entry.clip is None and entry.digest not in self.synthesized and entry.digest not in self.failures
            for entry in plan.chunks
        )

    def clips(self, plan: Plan) -> dict[str, AudioClip]:
        """The clips of the chunks that have one, by digest."""
        clips: dict[str, AudioClip] = {}
        for entry in plan.chunks:
            if entry.clip is not None:
                clips[entry.digest] = entry.clip
            elif entry.digest in self.synthesized:
                clips[entry.digest] = self.synthesized[entry.digest].clip
        return clips

    def failure_reasons(self, plan: Plan) -> dict[int, str]:
        """Why each chunk without a clip has none, by its number."""
        clips = self.clips(plan)
        return {
            entry.chunk.index: single_line(str(self.failures.get(entry.digest, "it was never finished")))
            for entry in plan.chunks
            if entry.digest not in clips
        }

    def report(self, plan: Plan, **published: object) -> RunReport:
        """The run's outcome; `published` has the fields of a published narration."""
        synthesized, cached, failed = self.counts(plan)
        fields: dict[str, object] = {
            "narration_id": plan.narration_id,
            "manifest": None,
            "files": {},
            "duration": None,
            "chunks": len(plan.chunks),
            "synthesized": synthesized,
            "cached": cached,
            "failed": failed,
            "failures": self.failure_reasons(plan),
            "engine": plan.engine,
            "cost": round(self.budget.spent, 6),
            "dropped": tuple(entry.source_text for entry in plan.dropped),
            "notes": self.notes,
        }
        return RunReport.model_validate(fields | published)

    def require_all(self, plan: Plan, *, remedy: str) -> SynthesizedNarration:
        """The plan with the clip of each chunk; raises `ChunksFailed`, naming every chunk without one.

        A single cause that stopped the run before any clip was stored is raised as itself, if it
        says what to do.
        """
        reasons = self.failure_reasons(plan)
        if not reasons:
            self.complete = True
            return SynthesizedNarration(plan, self.clips(plan))
        damaged = next((error for error in self.failures.values() if isinstance(error, Damaged)), None)
        if damaged is not None:  # a stored clip that others continue from: a new plan makes it again
            self.failures.clear()
            raise damaged
        causes = {id(error): error for error in self.failures.values()}
        if not self.synthesized and not plan.cached and len(causes) == 1:
            cause = next(iter(causes.values()))
            if not isinstance(cause, NarrationError) or cause.remedy:
                raise cause
        listed = "; ".join(f"chunk {index}: {reason}" for index, reason in list(reasons.items())[:MAX_LISTED])
        more = f"; and {len(reasons) - MAX_LISTED} more" if len(reasons) > MAX_LISTED else ""
        stored = len(plan.chunks) - len(reasons)
        raise ChunksFailed(
            f"{len(reasons)} of {len(plan.chunks)} chunks failed, {stored} are stored: {listed}{more}",
            failures=reasons,
            report=self.report(plan).model_dump(mode="json"),
            remedy=remedy,
        )


@dataclass(frozen=True, slots=True)
class NarrationRun:
    """One run of the pipeline: what it was asked for, where it stores, and its state so far.

    `settings` are as read at its start; a plan has those of its narration.
    """

    flow_run_id: str  # Prefect's, which job records and holds on clips carry
    store: Store
    settings: Settings
    narration_id: str
    retakes: Mapping[int, RetakeRequest]  # by chunk number, from 1; empty for a whole narration
    state: RunState
