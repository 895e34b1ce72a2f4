"""The draft engine: real words from espeak-ng, the same ones every time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import espeakng_loader
import numpy as np
import psutil  # type: ignore[import-untyped]  # ships no types
import pytest
from support.worker import decoded, handler, inline, job, sample

from gpu_worker.draft import engine, espeak_process
from gpu_worker.draft.engine import DraftEngine
from gpu_worker.engine_protocol import SampleLoader, Utterance, VoiceSample, Waveform
from narration.audio.quality import inspect_clip
from narration.contract import (
    DRAFT_MODEL,
    FRAME_RATE,
    SAMPLE_RATE,
    ContractError,
    ErrorCode,
    SynthesisRequest,
)
from narration.speech_duration import expected_seconds

TEXT = "In 1998, the committee paid $5.20 to Dr. Smith; nobody objected. Was that wise?"


async def say(prompt: str = TEXT, *, sample: SampleLoader | None = None, **fields: object) -> Utterance:
    """One request to an engine of its own."""
    request = SynthesisRequest.model_validate({"prompt": prompt, **fields})
    return await DraftEngine().speak(request, sample)


def loudness(waveform: Waveform) -> float:
    """Peak of a waveform."""
    return float(np.abs(waveform).max())


async def test_a_text_is_spoken_at_a_narrators_pace() -> None:
    """A hundred words take as long as a person takes, at 24 kHz, in whole frames."""
    text = " ".join(
        ["The leaders of the company promised that investment would follow before the winter."] * 8
    )
    utterance = await say(text)
    seconds = utterance.waveform.size / 24_000
    assert 130 < len(text.split()) / seconds * 60 < 200
    assert utterance.waveform.dtype == np.float32
    assert utterance.waveform.size == utterance.frames * 960
    assert utterance.finish_reason == "stop"
    assert 0.1 < loudness(utterance.waveform) <= 1.1


async def test_the_same_request_gives_the_same_samples_whatever_was_said_before() -> None:
    """espeak-ng carries state from text to text; requests must not."""
    speaker = DraftEngine()
    request = SynthesisRequest(prompt=TEXT, seed=5)
    first = (await speaker.speak(request, None)).waveform
    others = [SynthesisRequest(prompt=f"{number} other words!") for number in range(6)]
    spoken = await asyncio.gather(*(speaker.speak(each, None) for each in [request, *others, request]))
    assert np.array_equal(first, spoken[0].waveform)
    assert np.array_equal(first, spoken[-1].waveform)


def test_another_process_in_another_environment_gives_the_same_samples(tmp_path: Path) -> None:
    """Locale, folder and environment of the worker leave no trace in a clip."""
    code = (
        "import asyncio, hashlib; from gpu_worker.draft.engine import DraftEngine;"
        "from narration.contract import SynthesisRequest;"
        f"said = asyncio.run(DraftEngine().speak(SynthesisRequest(prompt={TEXT!r}), None));"
        "print(hashlib.sha256(said.waveform).hexdigest())"
    )
    root = Path(engine.__file__).parents[2]
    french = {"LC_ALL": "C", "LANG": "fr_FR.UTF-8", "ESPEAK_DATA_PATH": "/nowhere"}
    places: list[tuple[dict[str, str], Path]] = [({}, root), (french, tmp_path)]
    prints = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONPATH": str(root), **env},
            cwd=folder,
            capture_output=True,
            check=True,
            timeout=60,
        ).stdout
        for env, folder in places
    }
    assert len(prints) == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_last_sound_fades_as_16_bits_hear_it(seed: int) -> None:
    """A clip that breaks off is doubtful, and each doubtful attempt is another job."""
    utterance = await say("These are the things that matter.", seed=seed)
    in_16_bits = np.round(utterance.waveform.clip(-1, 1) * 32_767) / np.float32(32_767)
    verdict = inspect_clip(
        in_16_bits.astype(np.float32),
        SAMPLE_RATE,
        text="These are the things that matter.",
        finish_reason="stop",
        frames=utterance.frames,
    )
    assert verdict.acceptable, verdict.flags


async def test_another_seed_is_another_reading_of_the_same_words() -> None:
    """A take or an attempt is other bytes at nearly the same pace."""
    takes = [(await say(seed=seed)).waveform for seed in range(5)]
    assert len({take.tobytes() for take in takes}) == 5
    assert max(take.size for take in takes) < 1.05 * min(take.size for take in takes)


async def test_the_cap_cuts_and_says_so() -> None:
    """`max_new_tokens` bounds the frames; reaching it is `length`, and fitting exactly is not."""
    whole = await say()
    assert (await say(max_new_tokens=whole.frames)).finish_reason == "stop"
    cut = await say(max_new_tokens=whole.frames - 1)
    assert (cut.finish_reason, cut.frames) == ("length", whole.frames - 1)
    assert cut.waveform.size == cut.frames * 960
    assert np.array_equal(
        (await say(max_new_tokens=1)).waveform, (await say(max_new_tokens=2)).waveform[:960]
    )


@pytest.mark.parametrize(
    "prompt",
    [
        "→",
        "★ ★",
        "...",
        "?",
        "—",
        "\uf532W\u3147",
        "\u0301",
        "🎉",
        "👩‍👩‍👧‍👦",
        "שלום עולם",
        "مرحبا بالعالم",
        "你好世界",
        "≤ ∮",
        "弒ে",
        "<",
        "a\x00b",
        "\x01\x02x",
    ],
)
async def test_whatever_can_be_seen_can_be_heard(prompt: str) -> None:
    """Symbols alone, other scripts and unnamed characters make a sound: no chunk is silent."""
    utterance = await say(prompt)
    assert loudness(utterance.waveform) > 0.05
    assert utterance.finish_reason == "stop"


@pytest.mark.parametrize("prompt", ["x" * 2000, "word " * 400, "7" * 2000, "→" * 2000])
async def test_two_thousand_characters_are_spoken_in_time(prompt: str) -> None:
    """The longest prompt, even as one word or of nothing but digits, ends long before patience does."""
    utterance = await say(prompt, max_new_tokens=1000)
    assert utterance.frames > 100
    assert utterance.timings.decode < engine.PATIENCE / 2


async def test_markup_and_tokens_are_plain_characters() -> None:
    """Neither SSML nor phoneme notation nor a model's tokens nor espeak-ng's commands take effect."""
    plain = (await say("before after")).frames
    assert (await say('before <break time="30s"/> after')).frames < plain + 25 * 10
    assert (await say("before [[h@l'oU]] after")).frames > plain
    assert (await say("before <|eot_id|> after")).frames > plain
    assert np.array_equal(
        (await say("before\x0190S after")).waveform, (await say("before 90S after")).waveform
    )


class CountingLoader:
    """A way to a sample that counts how often it was gone."""

    def __init__(self, sha256: str = "a" * 64, failure: ContractError | None = None) -> None:
        self.loads = 0
        self._sha256 = sha256
        self._failure = failure

    async def __call__(self) -> VoiceSample:
        self.loads += 1
        if self._failure is not None:
            raise self._failure
        return VoiceSample(waveform=np.ones(24_000, np.float32), sha256=self._sha256, transcript="t")


def cloned(sha256: str | None) -> SynthesisRequest:
    """A request with a sample, known by digest or not."""
    return SynthesisRequest(
        prompt="x", audio_url="https://a.example/v", audio_transcript="t", audio_sha256=sha256
    )


async def test_a_known_voice_is_not_loaded_again_until_it_is_forgotten() -> None:
    """The digest is the key: a hit loads nothing, and the memory of voices is bounded."""
    speaker = DraftEngine(voice_cache=2)
    loaders = {digit: CountingLoader(digit * 64) for digit in "abc"}
    for digit in "aaabba":
        await speaker.speak(cloned(digit * 64), loaders[digit])
    assert (loaders["a"].loads, loaders["b"].loads) == (1, 1)
    await speaker.speak(cloned("c" * 64), loaders["c"])  # "b" was used longest ago
    for digit in "ab":
        await speaker.speak(cloned(digit * 64), loaders[digit])
    assert (loaders["a"].loads, loaders["b"].loads) == (1, 2)


async def test_a_voice_without_a_digest_is_loaded_each_time() -> None:
    """What a URL holds is known only by looking."""
    speaker = DraftEngine()
    loader = CountingLoader()
    for _ in range(2):
        await speaker.speak(cloned(None), loader)
    assert loader.loads == 2


async def test_a_bad_sample_fails_here_as_it_would_on_the_real_engine() -> None:
    """A laptop finds the sample that a paid worker would refuse, and does not remember it as good."""
    speaker = DraftEngine()
    bad = CountingLoader(failure=ContractError(ErrorCode.SAMPLE_SILENT, "silent"))
    for _ in range(2):
        with pytest.raises(ContractError, match="silent"):
            await speaker.speak(cloned("a" * 64), bad)
    assert bad.loads == 2


async def test_a_voice_changes_nothing_that_is_heard() -> None:
    """The draft has one voice."""
    without = (await say()).waveform
    assert np.array_equal(without, (await say(sample=CountingLoader())).waveform)


async def test_bad_context_audio_is_refused() -> None:
    """The continuity context is checked as the real engine would check it."""
    with pytest.raises(ContractError, match="previous_audio_base64"):
        await say(previous_text="before", previous_audio_base64=inline(b"no audio"))


class Stand:
    """What runs in espeak-ng's place before it speaks, and the processes in which it does."""

    def __init__(self, script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._script = script
        self._real = espeak_process.__file__
        monkeypatch.setattr(espeak_process, "__file__", str(script))
        self.runs("")

    def runs(self, code: str) -> None:
        """Every espeak-ng process runs `code` first."""
        self._script.write_text(f"{code}\nimport runpy; runpy.run_path({self._real!r}, run_name='__main__')")

    def processes(self) -> list[psutil.Process]:
        """Those that run now; the test session may have other children."""
        found = []
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if str(self._script) in child.cmdline():
                    found.append(child)
        return found


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    return Stand(tmp_path / "before_espeak.py", monkeypatch)


async def test_several_requests_are_spoken_at_the_same_time(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests run in processes of their own, as many at once as there are processors, and never more."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    for folder in (begun, ended):
        folder.mkdir()
    stand.runs(
        f"""
import atexit, os, pathlib, time
begun, ended = pathlib.Path({str(begun)!r}), pathlib.Path({str(ended)!r})
(begun / str(os.getpid())).touch()
running = len(list(begun.iterdir())) - len(list(ended.iterdir()))
assert running <= 4, running
while len(list(begun.iterdir())) < 4:  # the first four meet, or nobody speaks
    time.sleep(0.01)
atexit.register((ended / str(os.getpid())).touch)
"""
    )
    speaker = DraftEngine(slots=8)
    spoken = await asyncio.gather(*(speaker.speak(SynthesisRequest(prompt="x"), None) for _ in range(8)))
    assert len(list(begun.iterdir())) == 8
    assert sum(utterance.timings.queue > 0.01 for utterance in spoken) >= 4


async def test_a_cancelled_request_takes_its_process_with_it(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped job leaves no process behind, and its place is free again."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    stand.runs("import time; time.sleep(300)")
    speaker = DraftEngine()
    task = asyncio.create_task(speaker.speak(SynthesisRequest(prompt="x"), None))
    async with asyncio.timeout(60):
        while not (speaking := stand.processes()):  # noqa: ASYNC110  # another process's doing
            await asyncio.sleep(0.01)
    task.cancel()
    async with asyncio.timeout(60):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [child.is_running() for child in speaking] == [False]
    stand.runs("")
    async with asyncio.timeout(60):
        assert (await speaker.speak(SynthesisRequest(prompt="x"), None)).frames > 0


async def test_a_stuck_process_is_given_up_and_ended(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text on which espeak-ng hangs is a failure after a while, not a slot lost for ever."""
    monkeypatch.setattr(engine, "PATIENCE", 0.2)
    stand.runs("import time; time.sleep(300)")
    with pytest.raises(ContractError) as caught:
        await say()
    assert caught.value.failure.error_code == ErrorCode.ENGINE_FAILURE
    assert stand.processes() == []


async def test_a_crash_of_espeak_is_a_typed_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may die; the worker answers for it."""
    script = tmp_path / "crash.py"
    script.write_text("import sys; sys.exit('no such voice')")
    monkeypatch.setattr(espeak_process, "__file__", str(script))
    with pytest.raises(ContractError, match="status 1: no such voice"):
        await say()


async def test_a_deep_installation_folder_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """espeak-ng keeps its data's path in 160 bytes; environments lie deeper than that."""
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    shutil.copytree(espeakng_loader.get_data_path(), deep / "espeak-ng-data")
    expected = (await say()).waveform
    monkeypatch.setattr(espeakng_loader, "get_data_path", lambda: str(deep / "espeak-ng-data"))
    assert np.array_equal((await say()).waveform, expected)


async def test_the_handler_answers_with_draft_clips() -> None:
    """Behind the handler the draft is a worker like any other, under its own model id."""
    data = inline(sample())
    answer = await handler(DraftEngine())(
        job(prompt=TEXT, model=DRAFT_MODEL, audio_base64=data, audio_transcript="t")
    )
    assert answer["model"] == DRAFT_MODEL
    assert decoded(answer)[0].size == answer["frames"] * 960
    assert answer["engine"]["engine"] == "draft"


@pytest.mark.parametrize(
    "text",
    [
        "Контейнерные перевозки изменили мировую торговлю навсегда.",
        "集装箱运输永远改变了世界贸易的面貌。",
        "コンテナ輸送は世界貿易の姿を永遠に変えた。この港は百年前には小さな漁村にすぎなかった。",
        "人々は図書館で歴史書を読む。",
        "컨테이너 운송은 세계 무역의 모습을 영원히 바꾸어 놓았다.",
        "غيرت حاويات الشحن التجارة العالمية إلى الأبد.",
        "כללי המשחק של הסחר העולמי השתנו לנצח.",
    ],
)
async def test_other_scripts_are_spoken_at_a_speakers_pace(text: str) -> None:
    """A voice of the text's own script reads it, where an English one would spell it into the cap."""
    utterance = await say(text * 8, max_new_tokens=round(2 * FRAME_RATE * expected_seconds(text * 8)))
    assert utterance.finish_reason == "stop"
    assert utterance.frames > expected_seconds(text * 8) * FRAME_RATE / 2
