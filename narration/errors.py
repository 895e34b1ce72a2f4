"""All errors of a narration, as types that say whether the same call may succeed if it is repeated.

```
NarrationError
├── InputError                the input is wrong: exit status 2, no job was started
│   ├── ScriptError           the script's bytes or text
│   ├── VoiceError            the voice's sample, transcript or name
│   ├── SettingsError         a setting, an id, a flag, or two that contradict each other
│   │   └── PrefectUnavailable the configured Prefect server cannot be used
│   └── BudgetError           the price is over the limit
├── StoreError                the store failed; each subclass says whether to try again
│   ├── StoreUnavailable      no answer, or busy: try again
│   ├── StoreRefused          credentials, region, bucket, no room: a person must act
│   ├── ManifestConflict      another run published meanwhile: read again, then write again
│   └── Damaged               stored bytes are missing or altered: make them again
├── EndpointError             the RunPod endpoint gave no clip
│   ├── EndpointUnavailable   429, 5xx, failed connection, timeout: try again
│   ├── EndpointRefused       wrong key, wrong endpoint, bad request: a person must act
│   ├── JobFailed             the worker answered with a failure, and says whether to try again
│   ├── JobLost               the result of the job cannot be fetched any more: submit again
│   ├── JobTimedOut           RunPod gave up on the job: submit again
│   ├── JobCancelled          the job was cancelled: submit again only on request
│   └── BadResult             the answer is not a clip: submit again
├── BadAudio                  bytes that are not usable audio: the caller decides what to do
├── QualityError              the clip is audio, but not this chunk spoken well
├── MasteringError            ffmpeg failed, or the audio cannot be mastered
└── ChunksFailed              at the end of a run: some chunks have no clip; the others are stored
```
"""

from __future__ import annotations

from collections.abc import Mapping

from narration.escaping import single_line


class NarrationError(Exception):
    """A failure: its cause as `message`, what a person can do as `remedy`, and two facts about it.

    `retryable`: the same call may succeed if it is repeated. `clips_stored`: the run that failed had
    stored clips or found all of them stored. Message and remedy are made one printable line, since
    they may quote the name of a file and are written to logs.
    """

    retryable: bool = False
    clips_stored: bool = False

    def __init__(self, message: str, *, remedy: str = "", retryable: bool | None = None) -> None:
        super().__init__(single_line(message))
        self.message = single_line(message)
        self.remedy = single_line(remedy)
        if retryable is not None:
            self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Prefect and processes pass exceptions on by pickle, which by default calls __init__ with
        # positional arguments only.
        return (_rebuild, (type(self), self.args, dict(self.__dict__)))


def _rebuild(
    kind: type[NarrationError], args: tuple[object, ...], state: Mapping[str, object]
) -> NarrationError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InputError(NarrationError):
    """An input cannot be used; no job was started."""


class ScriptError(InputError):
    """The script cannot be read, or holds nothing speakable."""


class VoiceError(InputError):
    """The voice is unknown, or its sample or transcript cannot be used."""


class SettingsError(InputError):
    """A setting, an id or a flag is missing or malformed, or contradicts another one."""


class PrefectUnavailable(SettingsError):
    """The configured Prefect server does not answer, or is another kind of server."""


class BudgetError(InputError):
    """The narration would cost, or has cost, more than its limit."""


class StoreError(NarrationError):
    """The store could not read or write."""


class StoreUnavailable(StoreError):
    """The store did not answer, or is busy."""

    retryable = True


class StoreRefused(StoreError):
    """The store refused: wrong credentials, region or bucket, no permission, or no room."""


class ManifestConflict(StoreError):
    """The manifest was changed since it was read: read it again and repeat the change."""

    retryable = True


class Damaged(StoreError):
    """Stored bytes are missing, truncated or altered, and must be made again."""

    retryable = True


class EndpointError(NarrationError):
    """The RunPod endpoint gave no clip. `execution_ms` is the time of the job if it ran; it is paid."""

    execution_ms: float | None = None


class EndpointUnavailable(EndpointError):
    """No usable answer: rate limit, server error, failed connection or timeout.

    `maybe_accepted`: the answer to a submission was lost, so that a job with an unknown id may be
    running; submitting again may pay twice.
    """

    retryable = True

    def __init__(self, message: str, *, remedy: str = "", maybe_accepted: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.maybe_accepted = maybe_accepted


class EndpointRefused(EndpointError):
    """The endpoint refused: wrong key, unknown endpoint, or a request that it does not accept."""


class JobFailed(EndpointError):
    """The worker or RunPod reported that the job failed.

    `code` is the worker's `error_code`; it is empty if RunPod itself failed the job.
    """

    def __init__(self, message: str, *, code: str = "", remedy: str = "", retryable: bool = False) -> None:
        super().__init__(message, remedy=remedy, retryable=retryable)
        self.code = code


class JobLost(EndpointError):
    """The result of the job cannot be fetched: it expired, the job is unknown, or it has no output."""

    retryable = True


class JobTimedOut(EndpointError):
    """RunPod gave up on the job before a worker answered."""

    retryable = True


class JobCancelled(EndpointError):
    """The job was cancelled at the endpoint."""


class BadResult(EndpointError):
    """The worker reported success, but its answer is not a clip of the contract."""

    retryable = True


class BadAudio(NarrationError):
    """Bytes that are not usable audio: not audio, truncated, empty, too long, or with infinite samples."""


class QualityError(NarrationError):
    """The clip is audio, but not this chunk spoken well; another seed may give a better one."""

    retryable = True


class MasteringError(NarrationError):
    """The clips could not be mastered."""


class ChunksFailed(NarrationError):
    """Some chunks have no clip; the clips of all others are stored.

    `failures` maps the index of a chunk (from 1) to the cause; `report` is the run's report as JSON.
    """

    clips_stored = True

    def __init__(
        self,
        message: str,
        *,
        failures: Mapping[int, str],
        report: Mapping[str, object] | None = None,
        remedy: str = "",
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.failures = dict(failures)
        self.report = dict(report or {})
