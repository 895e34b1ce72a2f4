"""What `make demo` and `make test` show while pip installs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from infra.install import describe_steps

INSTALL = Path(__file__).resolve().parent.parent / "infra" / "install.py"

LOG = """\
Obtaining file:///home/me/narration
  Installing build dependencies: started
Collecting numpy (from narration-pipeline==0.1.0)
  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_28_x86_64.whl (16.9 MB)
Collecting rich (from narration-pipeline==0.1.0)
  Downloading rich-15.0.0-py3-none-any.whl (243 kB)
Collecting brotli>=1 (from aiohttp)
  Downloading brotli-1.2.1-cp311-cp311-manylinux_2_17_x86_64.whl (1.4 MB)
Installing collected packages: numpy, rich, brotli, narration-pipeline
Successfully installed brotli-1.2.1 narration-pipeline-0.1.0 numpy-2.4.6 rich-15.0.0
"""


def test_an_installation_shows_a_line_for_each_long_step() -> None:
    """Large downloads and the unpacking, and nothing of the six hundred lines between."""
    assert list(describe_steps(LOG.splitlines())) == [
        "downloading numpy, 17 MB",
        "unpacking 4 packages: about a minute",
    ]


def test_many_packages_are_counted() -> None:
    """While pip resolves a hundred small packages there is a line now and then."""
    lines = [f"Collecting package{number} (from narration-pipeline)" for number in range(60)]
    assert list(describe_steps(lines)) == ["25 packages found", "50 packages found"]


def test_an_installation_that_fails_shows_pips_own_words(tmp_path: Path) -> None:
    """Its last lines and its exit status, so that make stops."""
    (tmp_path / "constraints.txt").touch()
    command = [sys.executable, str(INSTALL), "./nowhere"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "./nowhere" in done.stdout.split("some minutes")[1]
