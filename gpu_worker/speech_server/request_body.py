"""The JSON body of a speech request: OpenAI's fields, and those that the server's kind adds.

| `WORKER_SPEECH_API` | voice sample | seed | temperature, top_p, top_k | limit of length |
|---|---|---|---|---|
| openai | none | none | none | none |
| vllm-omni | `ref_audio`, `ref_text` | `seed` | none: the server's own | `max_new_tokens` |
| sglang-omni | `references` | `seed` | of the same names | `max_new_tokens` |

Source: vLLM-Omni's `docs/serving/speech_api.md` and SGLang-Omni's `docs/cookbook`, both of October 2026. A
server drops fields that it does not know without a word, so that only known ones are sent.
"""

from __future__ import annotations

import math

from gpu_worker.speech_server.options import SpeechServerOptions
from narration.contract import FRAME_RATE, SynthesisRequest

Body = dict[str, object]

DEFAULT_VOICE = "default"  # SGLang-Omni wants a voice in every request, also where a sample is cloned
LIMIT_MARGIN_SECONDS = 1.0
"""Allowed to the server beyond the request's frames: a clip that the server cut is then longer than those."""


def request_body(options: SpeechServerOptions, request: SynthesisRequest, sample: str | None) -> Body:
    """The body for `request`; `sample` is the voice sample as a data URL.

    Control tokens in the prompt (`<|…|>`) are taken apart: they are to be characters, and Higgs Audio V3
    would obey them.
    """
    body: Body = {
        "model": options.model,
        "input": request.prompt.replace("<|", "< |"),
        "response_format": options.audio_format,
    }
    if options.voice is not None:
        body["voice"] = options.voice
    if options.api == "openai":
        return body
    if request.seed is not None:
        body["seed"] = request.seed
    if options.tokens_per_second is not None:
        seconds = request.max_new_tokens / FRAME_RATE + LIMIT_MARGIN_SECONDS
        body["max_new_tokens"] = math.ceil(seconds * options.tokens_per_second)
    if options.api == "vllm-omni":
        return body | _vllm_omni_sample(request, sample)
    body.setdefault("voice", DEFAULT_VOICE)
    sampling = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
    return body | sampling | _sglang_omni_sample(request, sample)


def _vllm_omni_sample(request: SynthesisRequest, sample: str | None) -> Body:
    return {} if sample is None else {"ref_audio": sample, "ref_text": request.audio_transcript}


def _sglang_omni_sample(request: SynthesisRequest, sample: str | None) -> Body:
    return (
        {} if sample is None else {"references": [{"audio_path": sample, "text": request.audio_transcript}]}
    )
