"""The engine: transformers' codes, many at a time, and nobody's trouble becomes a neighbour's."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from support.higgs_oracle import Oracle, Said, trimmed
from support.hub import run_python
from support.tiny_codec import write_tiny_codec
from support.tiny_higgs import PUBLISHED_FIRST_ID, SMALL_FIRST_ID, write_tiny_higgs
from torch._subclasses.fake_tensor import FakeTensorMode

from gpu_worker.checkpoints.source import ModelError
from gpu_worker.engine_protocol import SampleLoader, VoiceSample
from gpu_worker.higgs.codec import Codec, tokenizer_classes
from gpu_worker.higgs.codec_thread import CodecThread
from gpu_worker.higgs.decoder import Decoder
from gpu_worker.higgs.delay_pattern import END, Codes, delay
from gpu_worker.higgs.engine import EngineOptions, HiggsEngine, Spoken
from gpu_worker.higgs.load_model import load_language_model
from gpu_worker.higgs.model_runner import ModelRunner
from gpu_worker.higgs.prefix_cache import PrefixCache
from gpu_worker.higgs.prompt import Prompt, Segment
from gpu_worker.higgs.sampler import Sampling
from gpu_worker.higgs.sequence import Sequence, Status
from gpu_worker.open_engine import HIGGS_SLOTS
from gpu_worker.settings import WorkerSettings
from narration.audio.files import decode, encode_clip
from narration.contract import FRAME_RATE, ContractError, ErrorCode, SynthesisRequest
from narration.speech_duration import expected_seconds

Wave = NDArray[np.float32]

CAP = 110
OPTIONS = EngineOptions(slots=3, slot_length=384, prefix_cache_bytes=1 << 30, voices=64)

_NOISE = np.random.default_rng(11)
ANNA: Wave = (0.2 * _NOISE.standard_normal(30_000)).astype(np.float32)
BERT: Wave = (0.2 * _NOISE.standard_normal(24_000)).astype(np.float32)
# Through sixteen bits, as it will arrive.
CONTEXT = decode(encode_clip((0.2 * _NOISE.standard_normal(20_000)).astype(np.float32), "wav"))[0]

ROOM = "Audio is recorded from a quiet room."

CONVERSATIONS = [
    Said("The sun rises in the east."),
    Said("She sells sea shells.", scene=ROOM, turns=[("What Anna says.", ANNA)]),
    Said("A", scene=ROOM),
    Said("What now? " * 6, scene=ROOM, turns=[("What Bert says.", BERT)]),
    Said("And then?", turns=[("What went before.", CONTEXT)]),
    Said("Another chunk of Anna's.", scene=ROOM, turns=[("What Anna says.", ANNA)]),
    Said("And on.", scene=ROOM, turns=[("What Anna says.", ANNA), ("What went before.", CONTEXT)]),
    Said("Hello there.", system="Whisper.", scene="A cave."),
]


def request_of(said: Said, **changes: Any) -> tuple[SynthesisRequest, SampleLoader | None]:
    """The request for which a conversation stands: greedy unless changed."""
    fields: dict[str, Any] = {
        "prompt": said.text,
        "system_prompt": said.system,
        "scene": said.scene,
        "max_new_tokens": CAP,
        "temperature": 0.0,
        "ras_win_len": 0,
    }
    turns = list(said.turns)
    sample = None
    if turns and turns[0][1] is not CONTEXT:
        words, waveform = turns.pop(0)
        fields |= {"audio_transcript": words, "audio_sha256": f"{len(waveform):064x}"}
        sample = loader(words, waveform)
    if turns:
        words, waveform = turns[0]
        encoded = base64.b64encode(encode_clip(waveform, "wav")).decode()
        fields |= {"previous_text": words, "previous_audio_base64": encoded}
    return SynthesisRequest(**fields | changes), sample


def loader(words: str, waveform: Wave) -> SampleLoader:
    async def load() -> VoiceSample:
        return VoiceSample(waveform, f"{len(waveform):064x}", words)

    return load


@pytest.fixture(scope="module")
def codec_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_codec(tmp_path_factory.mktemp("codec"))


@pytest.fixture(scope="module", params=[PUBLISHED_FIRST_ID, SMALL_FIRST_ID], ids=["published", "small"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in which the prompt decides when a clip ends, by any codebook."""
    return write_tiny_higgs(tmp_path_factory.mktemp("model"), first_id=request.param)


