"""What a child process is started with: the environment without anybody's keys, and our own code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

API_KEY_VARIABLE = "LOCAL_RUNPOD_API_KEY"  # holds the key that clients must show; never in an argument

NEW_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
"""With `start_new_session`, which Windows ignores, what keeps the terminal's Ctrl-C from a child."""

_ROOT = str(Path(__file__).resolve().parents[2])  # the folder that holds infra, gpu_worker and narration

_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH", "PYTHONPATH"),
        *(
            "SYSTEMROOT",
            "SYSTEMDRIVE",
            "WINDIR",
            "COMSPEC",
            "PATHEXT",
            "USERPROFILE",
            "APPDATA",
            "LOCALAPPDATA",
        ),
        *("VOICE_SAMPLE_TRANSCRIPT", "VIRTUAL_ENV", "XDG_CACHE_HOME"),
        *(
            "HF_HOME",
            "HF_HUB_CACHE",
            "HF_HUB_OFFLINE",
            "TRANSFORMERS_OFFLINE",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
        ),
    }
)
_PREFIXES = ("WORKER_", "LC_", "CUDA_", "NVIDIA_", "TORCH_", "PYTORCH_", "OMP_", "MKL_")


def worker_environment(given: Mapping[str, str]) -> dict[str, str]:
    """`given` reduced to what a worker may know: a list of what may pass, so that no new secret does."""
    passed = {name: value for name, value in given.items() if name in _NAMES or name.startswith(_PREFIXES)}
    path = [_ROOT, *filter(None, [passed.get("PYTHONPATH")])]
    return passed | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


def python(*arguments: str) -> list[str]:
    """The Python that runs us, told not to look for modules in the current folder, which is anybody's."""
    return [sys.executable, "-P", *arguments]
