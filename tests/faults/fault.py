"""What a fault of the matrix is, and how it is put before the endpoint, the worker or the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from support.proxy_actions import Action

from faults.narration_case import NarrationCase

ALWAYS = 1_000_000  # requests
ERROR_PAGE = b"<html><body><h1>Attention Required!</h1> Ray ID: 7</body></html>"

Arrange = Callable[[NarrationCase], object]
"""Arranges a fault for a narration that is run afterwards."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, and what a narration of four chunks may come to under it.

    The narration ends `complete`, or it `fails` with a message that contains each of `message`.
    At most `lost` jobs are destroyed by the fault and paid again. `row` is the first cell of the
    row in `docs/faults.md` that stands for it.
    """

    name: str
    row: str
    arrange: Arrange
    ends: Literal["complete", "fails"] = "complete"
    lost: int = 0
    message: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def at_endpoint(method: str, path: str, action: Action, *, skip: int = 0, times: int = 1) -> Arrange:
    """The fault meets the pipeline's requests to the endpoint."""
    return lambda case: case.services.endpoint_proxy.add_rule(method, path, action, skip=skip, times=times)


def at_worker(method: str, path: str, action: Action, *, skip: int = 0, times: int = 1) -> Arrange:
    """The fault meets the worker's requests to the endpoint."""
    return lambda case: case.services.worker_proxy.add_rule(method, path, action, skip=skip, times=times)


def at_store(method: str, path: str, action: Action, *, skip: int = 0, times: int = 1) -> Arrange:
    """The fault meets the pipeline's requests to the S3 server."""
    return lambda case: case.services.store_proxy.add_rule(method, path, action, skip=skip, times=times)
