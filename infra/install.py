"""`python infra/install.py REQUIREMENT`: pip within constraints.txt, with a line for each long step.

pip alone prints six hundred lines in its two or three minutes, or with `--quiet` none. Run by the
virtual environment's Python, from the project's folder; the standard library is all it needs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator

LARGE_MB = 5.0  # a download from this size on has a line of its own
PACKAGES_A_LINE = 25  # found packages between two lines
LAST_LINES = 30  # of pip's output, shown when pip fails

_FOUND = re.compile(r"(?:Collecting|Processing|Requirement already satisfied:) ")
_DOWNLOAD = re.compile(r"\s*Downloading ([^\s-]+)\S* \(([\d.]+) MB\)")


def main() -> int:
    """Install the requirement given on the command line; returns pip's exit status."""
    requirement = sys.argv[1]
    began = time.monotonic()
    _print(f"Installing {requirement} with all it needs into {sys.prefix}: some minutes, once")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--progress-bar",
        "off",
        "--constraint",
        "constraints.txt",
    ]
    last: deque[str] = deque(maxlen=LAST_LINES)
    with subprocess.Popen(  # noqa: S603  # pip, with what the Makefile asks for
        [*command, "--editable", requirement],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as pip:
        assert pip.stdout is not None
        for step in describe_steps(_kept(pip.stdout, last)):
            _print(f"  {step}")
    if pip.returncode:
        _print("".join(last))
    else:
        minutes, seconds = divmod(round(time.monotonic() - began), 60)
        _print(f"  installed in {minutes}:{seconds:02}")
    return pip.returncode


def describe_steps(lines: Iterable[str]) -> Iterator[str]:
    """The longer steps in pip's output, in words: large downloads, packages found, the installation."""
    found = 0
    for line in lines:
        download = _DOWNLOAD.match(line)
        if _FOUND.match(line):
            found += 1
            if found % PACKAGES_A_LINE == 0:
                yield f"{found} packages found"
        elif download and float(download[2]) >= LARGE_MB:
            yield f"downloading {download[1]}, {float(download[2]):.0f} MB"
        elif line.startswith("Installing collected packages: "):
            yield f"unpacking {line.count(',') + 1} packages: about a minute"


def _kept(lines: Iterable[str], last: deque[str]) -> Iterator[str]:
    """Pass `lines` on, and keep the last of them in `last`."""
    for line in lines:
        last.append(line)
        yield line


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
