"""Worker settings: the model id that they make, and an invalid variable named."""

from __future__ import annotations

import subprocess
import sys


def test_the_model_id_is_printed_without_loading_an_engine() -> None:
    """`python -m gpu_worker model-id` imports neither torch nor runpod nor an audio library."""
    code = (
        "import sys; from gpu_worker.__main__ import main; main(['model-id']);"
        "print({'torch', 'runpod', 'soundfile', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"WORKER_ENGINE": "draft"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split("\n")[:2] == ["draft/espeak-ng-1.52/engine-2", "set()"]


def test_a_wrong_setting_is_named() -> None:
    """An invalid variable ends the worker with one line that names it."""
    done = subprocess.run(
        [sys.executable, "-m", "gpu_worker", "model-id"],
        env={"WORKER_ENGINE": "draft", "WORKER_SLOTS": "many"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("WORKER_SLOTS: ")
    assert done.stderr.count("\n") == 1
