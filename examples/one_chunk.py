"""Get one chunk of speech from a RunPod endpoint, with httpx and the published request fields only.

    export RUNPOD_API_KEY=…  RUNPOD_HIGGS_ENDPOINT_ID=…
    python examples/one_chunk.py "The sun rose over the quiet harbour." chunk.wav

With VOICE_SAMPLE_URL set, the chunk is spoken in that voice; the endpoint then needs
VOICE_SAMPLE_TRANSCRIPT, which says what the sample says. NARRATION_RUNPOD_URL names another
job API than RunPod's, such as that of `python -m infra.local_runpod`.
"""

from __future__ import annotations

import base64
import os
import sys
import time
from pathlib import Path

import httpx

FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}


def main(text: str, target: Path) -> str | None:
    """Submit a job, wait for it and save its audio to `target`; an error message, or None."""
    request = {
        "prompt": text,
        "audio_url": os.environ.get("VOICE_SAMPLE_URL"),
        "temperature": 0.3,
        "top_p": 0.95,
        "top_k": 50,
        "max_new_tokens": 1024,  # frames, 25 a second
        "seed": 42,
    }
    api = os.environ.get("NARRATION_RUNPOD_URL", "https://api.runpod.ai/v2")
    with httpx.Client(
        base_url=f"{api}/{os.environ['RUNPOD_HIGGS_ENDPOINT_ID']}",
        headers={"Authorization": f"Bearer {os.environ['RUNPOD_API_KEY']}"},
        timeout=60,
    ) as endpoint:
        job = endpoint.post("/run", json={"input": request}).raise_for_status().json()
        while job["status"] not in FINAL:
            time.sleep(1)
            job = endpoint.get(f"/status/{job['id']}").raise_for_status().json()

    clip = job.get("output")
    if job["status"] != "COMPLETED" or not clip:
        return f"{job['status']}: {job.get('error', 'no output')}"
    target.write_bytes(base64.b64decode(clip["audio_base64"]))
    print(f"{target}: {clip['duration']:.2f} s by {clip['model']}, seed {clip['seed']}")
    return None


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
