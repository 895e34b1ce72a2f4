"""Facts of any shape that are passed on as they came: JSON, and nothing that only Python takes for it."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator


def _is_json(value: dict[str, Any]) -> dict[str, Any]:
    """Infinity is no JSON, though readers make it of 1e999: published again, it would become null."""
    json.dumps(value, allow_nan=False)
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_is_json)]
