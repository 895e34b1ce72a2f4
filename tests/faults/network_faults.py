"""Faults of the network and of time: endpoint and store out of reach, an hour that passes at the endpoint."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from support.proxy_actions import call_after

from faults.fault import Fault
from faults.narration_case import NarrationCase
from faults.narration_requests import SUBMIT

HOUR = 3_600.0  # s


def cut_network(
    case: NarrationCase, *, seconds: float, meanwhile: Callable[[], object] = lambda: None
) -> None:
    """Close the proxies before endpoint and store for `seconds` once a second job was accepted.

    `meanwhile` is called when they are closed.
    """
    services = case.services

    def cut() -> None:
        proxies = (services.endpoint_proxy, services.store_proxy)
        for proxy in proxies:
            services.run(proxy.close())
        meanwhile()
        time.sleep(seconds)
        for proxy in proxies:
            services.run(proxy.open())

    def start() -> None:  # in a thread of its own: the request that triggers it ends with its proxy
        threading.Thread(target=cut, daemon=True).start()

    services.endpoint_proxy.add_rule("POST", SUBMIT, call_after(start), skip=1)


def _let_an_hour_pass(case: NarrationCase) -> None:
    """Put the endpoint's clock ahead by an hour once a second job was accepted."""

    def jump() -> None:
        case.services.clock_offset += HOUR

    case.services.endpoint_proxy.add_rule("POST", SUBMIT, call_after(jump), skip=1)


NETWORK_FAULTS = [
    Fault(
        name="network gone for 3 s",
        row="network gone for some seconds",
        arrange=partial(cut_network, seconds=3.0),
        lost=1,
    ),
    Fault(
        name="an hour passes at the endpoint",
        row="an hour passes at the endpoint, so that results expire",
        arrange=_let_an_hour_pass,
        lost=3,
    ),
]
