"""Bad audio from a worker is found before it is stored, in whole narrations through the real loop."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import soundfile
from chaos_kit import Scene, backstage, patience_in_seconds, scene, swept, undisturbed
from matrix_kit import DONE
from numpy.typing import NDArray
from proxy_kit import sends_instead
from worker_kit import encoded, inline

from narration.errors import ChunksFailed

__all__ = ["backstage", "patience_in_seconds", "scene", "swept", "undisturbed"]  # fixtures

pytestmark = [
    # boto3's and Prefect's connections are closed by the garbage collector alone.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("patience_in_seconds"),
]

RATE = 24_000
FRAME = 960  # samples

Output = dict[str, Any]


def of_waveform(
    change: Callable[[NDArray[np.float32]], NDArray[Any]], **fields: Any
) -> Callable[[Output], Output]:
    """An answer with the changed waveform in it, told to be as long as it is."""

    def altered(output: Output) -> Output:
        waveform, _ = soundfile.read(io.BytesIO(base64.b64decode(output["audio_base64"])), dtype="float32")
        changed = change(waveform)
        audio = encoded(changed, RATE, "WAV", "FLOAT")
        told = {"frames": len(changed) // FRAME, "duration": len(changed) / RATE}
        return output | told | {"audio_base64": inline(audio)} | fields

    return altered


def at_16_khz(output: Output) -> Output:
    """The same samples, told and written as 16 kHz."""
    waveform, _ = soundfile.read(io.BytesIO(base64.b64decode(output["audio_base64"])), dtype="float32")
    return output | {"audio_base64": inline(encoded(waveform, 16_000, "FLAC")), "sample_rate": 16_000}


def with_holes(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Some samples are no numbers."""
    holed = waveform.copy()
    holed[1_000:1_010] = np.nan
    return holed


BAD: dict[str, tuple[Callable[[Output], Output], str]] = {
    "wrong rate": (at_16_khz, "16000 Hz"),
    "wrong length": (of_waveform(lambda wave: wave[: len(wave) // 2], frames=117), "length"),
    "not audio": (lambda output: output | {"audio_base64": inline(b"never was audio")}, "not usable audio"),
    "no base64": (lambda output: output | {"audio_base64": "*"}, "audio_base64"),
    "not a number": (of_waveform(with_holes), "not"),
    "silence": (of_waveform(np.zeros_like), "silent"),
    "clipping": (of_waveform(lambda wave: np.clip(wave * 30, -1, 1)), "clipping"),
    "too short": (of_waveform(lambda wave: wave[: 10 * FRAME]), "too-short"),
    "too long": (of_waveform(lambda wave: np.tile(wave, 6)), "too-long"),
    "cut at the cap": (lambda output: output | {"finish_reason": "length"}, "cut at the cap"),
    "another seed's": (lambda output: output | {"seed": 1}, "used seed 1"),
    "no clip at all": (lambda _: {"hello": "world"}, "not a clip"),
}


def posts(change: Callable[[Output], Output]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What is posted as a job's result, its output changed."""
    return lambda posted: posted | {"output": change(posted["output"])}


@pytest.mark.parametrize("kinds", [list(BAD)[:4], list(BAD)[4:8], list(BAD)[8:]], ids=", ".join)
def test_bad_audio_is_tried_again_with_another_seed_and_never_stored(scene: Scene, kinds: list[str]) -> None:
    """Each chunk's first answer is bad in a way of its own; each sidecar tells of it, each second is kept."""
    scene.env["NARRATION_CONCURRENCY"] = "1"
    for place, kind in enumerate(kinds):
        scene.backstage.worker.rule("POST", DONE, sends_instead(posts(BAD[kind][0])), skip=place)
    report = scene.run()
    assert (report["failed"], report["flagged"]) == (0, [])
    assert scene.backstage.jobs == 8
    for kind, chunk in zip(kinds, scene.published().manifest["chunks"], strict=True):
        assert chunk["attempt"] == 2
        assert len(chunk["refused"]) == 1
        assert BAD[kind][1] in chunk["refused"][0], (kind, chunk["refused"])
        assert (chunk["flags"], chunk["score"] > 0.5) == ([], True)


def test_a_chunk_that_never_comes_out_right_fails_by_name_and_the_rest_is_stored(scene: Scene) -> None:
    """Every attempt is told with its reason; the next run makes that chunk alone."""
    scene.env["NARRATION_CONCURRENCY"] = "1"
    scene.backstage.worker.rule("POST", DONE, sends_instead(posts(BAD["silence"][0])), skip=1, times=3)
    with pytest.raises(ChunksFailed) as failure:
        scene.run()
    told = str(failure.value)
    assert "1 of 4 chunks failed, 3 are stored: chunk 2:" in told
    assert told.count("silent") == 3
    assert "start the same command again" in told
    assert scene.backstage.jobs == 6
    assert len(scene.keys("/clips/", ".flac")) == 3
    assert scene.leftovers() == []
    scene.backstage.settle()
    assert scene.run()["synthesized"] == 1
    assert scene.backstage.jobs == 1


def test_the_best_of_bad_attempts_is_kept_and_marked(scene: Scene) -> None:
    """Clipped thrice, once a little less: that one is kept, in manifest and table marked as doubtful."""
    scene.env["NARRATION_CONCURRENCY"] = "1"
    worse = of_waveform(lambda wave: np.tile(np.clip(wave * 30, -1, 1), 6))
    for change in (worse, BAD["clipping"][0], worse):
        scene.backstage.worker.rule("POST", DONE, sends_instead(posts(change)), skip=1)
    report = scene.run()
    assert report["flagged"] == [2]
    chunk = scene.published().manifest["chunks"][1]
    assert chunk["attempt"] == 2
    assert len(chunk["refused"]) == 2
    kinds = {flag.partition(":")[0] for flag in chunk["flags"]}
    assert "clipping" in kinds
    assert "too-long" not in kinds
    rows = asyncio.run(_table(scene))
    assert "clipping" in rows[1]["doubts"]
    assert rows[1]["attempts"] == 3
    assert [row["doubts"] for row in rows if row["chunk"] != 2] == ["", "", ""]
    scene.backstage.settle()
    assert scene.run()["synthesized"] == 0  # it is a clip like any other; a person decides


async def _table(scene: Scene) -> list[dict[str, Any]]:
    """The chunk table as the UI shows it."""
    import json

    import httpx

    async with httpx.AsyncClient(base_url=scene.prefect_url, timeout=30) as client:
        asked = {"artifacts": {"key": {"any_": ["chunks-four-draft"]}}, "sort": "UPDATED_DESC"}
        found = (await client.post("artifacts/filter", json=asked)).raise_for_status().json()
    rows: list[dict[str, Any]] = json.loads(found[0]["data"])
    return rows