@pytest.fixture(scope="module")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_higgs(tmp_path_factory.mktemp("model"), first_id=SMALL_FIRST_ID)


Open = Callable[..., Any]


@pytest.fixture
def opened(codec_folder: Path) -> Open:
    """Opens an engine for one `async with`, which drains it."""

    @asynccontextmanager
    async def open_engine(
        folder: Path, options: EngineOptions = OPTIONS, **others: Any
    ) -> AsyncIterator[HiggsEngine]:
        engine = HiggsEngine.load(folder, codec_folder, model="m", device="cpu", options=options, **others)
        try:
            yield engine
        finally:
            await engine.drain()

    return open_engine


async def say_all(engine: HiggsEngine, said: list[Said], **changes: Any) -> list[Spoken]:
    return await asyncio.gather(*(engine.say(*request_of(one, **changes)) for one in said))


@pytest.fixture(scope="module")
def engine(small_checkpoint: Path, codec_folder: Path) -> Iterator[HiggsEngine]:
    """An engine for all tests that leave it as they found it."""
    shared = HiggsEngine.load(small_checkpoint, codec_folder, model="m", device="cpu", options=OPTIONS)
    yield shared
    asyncio.run(shared.drain())


def codes_equal(one: list[Spoken], other: list[Spoken]) -> None:
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first.codes, second.codes)


# What it must equal


@pytest.mark.parametrize("ahead", [0, 1], ids=["looked at once", "looked at one window late"])
async def test_greedy_codes_and_prompts_equal_transformers(
    checkpoint: Path, codec_folder: Path, opened: Open, ahead: int
) -> None:
    """Text, scene, voices and context, ragged, more of them than slots: what `generate()` says alone."""
    oracle = Oracle(checkpoint, codec_folder)
    async with opened(checkpoint) as engine:
        engine._loop._ahead = ahead  # as on a CUDA device, where the host reads behind the device
        spoken = await say_all(engine, CONVERSATIONS)
        alone = await engine.say(*request_of(CONVERSATIONS[1]))
    enders: set[int] = set()
    for said, ours in zip(CONVERSATIONS, spoken, strict=True):
        stream = oracle.stream(said, max_steps=CAP)
        np.testing.assert_array_equal(ours.codes, trimmed(stream))
        assert ours.prompt_ids == oracle.inputs(said)["input_ids"][0].tolist()
        assert ours.utterance.finish_reason == ("stop" if END in stream else "length")
        if END in stream:
            first = stream[(stream == END).any(axis=1).argmax()]
            enders |= set(np.flatnonzero(first == END).tolist())
    codes_equal([alone], [spoken[1]])
    assert len(enders) >= 3, "the conversations no longer end by different codebooks"


async def test_a_clip_of_n_frames_is_n_frames(tmp_path: Path, opened: Open) -> None:
    """The end frame is no frame: n codes, 960 n samples. The cap cuts only what it must, and says so."""
    frames = 30
    counting = write_tiny_higgs(tmp_path, first_id=SMALL_FIRST_ID, counting=frames)
    caps = [CAP, frames + 8, frames + 7, 9]  # one step begins, seven more complete the last frame
    async with opened(counting) as engine:
        spoken = [await engine.say(*request_of(Said("Count."), max_new_tokens=cap)) for cap in caps]
    utterances = [one.utterance for one in spoken]
    assert [one.frames for one in utterances] == [frames, frames, frames - 1, 1]
    assert [one.finish_reason for one in utterances] == ["stop", "stop", "length", "length"]
    for one in spoken:
        assert one.codes[0].tolist() == list(range(one.utterance.frames))
        assert one.utterance.waveform.shape == (960 * one.utterance.frames,)
        assert np.abs(one.utterance.waveform).max() <= 1


