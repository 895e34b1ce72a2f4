"""Text from outside made safe for a message or a log: one line, bounded, without control characters."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pydantic_core import from_json

from narration.escaping import single_line

MAX_CHARACTERS = 500
_MAX_DEPTH = 4  # of lists and objects inside each other
_MAX_PARTS = 20  # of a list
_REASON_KEYS = ("error_message", "message", "error", "detail", "title")
_TRACEBACK = "Traceback (most recent call last)"


def one_line(text: str, limit: int = MAX_CHARACTERS) -> str:
    """`text` on one line of at most `limit` characters, without anything that a terminal would interpret.

    Control, direction-changing and invisible characters become spaces, so that text from outside
    cannot forge a line of a log.
    """
    # Cutting first bounds the work; where spaces collapse afterwards, only words beyond the limit are lost.
    line = " ".join(single_line(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def error_reason(error: object) -> str:
    """The reason in a job's or a response's `error`, on one line, "" if it has none.

    RunPod's SDK sends an exception as a JSON text of `error_type`, `error_message` and
    `error_traceback`; validators send lists, other workers objects or plain text. Of a traceback
    only its last line is kept.
    """
    return one_line(_reason(error, depth=0))


def _reason(error: object, depth: int) -> str:
    if error is None or depth > _MAX_DEPTH:
        return ""
    if isinstance(error, str):
        return _reason_in_text(error, depth)
    if isinstance(error, Mapping):
        return _reason_in_object(error, depth)
    if isinstance(error, list):
        return "; ".join(filter(None, (_reason(part, depth + 1) for part in error[:_MAX_PARTS])))
    return str(error)


def _reason_in_text(error: str, depth: int) -> str:
    if error.lstrip().startswith(("{", "[")):
        try:
            return _reason(from_json(error), depth + 1)
        except ValueError:
            pass  # plain text that begins like JSON
    if _TRACEBACK in error:
        return _last_line(error)
    return error


def _reason_in_object(error: Mapping[str, object], depth: int) -> str:
    for key in _REASON_KEYS:
        reason = _reason(error.get(key), depth + 1)
        if reason:
            kind = re.search(r"(\w+)'?>?$", str(error.get("error_type", "")))
            return f"{kind[1]}: {_last_line(reason)}" if kind else reason
    others = {key: value for key, value in error.items() if key != "error_traceback"}
    return json.dumps(others, default=str) if others else ""


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
