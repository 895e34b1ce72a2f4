"""A terminal of a chosen width for a command, by a pseudo-terminal of the system."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress


def run_in_terminal(command: Sequence[str], *, columns: int = 100, **env: str) -> tuple[int, str]:
    """Run `command` on a terminal of its own; returns the exit status and all that it sent there."""
    assert sys.platform != "win32"
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        command, env=kept | {"TERM": "xterm-256color"} | env, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    sent = bytearray()
    with suppress(OSError):  # Linux reports the end of a terminal as an error
        while block := os.read(ours, 65_536):
            sent += block
    os.close(ours)
    return process.wait(), sent.decode()
