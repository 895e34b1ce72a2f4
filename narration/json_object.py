"""The type of a JSON object with any fields, for facts that are stored and published unchanged."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import AfterValidator


def _is_json(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse infinity, which a JSON reader makes of 1e999 and a writer would turn into null."""
    json.dumps(value, allow_nan=False)
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(_is_json)]
