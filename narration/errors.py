"""Every way a narration can fail, as types that say whether trying again helps.

```
NarrationError
├── InputError                the person can mend it: exit status 2, nothing was started
│   ├── ScriptError           the script's bytes or words
│   ├── VoiceError            the voice's sample, transcript or name
│   ├── SettingsError         a setting, an id, a flag, or two that contradict each other
│   │   └── PrefectUnavailable the Prefect server that is set cannot be used
│   └── BudgetError           the price exceeds what was allowed
├── StoreError                the store; `retryable` by instance
│   ├── StoreUnavailable      an outage: try again
│   ├── StoreRefused          credentials, region, bucket, no room: a person must act
│   ├── ManifestConflict      somebody else published first: read again, then write again
│   └── Damaged               bytes that are not what their sidecar says: make them again
├── EndpointError             the worker's endpoint
│   ├── EndpointUnavailable   429, 5xx, connection trouble, deadline: try again
│   ├── EndpointRefused       wrong key, wrong endpoint, bad request: a person must act
│   ├── JobFailed             the worker answered with a failure; the worker says if it is final
│   ├── JobLost               the job ran or expired and its result cannot be had: submit again
│   ├── JobTimedOut           the platform gave up on the job: submit again
│   ├── JobCancelled          somebody cancelled the job: submit again only if asked
│   └── BadResult             an answer that is not a clip: submit again
├── BadAudio                  bytes that are not usable audio: whoever asked says what follows
├── QualityError              a clip that is audio, but not this chunk spoken well
├── MasteringError            ffmpeg or the arranged audio
└── ChunksFailed              at the end of a run: some chunks have no clip; the rest are stored
```
"""

from __future__ import annotations

from collections.abc import Mapping

from narration.escaping import single_line


class NarrationError(Exception):
    """A failure with a cause in words, a remedy, and whether trying again helps.

    `retryable` is a fact about the failure, not about the caller's patience; `clips_stored`
    is set by a run that had begun to make clips when it failed. Both texts are one printable line:
    they may quote a file's name, and they end in logs.
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
        # Exceptions cross process and Prefect result borders by pickle; the
        # default protocol would call __init__ with positional arguments only.
        return (_rebuild, (type(self), self.args, dict(self.__dict__)))


def _rebuild(
    kind: type[NarrationError], args: tuple[object, ...], state: Mapping[str, object]
) -> NarrationError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InputError(NarrationError):
    """Something the person gave cannot be used; nothing was started."""


class ScriptError(InputError):
    """The script cannot be read, or holds nothing speakable."""


class VoiceError(InputError):
    """The voice is unknown, or its sample or transcript cannot be used."""


class SettingsError(InputError):
    """A setting, an id or a flag is missing, malformed or contradicts another."""


class PrefectUnavailable(SettingsError):
    """The Prefect server that is set does not answer, or not as one."""


class BudgetError(InputError):
    """The narration would cost, or has cost, more than was allowed."""


class StoreError(NarrationError):
    """The store could not do what was asked."""


class StoreUnavailable(StoreError):
    """The store did not answer, or answered that it is busy."""

    retryable = True


class StoreRefused(StoreError):
    """The store answered no: credentials, region, bucket, permissions or room."""


class ManifestConflict(StoreError):
    """The manifest changed since it was read; read it again and redo the change."""

    retryable = True


class Damaged(StoreError):
    """Stored bytes are missing, truncated or altered; what they held must be made again."""

    retryable = True


class EndpointError(NarrationError):
    """The worker's endpoint did not give a clip. `execution_ms` of a job that ran all the same is paid."""

    execution_ms: float | None = None


class EndpointUnavailable(EndpointError):
    """No useful answer: rate limit, server error, connection trouble or a deadline.

    `maybe_accepted`: the answer to a submission was lost on its way, so the endpoint may be
    working on a job whose id nobody knows; submitting again may pay twice.
    """

    retryable = True

    def __init__(self, message: str, *, remedy: str = "", maybe_accepted: bool = False) -> None:
        super().__init__(message, remedy=remedy)
        self.maybe_accepted = maybe_accepted


class EndpointRefused(EndpointError):
    """The endpoint answered no: wrong key, unknown endpoint, request it cannot take."""


class JobFailed(EndpointError):
    """The worker, or the platform for it, reported a failure.

    `code` is the worker's `error_code`, empty when the platform itself failed the job.
    """

    def __init__(self, message: str, *, code: str = "", remedy: str = "", retryable: bool = False) -> None:
        super().__init__(message, remedy=remedy, retryable=retryable)
        self.code = code


class JobLost(EndpointError):
    """The job's result cannot be had any more: expired, forgotten, or completed without output."""

    retryable = True


class JobTimedOut(EndpointError):
    """The platform gave up on the job before a worker reported."""

    retryable = True


class JobCancelled(EndpointError):
    """The job was cancelled at the endpoint."""


class BadResult(EndpointError):
    """The endpoint's answer claims success but is not a clip of the contract."""

    retryable = True


class BadAudio(NarrationError):
    """Bytes that are not usable audio: another format, truncated, empty, endless or not finite."""


class QualityError(NarrationError):
    """The clip is audio, but cannot be this chunk spoken well; another seed may help."""

    retryable = True


class MasteringError(NarrationError):
    """The clips could not be made into a master."""


class ChunksFailed(NarrationError):
    """Some chunks have no clip; every other clip is stored.

    `failures`: chunk index (from 1) -> cause; `report`: the run's report as plain values.
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
