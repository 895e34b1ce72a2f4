"""Scripts for the deployments, one chunk a paragraph, no two with a paragraph in common; and waiting."""

from __future__ import annotations

import time
from collections.abc import Callable

from support.deployments import Deployed

START_SECONDS = 300.0  # until a run's process is at work, on a loaded machine


def script(name: str, paragraphs: int = 3) -> str:
    """The script called `name`."""
    lines = [
        f"This is paragraph {number} of the script called {name}, and it says nothing else of importance."
        for number in range(1, paragraphs + 1)
    ]
    return "\n\n".join(lines) + "\n"


def texts_of(name: str) -> list[str]:
    """The texts of the chunks of the script called `name`."""
    return script(name).strip().split("\n\n")


def store_script(deployed: Deployed, name: str, paragraphs: int = 3) -> str:
    """Put the script called `name` into the store; its reference."""
    return deployed.store.scripts.put(script(name, paragraphs).encode(), ".md")


def wait_for(deployed: Deployed, reached: Callable[[], object], seconds: float = START_SECONDS) -> None:
    """Wait until `reached` is true."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, deployed.log()
        time.sleep(0.1)