async def test_the_waveform_is_the_codecs_of_the_codes(engine: HiggsEngine, codec_folder: Path) -> None:
    """Clips that are decoded together sound as each decoded alone, whole."""
    spoken = await say_all(engine, CONVERSATIONS[:4])
    model = tokenizer_classes()[1].from_pretrained(codec_folder).eval()
    for one in spoken:
        with torch.inference_mode():
            whole = (
                model.decode(torch.from_numpy(one.codes[None].astype(np.int64))).audio_values[0, 0].numpy()
            )
        np.testing.assert_allclose(one.utterance.waveform, np.clip(whole, -1, 1), atol=1e-5)


SAMPLED: dict[str, Any] = {
    "temperature": 0.9,
    "top_k": 80,
    "top_p": 0.95,
    "ras_win_len": 7,
    "max_new_tokens": 60,
}


async def test_the_same_request_and_seed_say_the_same_codes_beside_anybody(engine: HiggsEngine) -> None:
    """Alone, in company, in another slot, with the voice's prefix remembered or not: the same codes."""
    mine = request_of(CONVERSATIONS[1], **SAMPLED, seed=77)
    engine._loop._runner.forget_prefixes()
    cold = await engine.say(*mine)
    crowd = [
        engine.say(*request_of(said, **SAMPLED | {"seed": seed, "max_new_tokens": 30 + seed}))
        for seed, said in enumerate(CONVERSATIONS)
    ]
    among = [*crowd[:4], engine.say(*mine), *crowd[4:]]
    warm_in_company = (await asyncio.gather(*among, return_exceptions=True))[4]
    assert isinstance(warm_in_company, Spoken)
    runner = engine._loop._runner
    assert len(runner._prefixes) >= 4
    runner.forget_prefixes()
    cold_again = await engine.say(*mine)
    codes_equal([cold, cold], [warm_in_company, cold_again])
    assert cold.utterance.seed == 77


