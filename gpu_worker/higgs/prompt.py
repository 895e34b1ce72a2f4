"""Prompt: a conversation as token ids and delayed audio, in the layout the model was trained on.

system     the instruction, then the scene between its markers
user       what the voice sample says          } with a sample
assistant  the voice sample                    }
user       what was said just before           } with context
assistant  how it was said                     }
user       the text to speak
assistant  (the model goes on from here)
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
from gpu_worker.higgs.delay_pattern import SETTLING_STEPS, Codes, Stream, delay
from narration.contract import ContractError, ErrorCode

_REQUIRED = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|audio_out_bos|>", "<|audio_eos|>")


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A run of one kind: text, or with `stream` [len(ids), 8] audio, whose ids are placeholders."""

    ids: NDArray[np.int64]
    stream: Stream | None = None


@dataclass(frozen=True, eq=False)
class Prompt:
    """`prefix` is what every chunk in the same voice shares, `own` is the rest."""

    prefix: tuple[Segment, ...]
    own: tuple[Segment, ...]

    @cached_property
    def ids(self) -> list[int]:
        """The whole prompt as the published chat template has it."""
        return [int(token) for segment in (*self.prefix, *self.own) for token in segment.ids]

    @cached_property
    def audio_positions(self) -> int:
        """How many of the prompt's tokens are audio: the sample's and the context's."""
        return sum(len(s.ids) for s in (*self.prefix, *self.own) if s.stream is not None)

    @cached_property
    def prefix_length(self) -> int:
        """Tokens of the prefix."""
        return sum(len(segment.ids) for segment in self.prefix)

    @cached_property
    def prefix_key(self) -> bytes:
        """Digest of the prefix's content: the same for the same voice, transcript, system and scene."""
        sha = hashlib.sha256()
        for segment in self.prefix:
            sha.update(f"{len(segment.ids)} {segment.stream is not None};".encode())
            sha.update(segment.ids.tobytes())
            sha.update(b"" if segment.stream is None else segment.stream.tobytes())
        return sha.digest()

    def last_audio(self, steps: int) -> Stream:
        """The newest `steps` rows of audio in the prompt, fewer if it holds fewer."""
        streams = [s.stream for s in (*self.prefix, *self.own) if s.stream is not None]
        return streams[-1][-steps:] if streams else np.empty((0, 8), dtype=np.int16)


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """Words and how they sounded: a voice sample, or the chunk spoken just before."""

    text: str
    codes: Codes


@dataclass(frozen=True, slots=True)
class _Control:
    """A token of the layout, by its text."""

    token: str


class PromptBuilder:
    """Builds prompts with one checkpoint's tokenizer; texts can never become control tokens."""

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
        """Read the tokenizer that lies in the checkpoint's folder."""
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        return cls(tokenizer, audio_token_id=audio_token_id, audio_delay_token_id=audio_delay_token_id)

    def build(
        self,
        text: str,
        *,
        system: str,
        scene: str = "",
        voice: Turn | None = None,
        previous: Turn | None = None,
    ) -> Prompt:
        """Lay out a request; `scene` empty leaves the scene out. Every text is stripped.

        Raises `ContractError` (`invalid_input`) for a text that the tokenizer cannot keep apart
        from its control tokens.
        """
        prefix: list[_Control | str | Codes] = [_Control(self._bos), *_header("system"), system.strip()]
        if scene.strip():
            prefix += ["\n\n", _Control("<|scene_desc_start|>"), "\n", scene.strip(), "\n"]
            prefix += [_Control("<|scene_desc_end|>")]
        prefix += [_Control("<|eot_id|>"), *_turn(voice)]
        own: list[_Control | str | Codes] = [*_turn(previous), *_header("user"), text.strip()]
        own += [_Control("<|eot_id|>"), *_header("assistant"), _Control("<|audio_out_bos|>")]
        return Prompt(tuple(self._segments(prefix)), tuple(self._segments(own)))

    def _segments(self, parts: Iterable[_Control | str | Codes]) -> Iterator[Segment]:
        """Join `parts` into runs of text and of audio."""
        ids: list[int] = []
        words = ""
        for part in parts:
            if isinstance(part, str):
                words += part  # neighbours are tokenized together, as the template's text is
            elif isinstance(part, _Control) and part.token not in self._control:
                words += part.token  # a scene marker that this vocabulary spells out
            else:
                ids += self._encode(words)
                words = ""
                if isinstance(part, _Control):
                    ids.append(self._control[part.token])
                else:
                    yield Segment(np.asarray(ids, dtype=np.int64))
                    ids = []
                    yield self._audio(part)
        ids += self._encode(words)
        if ids:
            yield Segment(np.asarray(ids, dtype=np.int64))

    def _audio(self, codes: Codes) -> Segment:
        stream = delay(codes)
        ids = np.full(len(stream), self._audio_token_id, dtype=np.int64)
        ids[-SETTLING_STEPS:] = self._audio_delay_token_id
        return Segment(ids, stream)

    def _encode(self, words: str) -> list[int]:
        if not words:
            return []
        ids: list[int] = self._tokenizer(words, add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]
        if not self._control_ids.isdisjoint(ids):
            # Only an added token that its checkpoint does not declare special gets here.
            raise ContractError(
                ErrorCode.INVALID_INPUT, "prompt: holds the spelling of one of the model's control tokens"
            )
        return ids


def _header(role: str) -> list[_Control | str]:
    return [_Control("<|start_header_id|>"), role, _Control("<|end_header_id|>"), "\n\n"]


def _turn(turn: Turn | None) -> list[_Control | str | Codes]:
    if turn is None:
        return []
    said = [*_header("user"), turn.text.strip(), _Control("<|eot_id|>")]
    heard = [*_header("assistant"), _Control("<|audio_out_bos|>"), turn.codes]
    return [*said, *heard, _Control("<|audio_eos|>"), _Control("<|eot_id|>")]
