"""Prompt: a request's texts and codes as token ids, in the layout the model was trained on.

system     the system prompt, then the scene between its markers
user       the transcript of the voice sample  } with a voice sample
assistant  the codes of the voice sample       }
user       the text of the chunk before        } with context
assistant  the codes of the chunk before       }
user       the text to synthesize
assistant  (the model continues here)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer

from gpu_worker.checkpoints.source import ModelError
from gpu_worker.higgs.delay_pattern import CODEBOOKS, STEPS_AFTER_END, Codes, Stream, delay
from narration.contract import ContractError, ErrorCode

_REQUIRED = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|audio_out_bos|>", "<|audio_eos|>")


@dataclass(frozen=True, slots=True, eq=False)
class PromptPart:
    """Neighbouring tokens of one kind: text, or audio with its `stream` [len(ids), 8] and placeholder ids."""

    ids: NDArray[np.int64]
    stream: Stream | None = None

    @property
    def is_audio(self) -> bool:
        """Whether the tokens are audio codes."""
        return self.stream is not None


@dataclass(frozen=True, eq=False)
class Prompt:
    """A request's tokens: `prefix` is the same for all chunks in one voice, `suffix` is the rest."""

    prefix: tuple[PromptPart, ...]
    suffix: tuple[PromptPart, ...]

    @cached_property
    def ids(self) -> list[int]:
        """All token ids, as the published chat template gives them."""
        return [int(token) for part in (*self.prefix, *self.suffix) for token in part.ids]

    @cached_property
    def audio_tokens(self) -> int:
        """Number of audio tokens: those of the voice sample and of the context."""
        return sum(len(part.ids) for part in (*self.prefix, *self.suffix) if part.is_audio)

    @cached_property
    def prefix_length(self) -> int:
        """Number of tokens in the prefix."""
        return sum(len(part.ids) for part in self.prefix)

    @cached_property
    def prefix_key(self) -> bytes:
        """SHA-256 of the prefix's content: equal for equal voice, transcript, system prompt and scene."""
        sha = hashlib.sha256()
        for part in self.prefix:
            sha.update(f"{len(part.ids)} {part.is_audio};".encode())
            sha.update(part.ids.tobytes())
            sha.update(b"" if part.stream is None else part.stream.tobytes())
        return sha.digest()

    def context_codes(self, steps: int) -> Stream:
        """The last `steps` rows [steps, 8] of the prompt's last audio; fewer if it is shorter or absent."""
        streams = [part.stream for part in (*self.prefix, *self.suffix) if part.stream is not None]
        return streams[-1][-steps:] if streams else np.empty((0, CODEBOOKS), dtype=np.int16)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedSpeech:
    """A recording as the model reads it: its text and its `codes` [8, frames]."""

    text: str
    codes: Codes


@dataclass(frozen=True, slots=True)
class _ControlToken:
    """A token of the layout, by its spelling."""

    spelling: str


_Element = _ControlToken | str | Codes
"""What a layout is made of: control tokens, texts and codes."""


class PromptBuilder:
    """Builds prompts with one checkpoint's tokenizer; no text can become a control token."""

    def __init__(self, tokenizer: Any, *, audio_token_id: int, audio_delay_token_id: int) -> None:
        self._tokenizer = tokenizer
        self._audio_token_id = audio_token_id
        self._audio_delay_token_id = audio_delay_token_id
        self._control: dict[str, int] = dict(tokenizer.get_added_vocab())
        self._control_ids = frozenset(self._control.values())
        self._bos: str = tokenizer.bos_token
        missing = [token for token in (*_REQUIRED, self._bos) if token not in self._control]
        if missing:
            raise ModelError(f"the tokenizer lacks {', '.join(missing)}: not one for Higgs Audio V2")

    @classmethod
    def load(cls, folder: Path, *, audio_token_id: int, audio_delay_token_id: int) -> PromptBuilder:
        """Load the tokenizer in the checkpoint's folder; raises `ModelError` if it lacks a control token."""
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return cls(tokenizer, audio_token_id=audio_token_id, audio_delay_token_id=audio_delay_token_id)

    def build(
        self,
        text: str,
        *,
        system: str,
        scene: str = "",
        voice: EncodedSpeech | None = None,
        previous: EncodedSpeech | None = None,
    ) -> Prompt:
        """Build the prompt for `text`; an empty `scene` is left out. Texts are stripped of white space.

        Raises `ContractError` (`invalid_input`) for a text that the tokenizer cannot keep apart
        from its control tokens.
        """
        prefix: list[_Element] = [_ControlToken(self._bos), *_header("system"), system.strip()]
        if scene.strip():
            prefix += ["\n\n", _ControlToken("<|scene_desc_start|>"), "\n", scene.strip(), "\n"]
            prefix += [_ControlToken("<|scene_desc_end|>")]
        prefix += [_ControlToken("<|eot_id|>"), *_speech_turns(voice)]
        suffix: list[_Element] = [*_speech_turns(previous), *_header("user"), text.strip()]
        suffix += [_ControlToken("<|eot_id|>"), *_header("assistant"), _ControlToken("<|audio_out_bos|>")]
        return Prompt(tuple(self._parts(prefix)), tuple(self._parts(suffix)))

    def _parts(self, elements: Iterable[_Element]) -> Iterator[PromptPart]:
        """Join neighbouring texts and control tokens into text parts; codes become audio parts."""
        ids: list[int] = []
        text = ""
        for element in elements:
            if isinstance(element, str):
                text += element  # neighbouring texts are tokenized together, as the template's are
            elif isinstance(element, _ControlToken) and element.spelling not in self._control:
                text += element.spelling  # a scene marker that this vocabulary has no token for
            else:
                ids += self._tokenize(text)
                text = ""
                if isinstance(element, _ControlToken):
                    ids.append(self._control[element.spelling])
                else:
                    yield PromptPart(np.asarray(ids, dtype=np.int64))
                    ids = []
                    yield self._audio_part(element)
        ids += self._tokenize(text)
        if ids:
            yield PromptPart(np.asarray(ids, dtype=np.int64))

    def _audio_part(self, codes: Codes) -> PromptPart:
        stream = delay(codes)
        ids = np.full(len(stream), self._audio_token_id, dtype=np.int64)
        ids[-STEPS_AFTER_END:] = self._audio_delay_token_id
        return PromptPart(ids, stream)

    def _tokenize(self, text: str) -> list[int]:
        if not text:
            return []
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        if not self._control_ids.isdisjoint(ids):
            # Possible only for an added token that the checkpoint does not declare special.
            raise ContractError(
                ErrorCode.INVALID_INPUT, "prompt: holds the spelling of one of the model's control tokens"
            )
        return ids


def _header(role: str) -> list[_ControlToken | str]:
    return [_ControlToken("<|start_header_id|>"), role, _ControlToken("<|end_header_id|>"), "\n\n"]


def _speech_turns(speech: EncodedSpeech | None) -> list[_Element]:
    """A user turn with the text and an assistant turn with the codes; nothing for None."""
    if speech is None:
        return []
    user = [*_header("user"), speech.text.strip(), _ControlToken("<|eot_id|>")]
    assistant = [*_header("assistant"), _ControlToken("<|audio_out_bos|>"), speech.codes]
    return [*user, *assistant, _ControlToken("<|audio_eos|>"), _ControlToken("<|eot_id|>")]
