"""Handler: several jobs at once, what is logged, cancellation, downloads and timings."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from support.worker import ToneEngine, file, handler, job, sample, serving

from narration.contract import ErrorCode, SynthesisFailure


async def test_an_unexpected_error_is_typed_and_its_traceback_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The client gets type and message, the log the traceback; the log does not get the prompt."""
    engine = ToneEngine()
    engine.failure = RuntimeError("CUDA error while speaking 'my secret prompt'\nat once, in \udcff.bin")
    with caplog.at_level(logging.DEBUG):
        answer = await handler(engine)(job(prompt="my secret prompt"))
    failure = SynthesisFailure.model_validate(answer)
    assert failure.error_code == ErrorCode.ENGINE_FAILURE
    assert "CUDA error" in failure.error
    assert "Traceback" not in failure.error
    assert failure.error.isprintable()
    json.dumps(answer, ensure_ascii=False).encode()  # as the SDK posts it
    assert "RuntimeError" in caplog.text
    assert "worker.py" in caplog.text
    assert "secret" not in caplog.text


async def test_the_log_holds_no_text_and_no_url(caplog: pytest.LogCaptureFixture) -> None:
    """Log lines have job ids, error codes and numbers; prompts and signed URLs are confidential."""
    with caplog.at_level(logging.DEBUG), serving(file(sample())) as url:
        await handler()(job(prompt="spoken words", seed=3))
        await handler()(job(prompt="spoken words", temperature="hot words"))
        for allowed in (True, False):
            await handler(allow_private_urls=allowed)(
                job(
                    prompt="spoken words",
                    audio_url=f"{url}?signature=hidden",
                    audio_transcript="transcript words",
                )
            )
    assert "job-1" in caplog.text
    for secret in ("words", "hidden"):
        assert secret not in caplog.text


async def test_a_failed_job_fails_no_other() -> None:
    """Jobs that run at the same time succeed or fail each by itself."""
    handle = handler()
    jobs = [job(prompt="good"), job(prompt=""), job(prompt="good"), job(prompt="x", model="other")]
    answers = await asyncio.gather(*(handle(each) for each in jobs))
    assert ["audio_base64" in answer for answer in answers] == [True, False, True, False]


async def test_jobs_run_at_the_same_time() -> None:
    """No job waits in the handler for another."""
    engine = ToneEngine()
    engine.pause = 0.2
    handle = handler(engine)
    await asyncio.gather(*(handle(job(prompt="x")) for _ in range(10)))
    assert engine.most_at_once == 10


async def test_a_stopped_job_is_cancelled_in_the_engine() -> None:
    """RunPod's stop cancels the engine's work, and the handler returns nothing."""
    engine = ToneEngine()
    engine.pause = 300
    task = asyncio.create_task(handler(engine)(job(prompt="x")))
    async with asyncio.timeout(60):
        while not engine.requests:  # noqa: ASYNC110 -- ToneEngine has no event for it
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.cancelled == 1


async def test_a_sample_is_downloaded_only_when_the_engine_loads_it() -> None:
    """For a voice that the engine holds, nothing is downloaded."""
    engine = ToneEngine()
    engine.loads_samples = False
    asked: list[str] = []
    with serving(lambda request: asked.append(request.path)) as url:
        answer = await handler(engine, allow_private_urls=True)(
            job(prompt="x", audio_url=url, audio_transcript="t", audio_sha256="0" * 64)
        )
    assert "audio_base64" in answer
    assert asked == []


async def test_timings_are_the_engines_with_the_jobs_total() -> None:
    """Queue includes the engine's queue; the total covers the whole job."""
    engine = ToneEngine()
    engine.pause = 0.1
    timings = (await handler(engine)(job(prompt="x")))["timings"]
    assert timings["decode"] == 0.5
    assert 0.25 <= timings["queue"] < 60
    assert 0.1 <= timings["total"] < 60