async def test_the_engine_tells_what_its_codes_hang_on(engine: HiggsEngine) -> None:
    """Device, number format, slots and versions, for whoever wants the same codes again."""
    assert engine.facts == {
        "engine": "higgs",
        "device": "cpu",
        "dtype": "float32",
        "slots": 3,
        "slot_length": 384,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    assert {type(value) for value in engine.facts.values()} <= {str, int}


async def test_a_seed_is_drawn_and_told_where_none_is_given(tmp_path: Path, opened: Open) -> None:
    """Two clips without a seed differ; the seed that the first reports says it again."""
    endless = write_tiny_higgs(tmp_path, first_id=SMALL_FIRST_ID, ending=False)
    async with opened(endless) as engine:
        one, two = await say_all(engine, [CONVERSATIONS[0]] * 2, **SAMPLED)
        again = await engine.say(*request_of(CONVERSATIONS[0], **SAMPLED, seed=one.utterance.seed))
    assert one.utterance.seed != two.utterance.seed
    assert not np.array_equal(one.codes, two.codes)
    codes_equal([one], [again])


async def test_a_remembered_voice_is_not_prefilled_again(
    engine: HiggsEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second chunk in a voice prefills its own text only, and its sample is not loaded again."""
    engine._loop._runner.forget_prefixes()
    decoder = engine._loop._runner._decoder
    prefilled: list[int] = []
    prefill = decoder.prefill

    def counted(runs: Any, start: int, cache: Any) -> None:
        prefilled.append(sum(len(run.tokens) for run in runs))
        prefill(runs, start, cache)

    monkeypatch.setattr(decoder, "prefill", counted)
    first = await engine.say(*request_of(CONVERSATIONS[1]))
    request, _ = request_of(CONVERSATIONS[5])
    second = await engine.say(request, _never_loaded)
    assert sum(prefilled[:2]) == len(first.prompt_ids)
    assert len(prefilled) == 3
    assert prefilled[2] == len(second.prompt_ids) - prefilled[0]


async def _never_loaded() -> VoiceSample:
    raise AssertionError("the sample was loaded")


async def test_prefixes_that_do_not_fit_are_not_kept(small_checkpoint: Path, opened: Open) -> None:
    """With no room to remember a prefix everything is prefilled each time, to the same codes."""
    async with opened(small_checkpoint, replace(OPTIONS, prefix_cache_bytes=1)) as engine:
        spoken = [await engine.say(*request_of(CONVERSATIONS[n])) for n in (1, 5, 1)]
        assert len(engine._loop._runner._prefixes) == 0
    codes_equal([spoken[0]], [spoken[2]])


def test_the_prefix_cache_stays_within_its_bytes() -> None:
    """Whoever was used longest ago leaves; what is kept is a copy."""
    entry = torch.ones(10)  # 40 bytes
    cache = PrefixCache(100)
    for key in (b"a", b"b"):
        cache.put(key, entry)
    assert cache.get(b"a") is not None
    cache.put(b"c", entry)
    cache.put(b"larger than all", torch.ones(30))
    entry.zero_()
    kept = [key for key in (b"a", b"b", b"c", b"larger than all") if cache.get(key) is not None]
    assert kept == [b"a", b"c"]
    assert cache.get(b"a").sum() == 10  # type: ignore[union-attr]  # it was kept


def test_the_step_never_waits_for_a_value(small_checkpoint: Path) -> None:
    """It runs on tensors that have shapes and no values, and so can be held by a CUDA graph."""
    cpu = torch.device("cpu")
    model = load_language_model(small_checkpoint, cpu)
    decoder = Decoder(model, device=cpu, max_positions=64)
    runner = ModelRunner(decoder, slots=2, slot_length=64, prefix_bytes=0)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.inference_mode():
        runner._step()


def test_the_samples_end_counts_as_spoken_just_before(small_checkpoint: Path) -> None:
    """Behind the begin code repetition-aware sampling sees what transformers does: the prompt's audio."""
    cpu = torch.device("cpu")
    model = load_language_model(small_checkpoint, cpu)
    runner = ModelRunner(
        Decoder(model, device=cpu, max_positions=64), slots=2, slot_length=64, prefix_bytes=0
    )
    stream = delay(np.arange(80).reshape(8, 10).astype(np.int16))
    prompt = Prompt(
        (Segment(np.arange(3)), Segment(np.zeros(19, dtype=np.int64), stream)), (Segment(np.arange(4)),)
    )
    sequence = Sequence(prompt, Sampling(0, 1, 1, 0, 7, 2), 20, slot=1)
    with torch.inference_mode():
        runner._rows.history[1] = 5  # an earlier request's leavings
    runner.admit(sequence)
    history = runner._rows.history[1]
    np.testing.assert_array_equal(history[-19:], stream)  # steps -19 to -1 of the ring
    assert (history[:-19] == 1024).all()
    assert (runner._rows.history[0] == 1024).all()


def test_no_slot_and_no_company_leaves_a_trace_in_the_codes(small_checkpoint: Path) -> None:
    """Alone in the first slot, or in the last one after somebody else and beside others: the same codes."""
    cpu = torch.device("cpu")
    decoder = Decoder(load_language_model(small_checkpoint, cpu), device=cpu, max_positions=128)
    runner = ModelRunner(decoder, slots=3, slot_length=128, prefix_bytes=0)

    def stream(slot: int, seed: int, *company: Sequence) -> NDArray[Any]:
        sampling = Sampling(temperature=0.9, top_k=80, top_p=0.95, seed=seed, ras_window=7, ras_repeats=2)
        mine = Sequence(Prompt((Segment(np.arange(9)),), (Segment(np.arange(5)),)), sampling, 60, slot=slot)
        for one in (*company, mine):
            runner.admit(one)
        runner.run([mine], 60)
        return runner.stream(mine).get()

    alone = stream(0, 2**40 + 7)
    assert not np.array_equal(stream(2, 7), alone), "a seed's upper half counts too"
    loud = Sampling(temperature=2, top_k=1026, top_p=1, seed=1, ras_window=0, ras_repeats=0)
    beside = [
        Sequence(Prompt((Segment(np.arange(1)),), (Segment(np.arange(39)),)), loud, 88, slot=slot)
        for slot in (0, 1)
    ]
    np.testing.assert_array_equal(stream(2, 2**40 + 7, *beside), alone)


# Nobody's trouble becomes a neighbour's


async def test_cancelling_frees_the_slot(tmp_path: Path, opened: Open) -> None:
    """A request that is taken back while it speaks, or while it waits, leaves its place to the next."""
    endless = write_tiny_higgs(tmp_path, first_id=SMALL_FIRST_ID, ending=False)
    long = request_of(CONVERSATIONS[0], max_new_tokens=300)
    async with opened(endless, replace(OPTIONS, slots=1)) as engine:
        speaking, waiting = (asyncio.ensure_future(engine.say(*long)) for _ in range(2))
        scheduler = engine._loop._scheduler
        async with asyncio.timeout(60):
            while not scheduler.waiting:  # noqa: ASYNC110  # another thread's doing
                await asyncio.sleep(0.001)
        taken_back = scheduler.everyone()
        for task in (waiting, speaking):
            task.cancel()
        survivor = await engine.say(*request_of(CONVERSATIONS[1], max_new_tokens=20))
        assert survivor.utterance.frames == 12
        for task in (speaking, waiting):
            with pytest.raises(asyncio.CancelledError):
                await task
        assert scheduler.everyone() == []
        assert [one.status for one in taken_back] == [Status.DROPPED] * 2


@pytest.mark.parametrize("cloned", [False, True])
async def test_what_does_not_fit_is_refused_with_the_three_numbers(
    tmp_path: Path, opened: Open, cloned: bool
) -> None:
    """A cap is cut to what the slot has left, and `length` says so; below half of it the request is refused.

    Prompt, voice and max_new_tokens are named; what the text alone exceeds is refused undownloaded.
    """
    endless = write_tiny_higgs(tmp_path, first_id=SMALL_FIRST_ID, ending=False)
    said = CONVERSATIONS[1] if cloned else CONVERSATIONS[0]
    async with opened(endless, replace(OPTIONS, slots=1, slot_length=192)) as engine:
        fits = await engine.say(*request_of(said, max_new_tokens=20))
        voice = 0 if not cloned else 32 + 9  # frames of 30,000 samples, and their begin, end and delay
        words = len(fits.prompt_ids) - voice
        room = 192 - words - voice
        filled = [await engine.say(*request_of(said, max_new_tokens=cap)) for cap in (room, 2 * room)]
        with pytest.raises(ContractError) as caught:
            await engine.say(*request_of(said, max_new_tokens=2 * room + 1))
        with pytest.raises(ContractError):
            await engine.say(request_of(CONVERSATIONS[1], max_new_tokens=380)[0], _never_loaded)
    assert [(one.utterance.frames, one.utterance.finish_reason) for one in filled] == [
        (room - 8, "length")
    ] * 2
    codes_equal(filled[:1], filled[1:])
    codes_equal([fits], [replace(filled[0], codes=filled[0].codes[:, :12])])
    failure = caught.value.failure
    assert failure.error_code == ErrorCode.REQUEST_TOO_LONG
    assert not failure.retryable
    for number in (f"prompt {words}", f"voice {voice}", f"max_new_tokens {2 * room + 1}", "192"):
        assert number in failure.error


def test_a_full_chunk_fits_a_slot_of_the_default_length() -> None:
    """500 characters in a voice of 30 s, a third slower than expected; and 32 such slots fit into 24 GB."""
    length = WorkerSettings.model_fields["slot_length"].default
    voice = 30 * FRAME_RATE + 9
    words = 60 + (500 + 450) // 3  # of the layout; of text and transcript, at three characters a token
    text = ("The leaders of the company promised that investment would follow before the winter. " * 6)[:500]
    assert length - voice - words >= 1.35 * expected_seconds(text) * FRAME_RATE
    # Bytes: 5.377e9 weights in bfloat16 and the codec's 0.2e9 in float32; 28 layers of 8 key heads.
    weights = 2 * 5.377e9 + 4 * 0.2e9
    slots = HIGGS_SLOTS * length * 28 * 2 * 8 * 128 * 2
    prefixes = WorkerSettings.model_fields["prefix_cache_mb"].default << 20
    assert weights + slots + prefixes < 22e9  # two are left for libraries and what the codec works with


async def test_too_few_steps_for_a_frame_are_refused(engine: HiggsEngine) -> None:
    """Eight steps only begin; the refusal names the field."""
    with pytest.raises(ContractError, match="max_new_tokens") as caught:
        await engine.say(*request_of(CONVERSATIONS[0], max_new_tokens=8))
    assert caught.value.failure.error_code == ErrorCode.INVALID_INPUT


async def test_a_bad_request_hurts_no_neighbour(engine: HiggsEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample that cannot be had, context that is no audio, a prefill that fails: only their clips do."""

    async def broken() -> VoiceSample:
        raise ContractError(ErrorCode.SAMPLE_UNREACHABLE, "gone")

    good = request_of(CONVERSATIONS[0])
    garbled = request_of(CONVERSATIONS[4], previous_audio_base64="AAAA")
    alone = await engine.say(*good)
    runner = engine._loop._runner
    admit = runner.admit

    def picky(sequence: Any) -> Any:
        if sequence.sampling.seed == 13:
            raise ValueError("no such thing")
        return admit(sequence)

    monkeypatch.setattr(runner, "admit", picky)
    requests = [
        (request_of(CONVERSATIONS[3], audio_sha256="0" * 64)[0], broken),
        garbled,
        request_of(CONVERSATIONS[2], seed=13),
        good,
    ]
    outcomes = await asyncio.gather(*(engine.say(*one) for one in requests), return_exceptions=True)
    assert [type(one) for one in outcomes] == [ContractError, ContractError, ValueError, Spoken]
    assert isinstance(outcomes[3], Spoken)
    codes_equal([alone], [outcomes[3]])


async def test_out_of_memory_while_prefilling_costs_the_prefixes_first(
    engine: HiggsEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered goes first; if that does not help, the newest request is sent back."""
    before = await engine.say(*request_of(CONVERSATIONS[0]))
    runner = engine._loop._runner
    admit = runner.admit

    def tight(sequence: Any) -> Any:
        if len(runner._prefixes) or sequence.sampling.seed == 13:
            raise torch.OutOfMemoryError
        return admit(sequence)

    monkeypatch.setattr(runner, "admit", tight)
    requests = [request_of(CONVERSATIONS[0]), request_of(CONVERSATIONS[1], seed=13)]
    saved, shed = await asyncio.gather(*(engine.say(*one) for one in requests), return_exceptions=True)
    assert isinstance(saved, Spoken)
    codes_equal([before], [saved])
    assert isinstance(shed, ContractError)
    assert (shed.failure.error_code, shed.failure.retryable) == (ErrorCode.OUT_OF_MEMORY, True)


async def test_out_of_memory_while_decoding_sheds_the_newest(
    engine: HiggsEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request that was admitted last goes back; those before it say what they would have said."""
    before = await say_all(engine, CONVERSATIONS[:2])
    runner = engine._loop._runner
    run = runner.run

    def tight(sequences: Any, steps: int) -> Any:
        if len(tuple(sequences)) == 3:
            raise torch.OutOfMemoryError
        return run(sequences, steps)

    monkeypatch.setattr(runner, "run", tight)
    requests = [request_of(said) for said in CONVERSATIONS[:3]]
    *kept, shed = await asyncio.gather(*(engine.say(*one) for one in requests), return_exceptions=True)
    assert isinstance(shed, ContractError)
    assert shed.failure.error_code == ErrorCode.OUT_OF_MEMORY
    codes_equal(before, [one for one in kept if isinstance(one, Spoken)])


async def test_a_lost_device_ends_the_worker(
    small_checkpoint: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everyone is told to try again, at once and afterwards, and the process is told to end."""
    fatal: list[BaseException] = []
    async with opened(small_checkpoint, on_fatal=fatal.append) as engine:
        monkeypatch.setattr(engine._loop._runner, "run", _lost)
        outcomes = [
            *await asyncio.gather(
                *(engine.say(*request_of(said)) for said in CONVERSATIONS), return_exceptions=True
            ),
            *await asyncio.gather(engine.say(*request_of(CONVERSATIONS[0])), return_exceptions=True),
        ]
    for one in outcomes:
        assert isinstance(one, ContractError)
        assert (one.failure.error_code, one.failure.retryable) == (ErrorCode.ENGINE_FAILURE, True)
    assert [type(error) for error in fatal] == [torch.AcceleratorError]


async def test_a_device_lost_to_the_codec_ends_the_worker_too(
    small_checkpoint: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever thread meets it first."""
    fatal: list[BaseException] = []
    async with opened(small_checkpoint, on_fatal=fatal.append) as engine:
        monkeypatch.setattr(engine._vocoder._codec, "decode", _lost)
        with pytest.raises(ContractError) as caught:
            await engine.say(*request_of(CONVERSATIONS[0]))
    assert (caught.value.failure.error_code, caught.value.failure.retryable) == (
        ErrorCode.ENGINE_FAILURE,
        True,
    )
    assert [type(error) for error in fatal] == [torch.AcceleratorError]


def _lost(*_: Any) -> Any:
    raise torch.AcceleratorError("device gone")


def test_the_process_ends_with_a_status_that_says_so(small_checkpoint: Path, codec_folder: Path) -> None:
    """Not zero, and without waiting for anything: the platform replaces the worker."""
    code = """
import asyncio, sys, torch
from pathlib import Path
from gpu_worker.higgs.engine import EngineOptions, HiggsEngine
from narration.contract import SynthesisRequest

def lost(*_):
    raise torch.AcceleratorError("device gone")

options = EngineOptions(slots=1, slot_length=256, prefix_cache_bytes=0, voices=1)
folders = map(Path, sys.argv[1:])
engine = HiggsEngine.load(*folders, model="m", device="cpu", options=options)
engine._loop._runner.run = lost
asyncio.run(engine.say(SynthesisRequest(prompt="x", max_new_tokens=20), None))
"""
    root = Path(__file__).parents[1]
    ended = run_python("-c", code, small_checkpoint, codec_folder, PYTHONPATH=root, OMP_NUM_THREADS=1)
    assert ended.returncode == 1, ended.stderr
    assert "the device or the engine is lost (AcceleratorError)" in ended.stderr


async def test_a_waveform_stays_within_full_scale(codec_folder: Path) -> None:
    """The codec's net has no bound of its own; what it overdrives is clipped, and does not wrap later."""
    codec = Codec.load(codec_folder, "cpu")

    class Loud(Codec):
        def decode(self, given: Any) -> list[Wave]:
            return [100 * waveform for waveform in codec.decode(given)]

    vocoder = CodecThread(Loud(codec._model, torch.device("cpu")))
    waveform = await vocoder.decode(np.full((8, 4), 5, dtype=np.int16))
    vocoder.close()
    assert (waveform.min(), waveform.max()) == (-1, 1)


async def test_clips_too_many_for_the_codec_together_are_decoded_one_by_one(codec_folder: Path) -> None:
    """Out of memory in the codec costs time, and at worst the one clip that alone is too large."""
    codec = Codec.load(codec_folder, "cpu")
    clips = [np.full((8, frames), frames, dtype=np.int16) for frames in (3, 4, 5)]

    class Tight(Codec):
        def encode(self, waveform: Wave) -> Codes:
            time.sleep(0.2)
            return codec.encode(waveform)

        def decode(self, given: Any) -> list[Wave]:
            if len(given) > 1 or given[0].shape[1] == 5:
                raise torch.OutOfMemoryError
            return codec.decode(given)

    vocoder = CodecThread(Tight(codec._model, torch.device("cpu")))
    busy = asyncio.ensure_future(vocoder.encode(BERT))  # so that the clips gather behind it
    await asyncio.sleep(0.05)
    *decoded, refused = await asyncio.gather(*map(vocoder.decode, clips), return_exceptions=True)
    assert len(await busy) == 8
    vocoder.close()
    for ours, whole in zip(decoded, codec.decode(clips[:2]), strict=True):
        assert isinstance(ours, np.ndarray)
        np.testing.assert_array_equal(ours, whole)
    assert isinstance(refused, torch.OutOfMemoryError)


async def test_draining_finishes_what_was_admitted_and_takes_no_more(
    small_checkpoint: Path, opened: Open
) -> None:
    """Requests under way get their clips; one that comes now is told to go elsewhere."""
    async with opened(small_checkpoint) as engine:
        under_way = [asyncio.ensure_future(engine.say(*request_of(said))) for said in CONVERSATIONS]
        await asyncio.sleep(0)
        draining = asyncio.ensure_future(engine.drain())
        await asyncio.sleep(0)
        with pytest.raises(ContractError) as caught:
            await engine.say(*request_of(CONVERSATIONS[0]))
        assert (caught.value.failure.error_code, caught.value.failure.retryable) == (
            ErrorCode.SHUTTING_DOWN,
            True,
        )
        assert all(one.utterance.frames for one in await asyncio.gather(*under_way))
        await draining


async def test_timings_tell_where_a_clips_time_went(tmp_path: Path, opened: Open) -> None:
    """Its voice, its place in the queue, prefill, decode and codec, which together are all there is."""
    endless = write_tiny_higgs(tmp_path, first_id=SMALL_FIRST_ID, ending=False)

    async def slow() -> VoiceSample:
        await asyncio.sleep(0.2)
        return await loader("What Bert says.", BERT)()

    async with opened(endless, replace(OPTIONS, slots=1)) as engine:
        cloned = await engine.say(request_of(CONVERSATIONS[3])[0], slow)
        first, second = await say_all(engine, [CONVERSATIONS[0]] * 2, max_new_tokens=300)
    spent = [one.utterance.timings for one in (cloned, first, second)]
    assert spent[0].voice >= 0.2
    assert spent[1].voice < spent[1].decode
    assert spent[1].queue < spent[1].decode / 2 < spent[2].queue  # one slot: the second waits for the first
    for timings in spent:
        parts = (timings.voice, timings.queue, timings.prefill, timings.decode, timings.codec)
        assert min(parts[2:]) > 0
        assert sum(parts) == pytest.approx(timings.total, rel=0.01)


# What is loaded


def test_an_engine_has_spoken_before_it_takes_work(
    small_checkpoint: Path, codec_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A voice is encoded, prefilled and spoken, a clip decoded; none of it is kept."""
    used: list[str] = []
    for room, name in (
        (Codec, "encode"),
        (Codec, "decode"),
        (Decoder, "prefill"),
        (Decoder, "next_logits"),
    ):
        monkeypatch.setattr(room, name, _noted(used, name, getattr(room, name)))
    engine = HiggsEngine.load(small_checkpoint, codec_folder, model="m", device="cpu", options=OPTIONS)
    assert list(dict.fromkeys(used)) == ["encode", "prefill", "next_logits", "decode"]
    assert len(engine._loop._runner._prefixes) == 0
    assert engine._loop._scheduler.idle
    asyncio.run(engine.drain())


def _noted(used: list[str], name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*given: Any) -> Any:
        used.append(name)
        return work(*given)

    return noted


@pytest.mark.parametrize("where", ["run", "__init__"])
def test_slots_that_do_not_fit_fail_the_load_and_say_so(
    where: str, small_checkpoint: Path, codec_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the cache does not fit, or the first step beside it: the sizes are named, nothing is served."""

    def tight(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(ModelRunner, where, tight)
    with pytest.raises(ModelError, match="3 slots of 384 tokens do not fit into the memory of cpu"):
        HiggsEngine.load(small_checkpoint, codec_folder, model="m", device="cpu", options=OPTIONS)
