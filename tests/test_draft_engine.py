"""Draft engine: real words at a narrator's pace, the same samples for the same request, voices checked."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from support.worker import decoded, handler, inline, job, sample

from gpu_worker.draft import engine
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


async def synthesize(
    prompt: str = TEXT, *, sample: SampleLoader | None = None, **fields: object
) -> Utterance:
    """Synthesize one request with an engine of its own."""
    request = SynthesisRequest.model_validate({"prompt": prompt, **fields})
    return await DraftEngine().synthesize(request, sample)


def peak(waveform: Waveform) -> float:
    """The largest absolute value of a sample."""
    return float(np.abs(waveform).max())


async def test_a_text_has_a_narrators_pace() -> None:
    """130 to 200 words a minute, at 24 kHz, in whole frames."""
    text = " ".join(
        ["The leaders of the company promised that investment would follow before the winter."] * 8
    )
    utterance = await synthesize(text)
    seconds = utterance.waveform.size / 24_000
    assert 130 < len(text.split()) / seconds * 60 < 200
    assert utterance.waveform.dtype == np.float32
    assert utterance.waveform.size == utterance.frames * 960
    assert utterance.finish_reason == "stop"
    assert 0.1 < peak(utterance.waveform) <= 1.1


async def test_the_same_request_gives_the_same_samples_whatever_came_before() -> None:
    """espeak-ng keeps state from one text to the next; a request must not depend on it."""
    draft = DraftEngine()
    request = SynthesisRequest(prompt=TEXT, seed=5)
    first = (await draft.synthesize(request, None)).waveform
    others = [SynthesisRequest(prompt=f"{number} other words!") for number in range(6)]
    utterances = await asyncio.gather(*(draft.synthesize(each, None) for each in [request, *others, request]))
    assert np.array_equal(first, utterances[0].waveform)
    assert np.array_equal(first, utterances[-1].waveform)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_end_of_a_clip_fades_in_16_bits(seed: int) -> None:
    """The quality check flags an abrupt end, and each flagged attempt costs another job."""
    utterance = await synthesize("These are the things that matter.", seed=seed)
    in_16_bits = np.round(utterance.waveform.clip(-1, 1) * 32_767) / np.float32(32_767)
    verdict = inspect_clip(
        in_16_bits.astype(np.float32),
        SAMPLE_RATE,
        text="These are the things that matter.",
        finish_reason="stop",
        frames=utterance.frames,
    )
    assert verdict.acceptable, verdict.flags


async def test_another_seed_gives_other_samples_at_nearly_the_same_pace() -> None:
    """So that another take or attempt is another clip."""
    takes = [(await synthesize(seed=seed)).waveform for seed in range(5)]
    assert len({take.tobytes() for take in takes}) == 5
    assert max(take.size for take in takes) < 1.05 * min(take.size for take in takes)


async def test_max_new_tokens_cuts_the_clip_and_says_length() -> None:
    """A clip that fits exactly says `stop`."""
    whole = await synthesize()
    assert (await synthesize(max_new_tokens=whole.frames)).finish_reason == "stop"
    cut = await synthesize(max_new_tokens=whole.frames - 1)
    assert (cut.finish_reason, cut.frames) == ("length", whole.frames - 1)
    assert cut.waveform.size == cut.frames * 960
    assert np.array_equal(
        (await synthesize(max_new_tokens=1)).waveform, (await synthesize(max_new_tokens=2)).waveform[:960]
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
async def test_every_visible_character_makes_a_sound(prompt: str) -> None:
    """Symbols alone, other scripts and unnamed characters: no chunk is silent."""
    utterance = await synthesize(prompt)
    assert peak(utterance.waveform) > 0.05
    assert utterance.finish_reason == "stop"


@pytest.mark.parametrize("prompt", ["x" * 2000, "word " * 400, "7" * 2000, "→" * 2000])
async def test_two_thousand_characters_take_less_than_half_the_timeout(prompt: str) -> None:
    """The longest prompt, even as one word, as digits or as symbols."""
    utterance = await synthesize(prompt, max_new_tokens=1000)
    assert utterance.frames > 100
    assert utterance.timings.decode < engine.ESPEAK_TIMEOUT / 2


async def test_markup_and_tokens_are_plain_characters() -> None:
    """SSML, phoneme notation, a model's control tokens and espeak-ng's commands have no effect."""
    plain = (await synthesize("before after")).frames
    assert (await synthesize('before <break time="30s"/> after')).frames < plain + 25 * 10
    assert (await synthesize("before [[h@l'oU]] after")).frames > plain
    assert (await synthesize("before <|eot_id|> after")).frames > plain
    assert np.array_equal(
        (await synthesize("before\x0190S after")).waveform, (await synthesize("before 90S after")).waveform
    )


class CountingLoader:
    """A sample loader that counts its calls; raises `failure` if there is one."""

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
    """A request with a voice sample, with or without its digest."""
    return SynthesisRequest(
        prompt="x", audio_url="https://a.example/v", audio_transcript="t", audio_sha256=sha256
    )


async def test_a_checked_voice_is_not_loaded_again_while_it_is_remembered() -> None:
    """Voices are remembered by digest, up to a limit; the one used longest ago is forgotten first."""
    draft = DraftEngine(voice_cache=2)
    loaders = {digit: CountingLoader(digit * 64) for digit in "abc"}
    for digit in "aaabba":
        await draft.synthesize(cloned(digit * 64), loaders[digit])
    assert (loaders["a"].loads, loaders["b"].loads) == (1, 1)
    await draft.synthesize(cloned("c" * 64), loaders["c"])  # removes "b", used longest ago
    for digit in "ab":
        await draft.synthesize(cloned(digit * 64), loaders[digit])
    assert (loaders["a"].loads, loaders["b"].loads) == (1, 2)


async def test_a_voice_without_a_digest_is_loaded_each_time() -> None:
    """A URL's content can change, so it is checked for every request."""
    draft = DraftEngine()
    loader = CountingLoader()
    for _ in range(2):
        await draft.synthesize(cloned(None), loader)
    assert loader.loads == 2


async def test_a_bad_sample_fails_as_with_the_higgs_engine() -> None:
    """The draft refuses the sample that a paid worker would refuse, and does not remember it as checked."""
    draft = DraftEngine()
    bad = CountingLoader(failure=ContractError(ErrorCode.SAMPLE_SILENT, "silent"))
    for _ in range(2):
        with pytest.raises(ContractError, match="silent"):
            await draft.synthesize(cloned("a" * 64), bad)
    assert bad.loads == 2


async def test_a_voice_sample_changes_no_sample_of_the_clip() -> None:
    """The draft engine speaks in espeak-ng's voice."""
    without = (await synthesize()).waveform
    assert np.array_equal(without, (await synthesize(sample=CountingLoader())).waveform)


async def test_bad_context_audio_is_refused() -> None:
    """The continuity context is checked as the Higgs engine checks it."""
    with pytest.raises(ContractError, match="previous_audio_base64"):
        await synthesize(previous_text="before", previous_audio_base64=inline(b"no audio"))


async def test_the_handler_returns_draft_clips_under_the_draft_model_id() -> None:
    """Behind the handler the draft engine serves a request as any engine does."""
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
async def test_other_scripts_have_a_speakers_pace(text: str) -> None:
    """A voice for the text's script reads it; an English voice would spell it and reach the frame cap."""
    utterance = await synthesize(text * 8, max_new_tokens=round(2 * FRAME_RATE * expected_seconds(text * 8)))
    assert utterance.finish_reason == "stop"
    assert utterance.frames > expected_seconds(text * 8) * FRAME_RATE / 2
