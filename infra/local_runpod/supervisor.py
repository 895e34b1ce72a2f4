"""Runs one worker; when the worker or the caller ends, kills the worker and every process it started.

Usage: `python -m infra.local_runpod.supervisor GRACE COMMAND ...` in a process group of its own.
When standard input ends, as it does when the caller ends, the worker is asked to stop, and killed
GRACE seconds later.

The SDK's worker loop pings from a child process. If the loop is killed, this child lives on and
keeps pinging, so that the queue would think the worker alive: hence a process above both that kills
the whole group.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main(grace: str, *command: str) -> None:
    """Run `command` until it ends or standard input ends; then kill what is left of its process group."""
    if sys.platform == "win32":
        from infra.local_runpod.windows_job import end_children_with_this_process  # noqa: PLC0415 -- ctypes.windll is on Windows only

        end_children_with_this_process()
    worker = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 -- the command that the caller gave
    threading.Thread(target=_stop_at_end_of_input, args=(worker, float(grace)), daemon=True).start()
    status = worker.wait()
    sys.stderr.write(f"worker {os.environ.get('RUNPOD_POD_ID', worker.pid)} ended with status {status}\n")
    sys.stderr.flush()
    if sys.platform != "win32" and os.getpgrp() == os.getpid():  # never a group of other processes
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
