"""Preparation: from a request to a prompt that a slot holds, its voice and context encoded."""

from __future__ import annotations

import asyncio

from gpu_worker.engine_protocol import SampleLoader
from gpu_worker.higgs.codec import HOP
from gpu_worker.higgs.codec_thread import CodecThread
from gpu_worker.higgs.delay_pattern import MIN_STEPS
from gpu_worker.higgs.prompt import Prompt, PromptBuilder, Turn
from gpu_worker.higgs.voice_cache import VoiceCache
from gpu_worker.voices import previous_waveform
from narration.contract import ContractError, ErrorCode, SynthesisRequest


class RequestBuilder:
    """Builds prompts for slots of `slot_length` tokens, and keeps the `voices` encoded last."""

    def __init__(
        self, prompts: PromptBuilder, vocoder: CodecThread, *, slot_length: int, voices: int
    ) -> None:
        self._prompts = prompts
        self._vocoder = vocoder
        self._voices = VoiceCache(vocoder.encode, capacity=voices)
        self._slot_length = slot_length

    async def prepare(self, request: SynthesisRequest, sample: SampleLoader | None) -> tuple[Prompt, int]:
        """The prompt, and how many steps may follow it: `max_new_tokens`, or what the slot has left.

        Raises `ContractError` for what no slot holds and for a voice or context that cannot be had.
        """
        self._steps(request, self._prompt(request))  # before anything is fetched for it
        voice = await self._voice(request, sample)
        previous = await self._previous(request)
        prompt = self._prompt(request, voice, previous)
        return prompt, self._steps(request, prompt)

    def _prompt(
        self, request: SynthesisRequest, voice: Turn | None = None, previous: Turn | None = None
    ) -> Prompt:
        return self._prompts.build(
            request.prompt, system=request.system_prompt, scene=request.scene, voice=voice, previous=previous
        )

    def _steps(self, request: SynthesisRequest, prompt: Prompt) -> int:
        """Steps for which there is room: a cap is twice what is expected, so that half of it must fit."""
        cap = request.max_new_tokens
        if cap < MIN_STEPS:
            raise ContractError(
                ErrorCode.INVALID_INPUT, f"max_new_tokens: {cap} yield no whole frame; {MIN_STEPS} yield one"
            )
        voice = prompt.audio_positions
        words = len(prompt.ids) - voice
        room = self._slot_length - words - voice
        if room < max(MIN_STEPS, cap / 2):
            raise ContractError(
                ErrorCode.REQUEST_TOO_LONG,
                f"prompt {words} + voice {voice} + max_new_tokens {cap} = {words + voice + cap} tokens:"
                f" a slot of {self._slot_length} has no room for even half of max_new_tokens",
            )
        return min(cap, room)

    async def _voice(self, request: SynthesisRequest, sample: SampleLoader | None) -> Turn | None:
        if sample is None:
            return None
        assert request.audio_transcript is not None, "the handler settles the transcript"
        _, codes = await self._voices.codes(request.audio_sha256, sample)
        return Turn(request.audio_transcript, codes)

    async def _previous(self, request: SynthesisRequest) -> Turn | None:
        if request.previous_text is None:
            return None
        waveform = await asyncio.to_thread(previous_waveform, request)
        if waveform is None or len(waveform) < HOP:
            raise ContractError(ErrorCode.INVALID_INPUT, "previous_audio_base64: shorter than one frame")
        return Turn(request.previous_text, await self._vocoder.encode(waveform))
