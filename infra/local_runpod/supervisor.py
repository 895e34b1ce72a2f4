"""Runs one worker and answers for it: what the worker started dies with it, and it with our caller.

Usage: `python -m infra.local_runpod.supervisor GRACE COMMAND ...` in a process group of its own.
The worker is told to stop when standard input ends, and killed GRACE seconds later.

The SDK's loop pings from a child process, which outlives a loop that is killed and goes on
speaking for it. That is why one process stands above both and ends the whole group.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main(grace: str, *command: str) -> None:
    """Run `command` until it ends or standard input does; then leave nothing of it behind."""
    if sys.platform == "win32":
        from infra.local_runpod.windows_job import die_together  # noqa: PLC0415 -- ctypes.windll is elsewhere missing

        die_together()
    worker = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 -- the caller's own command
    threading.Thread(target=_stop_at_end_of_input, args=(worker, float(grace)), daemon=True).start()
    status = worker.wait()
    sys.stderr.write(f"worker {os.environ.get('RUNPOD_POD_ID', worker.pid)} ended with status {status}\n")
    sys.stderr.flush()
    if sys.platform != "win32" and os.getpgrp() == os.getpid():  # never a group that is somebody else's
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _stop_at_end_of_input(worker: subprocess.Popen[bytes], grace: float) -> None:
    while os.read(0, 4096):
        pass
    worker.terminate()
    try:
        worker.wait(grace)
    except subprocess.TimeoutExpired:
        worker.kill()


if __name__ == "__main__":
    main(*sys.argv[1:])
