"""Policy of what Prefect may look into: not the plan, not the clips."""

from __future__ import annotations

from typing import TypeVar, cast

from prefect.utilities.annotations import quote

T = TypeVar("T")


def sealed(value: T) -> T:
    """`value` as a task's argument that arrives as it is.

    Prefect walks through every argument in search of futures; a plan of five thousand chunks
    would be walked once for every chunk.
    """
    return cast("T", quote(value))
