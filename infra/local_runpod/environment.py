"""How child processes are started: an environment without keys, and this project's code on the path."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

API_KEY_VARIABLE = "LOCAL_RUNPOD_API_KEY"  # the key for clients; never an argument, which others can see

NEW_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
"""Keeps the terminal's Ctrl-C from a child on Windows, as `start_new_session` does elsewhere."""

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


def worker_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """The part of `variables` that a worker may see, by a list of names: a new secret is not on the list."""
    allowed = {
        name: value for name, value in variables.items() if name in _NAMES or name.startswith(_PREFIXES)
    }
    path = [_ROOT, *filter(None, [allowed.get("PYTHONPATH")])]
    return allowed | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


def python(*arguments: str) -> list[str]:
    """A command line of this Python, with -P: modules in the current folder are not imported."""
    return [sys.executable, "-P", *arguments]
