"""One request to a speech server: within a time and a size, with a typed failure for every bad outcome.

| outcome | code | retryable |
|---|---|---|
| no connection, connection lost, no complete answer in time | `engine_failure` | yes |
| 408, 425, 429, 5xx | `engine_failure` | yes |
| another 4xx, a redirect | `speech_server_refused` | no |
| a success that is JSON or text, compressed, or too large | `engine_failure` | yes |

No message holds the key: where the server quotes it, it is replaced. Redirects are not followed, since the
key and the voice sample would go with them.
"""

from __future__ import annotations

import asyncio
import json
import logging

import httpx

from gpu_worker.speech_server.options import SpeechServerOptions
from gpu_worker.speech_server.request_body import Body
from gpu_worker.speech_server.response_audio import SpeechResponse
from narration.contract import ContractError, ErrorCode

CONNECT_SECONDS = 10.0
MAX_ERROR_BYTES = 65_536  # read of a response that is not audio
MAX_REASON_CHARACTERS = 200
_TRY_AGAIN = frozenset({408, 425, 429})  # beside every status from 500
_REFUSED_KEY = frozenset({401, 403})
_MESSAGE_FIELDS = ("error", "message", "detail", "msg")
_MAX_ERROR_DEPTH = 4

# httpx logs whole URLs at INFO.
logging.getLogger("httpx").setLevel(logging.WARNING)


class SpeechServer:
    """Sends requests to a speech server, each over a connection of its own.

    No connection is kept, so that nothing is bound to an event loop: the worker drains its engine on another.
    """

    def __init__(self, options: SpeechServerOptions) -> None:
        self._options = options
        self._headers = {"Accept-Encoding": "identity"}
        if options.key is not None:
            self._headers["Authorization"] = f"Bearer {options.key}"
        self._tls = httpx.create_ssl_context(trust_env=False)

    async def speak(self, body: Body, *, max_bytes: int) -> SpeechResponse:
        """POST `body`; return the response's audio, of at most `max_bytes`. Raises `ContractError`.

        Cancelling the awaiting task closes the connection, by which the server learns of it.
        """
        seconds = self._options.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._post(body, max_bytes)
        except TimeoutError:
            raise _failure(f"gave no complete answer within {seconds:g} s") from None
        except httpx.HTTPError as error:
            raise _failure(
                f"cannot be reached, or the connection was lost ({type(error).__name__})"
            ) from None

    async def _post(self, body: Body, max_bytes: int) -> SpeechResponse:
        timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)  # the whole request has its own limit
        async with (
            httpx.AsyncClient(verify=self._tls, trust_env=False, timeout=timeout) as client,
            client.stream("POST", self._options.url, json=body, headers=self._headers) as response,
        ):
            if response.status_code != 200:
                raise self._error(response.status_code, await _read(response, MAX_ERROR_BYTES))
            content_type = response.headers.get("content-type", "")
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise _failure("compresses its answer, though the request says not to")
            if _is_text(content_type):
                reason = self._reason(await _read(response, MAX_ERROR_BYTES))
                raise _failure(f"sent {content_type.partition(';')[0]} instead of audio{reason}")
            content = await _read(response, max_bytes + 1)
            if len(content) > max_bytes:
                raise _failure(f"sent more than {max_bytes} bytes of audio")
            if _is_json(content):
                raise _failure(f"sent JSON instead of audio{self._reason(content)}")
            truncated = response.headers.get("x-audio-truncated", "").lower() == "true"
            return SpeechResponse(content, content_type, truncated=truncated)

    def _error(self, status: int, content: bytes) -> ContractError:
        if status in _TRY_AGAIN or status >= 500:
            return _failure(f"answered {status}{self._reason(content)}")
        if status in _REFUSED_KEY:
            remedy = "set WORKER_SPEECH_KEY to its key"
        elif 300 <= status < 400:
            remedy = "it redirects: set WORKER_SPEECH_URL to where it is"
        else:
            remedy = f"see WORKER_SPEECH_URL, _MODEL, _VOICE and _API{self._reason(content)}"
        return ContractError(
            ErrorCode.SPEECH_SERVER_REFUSED, f"the speech server answered {status}: {remedy}"
        )

    def _reason(self, content: bytes) -> str:
        """The server's own words in a JSON error, on one line after a colon; empty where there are none."""
        words = _find_message(content)
        if self._options.key is not None:
            words = words.replace(self._options.key, "***")
        words = " ".join(words.split())[:MAX_REASON_CHARACTERS]
        return f": {words}" if words else ""


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    """The first `max_bytes` of the response's content, or all of it."""
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) >= max_bytes:
            break
    return bytes(content[:max_bytes])


def _is_text(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.startswith("text/")


def _is_json(content: bytes) -> bool:
    """Whether the content is a JSON object or list, whatever its Content-Type says."""
    if content[:1] not in {b"{", b"["}:
        return False
    try:
        json.loads(content)
    except (ValueError, RecursionError):
        return False
    return True


def _find_message(content: bytes) -> str:
    """The message in a JSON error as OpenAI, FastAPI and others shape it; empty where there is none."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    for _ in range(_MAX_ERROR_DEPTH):
        if isinstance(value, list):
            value = value[0] if value else ""
        elif isinstance(value, dict):
            value = next((value[name] for name in _MESSAGE_FIELDS if value.get(name)), "")
    return value if isinstance(value, str) else ""


def _failure(what: str) -> ContractError:
    return ContractError(ErrorCode.ENGINE_FAILURE, f"the speech server {what}")
