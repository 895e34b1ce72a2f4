"""Sequence builder: a request to a sequence that fits a slot, with voice and context encoded."""

from __future__ import annotations

import asyncio
import secrets

from gpu_worker.engine_protocol import SampleLoader
from gpu_worker.higgs.codec import FRAME_SAMPLES
from gpu_worker.higgs.codec_thread import CodecThread
from gpu_worker.higgs.delay_pattern import MIN_STEPS
from gpu_worker.higgs.prompt import EncodedSpeech, Prompt, PromptBuilder
from gpu_worker.higgs.sampler import Sampling
from gpu_worker.higgs.sequence import Sequence
from gpu_worker.higgs.voice_cache import VoiceCache
from gpu_worker.voices import previous_waveform
from narration.contract import ContractError, ErrorCode, SynthesisRequest


class SequenceBuilder:
    """Builds sequences for slots of `slot_length` tokens; keeps the codes of the last `voices` voices."""

    def __init__(self, prompts: PromptBuilder, codec: CodecThread, *, slot_length: int, voices: int) -> None:
        self._prompts = prompts
        self._codec = codec
        self._voices = VoiceCache(codec.encode, capacity=voices)
        self._slot_length = slot_length

    async def build(self, request: SynthesisRequest, sample: SampleLoader | None) -> Sequence:
        """The sequence of `request`; its `max_steps` are `max_new_tokens`, or what the slot has left.

        Raises `ContractError` for a request that fits no slot, and for a voice sample or context
        that cannot be loaded.
        """
        self._max_steps(request, self._prompt(request))  # refused by its text alone before any download
        voice = await self._voice(request, sample)
        previous = await self._previous(request)
        prompt = self._prompt(request, voice, previous)
        return Sequence(prompt, _sampling(request), self._max_steps(request, prompt))

    def _prompt(
        self,
        request: SynthesisRequest,
        voice: EncodedSpeech | None = None,
        previous: EncodedSpeech | None = None,
    ) -> Prompt:
        return self._prompts.build(
            request.prompt, system=request.system_prompt, scene=request.scene, voice=voice, previous=previous
        )

    def _max_steps(self, request: SynthesisRequest, prompt: Prompt) -> int:
        """Steps the slot has room for, `max_new_tokens` at most; half of `max_new_tokens` must fit.

        Half, because the pipeline asks for twice the frames that it expects.
        """
        max_new_tokens = request.max_new_tokens
        if max_new_tokens < MIN_STEPS:
            raise ContractError(
                ErrorCode.INVALID_INPUT,
                f"max_new_tokens: {max_new_tokens} yield no whole frame; {MIN_STEPS} yield one",
            )
        audio = prompt.audio_tokens
        text = len(prompt.ids) - audio
        room = self._slot_length - text - audio
        if room < max(MIN_STEPS, max_new_tokens / 2):
            raise ContractError(
                ErrorCode.REQUEST_TOO_LONG,
                f"prompt {text} + voice {audio} + max_new_tokens {max_new_tokens}"
                f" = {text + audio + max_new_tokens} tokens:"
                f" a slot of {self._slot_length} has no room for even half of max_new_tokens",
            )
        return min(max_new_tokens, room)

    async def _voice(self, request: SynthesisRequest, sample: SampleLoader | None) -> EncodedSpeech | None:
        if sample is None:
            return None
        assert request.audio_transcript is not None, "the handler sets the transcript"
        _, codes = await self._voices.codes(request.audio_sha256, sample)
        return EncodedSpeech(request.audio_transcript, codes)

    async def _previous(self, request: SynthesisRequest) -> EncodedSpeech | None:
        if request.previous_text is None:
            return None
        waveform = await asyncio.to_thread(previous_waveform, request)
        if waveform is None or len(waveform) < FRAME_SAMPLES:
            raise ContractError(ErrorCode.INVALID_INPUT, "previous_audio_base64: shorter than one frame")
        return EncodedSpeech(request.previous_text, await self._codec.encode(waveform))


def _sampling(request: SynthesisRequest) -> Sampling:
    return Sampling(
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        seed=secrets.randbits(32) if request.seed is None else request.seed,
        ras_window=request.ras_win_len,
        ras_repeats=request.ras_win_max_num_repeat,
    )
