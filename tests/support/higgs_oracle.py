"""Reference for the engine: transformers' own processor and `generate()` on the same conversation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoTokenizer,
    DacFeatureExtractor,
    HiggsAudioV2ForConditionalGeneration,
    HiggsAudioV2Processor,
)

from gpu_worker.higgs.codec import tokenizer_classes
from support.tiny_higgs import CHAT_TEMPLATE

Codes = NDArray[np.int16]


@dataclass(frozen=True)
class Conversation:
    """A text to synthesize and the `turns` before it: (text, waveform at 24 kHz) each."""

    text: str
    system: str = "Generate audio following instruction."
    scene: str = ""
    turns: Sequence[tuple[str, NDArray[np.float32]]] = ()

    def messages(self) -> list[dict[str, Any]]:
        """The conversation as the chat template takes it."""
        messages = [{"role": "system", "content": [{"type": "text", "text": self.system}]}]
        if self.scene:
            messages.append({"role": "scene", "content": [{"type": "text", "text": self.scene}]})
        for text, waveform in self.turns:
            messages.append({"role": "user", "content": [{"type": "text", "text": text}]})
            messages.append({"role": "assistant", "content": [{"type": "audio", "audio": waveform}]})
        return [*messages, {"role": "user", "content": [{"type": "text", "text": self.text}]}]


class Oracle:
    """transformers' path from a conversation to codes, over one model and one codec."""

    def __init__(self, model_folder: Path, codec_folder: Path) -> None:
        self._model_folder = model_folder
        self._codec_folder = codec_folder

    @cached_property
    def processor(self) -> Any:
        """The processor, with the parts that the published checkpoint's has."""
        processor = HiggsAudioV2Processor(
            DacFeatureExtractor(feature_size=1, hop_length=1, sampling_rate=24_000),
            AutoTokenizer.from_pretrained(self._model_folder),
            None,
            chat_template=CHAT_TEMPLATE,
        )
        # Set here: the constructor accepts the codec's class only where torchaudio is installed.
        processor.audio_tokenizer = tokenizer_classes()[1].from_pretrained(self._codec_folder).eval()
        return processor

    @cached_property
    def model(self) -> Any:
        """The language model in float32."""
        return HiggsAudioV2ForConditionalGeneration.from_pretrained(self._model_folder).eval()

    def inputs(self, conversation: Conversation) -> dict[str, torch.Tensor]:
        """The model's inputs: `input_ids` and, with audio, `audio_input_ids` (delayed codes)."""
        return dict(
            self.processor.apply_chat_template(
                conversation.messages(),
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        )

    def stream(self, conversation: Conversation, *, max_steps: int) -> Codes:
        """Greedy stream of `generate()`, `[steps, 8]`."""
        inputs = self.inputs(conversation)
        with torch.inference_mode():
            out = self.model.generate(
                **inputs,
                max_new_tokens=max_steps,
                do_sample=False,
                ras_win_len=None,
                ras_win_max_num_repeat=None,
            )
        context_steps = inputs["audio_input_ids"].shape[1] if "audio_input_ids" in inputs else 0
        stream: Codes = out[0, context_steps:].numpy().astype(np.int16)
        return stream

    def codes(self, conversation: Conversation, *, max_steps: int) -> Codes:
        """Greedy codes `[8, frames]`, cut before the first frame with a begin or end code."""
        return trimmed(self.stream(conversation, max_steps=max_steps))


def trimmed(stream: Codes) -> Codes:
    """Codes of a stream, computed frame by frame: codebook k of frame c is at step c + 1 + k."""
    frames = []
    for c in range(len(stream) - 8):
        frame = [int(stream[c + 1 + k][k]) for k in range(8)]
        if max(frame) >= 1024:
            break
        frames.append(frame)
    return np.array(frames, dtype=np.int16).reshape(-1, 8).T
