"""The worker's commands: synthesize, check and pin on tiny checkpoints, and the bare client."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from support.higgs_oracle import Conversation, Oracle
from support.hub import REVISION, hub, run_module, run_python
from support.tiny_higgs import write_tiny_higgs
from support.worker import tone

from gpu_worker.__main__ import main
from gpu_worker.checkpoints.source import FolderSource
from infra.local_runpod.endpoint import LocalEndpointOptions, serve_endpoint
from narration.contract import DEFAULT_SCENE, DRAFT_MODEL

FRAMES = 30  # of every clip: the checkpoint's codebook 0 counts to it


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_higgs(tmp_path_factory.mktemp("model"), counting=FRAMES)


def _synthesize(model: Path, codec_folder: Path, out: Path, *flags: str) -> list[str]:
    return [
        "synthesize",
        f"--model={model}",
        f"--codec={codec_folder}",
        "--device=cpu",
        f"--out={out}",
        *flags,
    ]


def _read(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]


def test_synthesize_writes_transformers_codes(model: Path, codec_folder: Path, tmp_path: Path) -> None:
    """`synthesize --greedy` in a cloned voice, with more prompts than slots: transformers' codes and ids."""
    voice = tone(2.0)
    soundfile.write(tmp_path / "voice.wav", voice, 24_000, subtype="FLOAT")
    texts = ["The sun rose.", "Nobody had expected the harbour to be quiet!", "One."]
    flags = [
        f"--voice-sample={tmp_path / 'voice.wav'}",
        "--voice-transcript=A tone.",
        "--greedy",
        "--slots=2",
    ]
    command = _synthesize(
        model, codec_folder, tmp_path / "out", *flags, *(f"--prompt={text}" for text in texts)
    )
    done = run_module("gpu_worker", *command, OMP_NUM_THREADS=1)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["001.json", "001.wav", "002.json", "002.wav", "003.json", "003.wav"]
    oracle = Oracle(model, codec_folder)
    for number, (text, report) in enumerate(zip(texts, _read(tmp_path / "out"), strict=True), 1):
        conversation = Conversation(text, scene=DEFAULT_SCENE, turns=[("A tone.", voice)])
        assert report["prompt_ids"] == oracle.inputs(conversation)["input_ids"][0].tolist()
        assert report["codes"] == oracle.codes(conversation, max_steps=100).tolist()
        assert (report["frames"], report["finish_reason"]) == (FRAMES, "stop")
        assert report["model"].startswith("higgs-audio-v2/local@")
        assert isinstance(report["seed"], int)
        assert report["timings"]["decode"] > 0
        samples, rate = soundfile.read(tmp_path / f"out/{number:03}.wav")
        assert (len(samples), rate) == (FRAMES * 960, 24_000)


def test_a_seed_repeats_on_the_command_line(model: Path, codec_folder: Path, tmp_path: Path) -> None:
    """Two runs with one seed have the same codes, another seed has others; --max-new-tokens cuts the clip."""
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        flags = ["--prompt=The sun rose.", f"--seed={seed}", "--max-new-tokens=24", "--slots=2"]
        assert main(_synthesize(model, codec_folder, tmp_path / name, *flags)) == 0
    first, again, other = (_read(tmp_path / name)[0] for name in "abc")
    assert first["codes"] == again["codes"] != other["codes"]
    assert (first["seed"], first["finish_reason"]) == (7, "length")
    assert len(first["codes"]) == 8
    assert {len(codebook) for codebook in first["codes"]} == {first["frames"]} != {0}


def test_a_bad_prompt_fails_no_other(
    model: Path, codec_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prompt that fits no slot is named by its number, with status 1; the other clips are written."""
    flags = ["--prompt=Short.", f"--prompt={'harbour ' * 240}", "--prompt=Last.", "--slots=2", "--greedy"]
    assert main(_synthesize(model, codec_folder, tmp_path, *flags)) == 1
    error = capsys.readouterr().err
    assert "prompt 2: prompt " in error
    assert "(request_too_long)" in error
    assert sorted(path.name for path in tmp_path.glob("*.wav")) == ["001.wav", "003.wav"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--prompt= "], "prompt: "),
        (["--prompt=x", "--seed=-1"], "seed: "),
        (["--prompt=x", "--voice-sample=none.wav", "--voice-transcript=x"], "none.wav"),
        (["--prompt=x", "--model=/nowhere"], "/nowhere"),
        pytest.param(
            ["--prompt=x", "--device=cuda"],
            "no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one"),
        ),
    ],
)
def test_a_bad_option_is_named(
    flags: list[str],
    named: str,
    model: Path,
    codec_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An invalid request, a missing file, a missing checkpoint or device: one line on stderr, status 1."""
    assert main(_synthesize(model, codec_folder, tmp_path / "out", *flags)) == 1
    error = capsys.readouterr().err
    assert error.startswith("gpu_worker: ")
    assert named in error


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--voice-sample=voice.wav"], "--voice-transcript"),
        (["--voice-sample=short.wav", "--voice-transcript=x"], "0.50 s, under 1 s"),
        (["--slots=0"], "--slots: "),
        (["--max-new-tokens=0"], "max_new_tokens: "),
    ],
)
def test_invalid_options_are_reported_before_anything_is_loaded(
    flags: list[str], named: str, tmp_path: Path
) -> None:
    """A sample without transcript, a sample too short, a number out of range: before torch is imported."""
    soundfile.write(tmp_path / "voice.wav", tone(2.0), 24_000)
    soundfile.write(tmp_path / "short.wav", tone(0.5), 24_000)
    code = """
import os, sys
from gpu_worker.__main__ import main

os.chdir(sys.argv[1])
try:
    status = main(sys.argv[2:])
finally:
    assert "torch" not in sys.modules
sys.exit(status)
"""
    command = _synthesize(tmp_path, tmp_path, tmp_path / "out", "--prompt=x", *flags)
    ended = run_python("-c", code, tmp_path, *command, PYTHONPATH=Path(__file__).parents[1])
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)
    assert named in ended.stderr
    assert not (tmp_path / "out").exists()


def test_check_passes_with_fetched_checkpoints(
    model: Path,
    codec_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fetched in four parts, they pass under their model id; the parts of the start are printed too."""
    for part in range(1, 5):
        command = ["fetch", f"--models={tmp_path}", f"--model={model}", f"--codec={codec_folder}"]
        assert main([*command, f"--part={part}/4"]) == 0
    monkeypatch.setenv("WORKER_MODEL", str(tmp_path / "model"))
    monkeypatch.setenv("WORKER_CODEC", str(tmp_path / "codec"))
    monkeypatch.setenv("WORKER_SLOTS", "2")
    capsys.readouterr()
    assert main(["check"]) == 0
    identity = FolderSource("model", model).identity
    line, start = capsys.readouterr().out.splitlines()
    assert line.startswith(f"higgs-audio-v2/{identity}+")
    assert " spoke 1.20 s (stop) in " in line
    parts = ("torch", "transformers", "checkpoints", "weights and warm-up")
    assert re.fullmatch(rf"started in {', '.join(rf'{part} [0-9]+.[0-9] s' for part in parts)}", start)
    assert main(["model-id"]) == 0
    assert line.startswith(capsys.readouterr().out.strip())


def test_check_of_the_draft_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The self-test runs the engine that the settings choose, under its model id."""
    monkeypatch.setenv("WORKER_ENGINE", "draft")
    assert main(["check"]) == 0
    assert capsys.readouterr().out.startswith(f"{DRAFT_MODEL} spoke ")


@pytest.mark.parametrize("broken", ["absent", "truncated", "silent"])
def test_check_fails_with_a_reason(
    broken: str,
    model: Path,
    codec_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A missing codec, truncated weights or a silent waveform fail the self-test, with one line."""
    if broken == "silent":
        shutil.copytree(codec_folder, tmp_path / "codec")
        codec_folder = tmp_path / "codec"
        weights = load_file(codec_folder / "model.safetensors")
        for name in ("weight", "bias"):
            weights[f"acoustic_decoder.conv2.{name}"].zero_()
        save_file(weights, codec_folder / "model.safetensors", metadata={"format": "pt"})
    elif broken == "absent":
        codec_folder = tmp_path / "absent"
    else:
        (tmp_path / "model").mkdir()
        for path in model.iterdir():
            content = path.read_bytes()
            kept = len(content) // 2 if path.suffix == ".safetensors" else len(content)
            (tmp_path / "model" / path.name).write_bytes(content[:kept])
        model = tmp_path / "model"
    monkeypatch.setenv("WORKER_MODEL", str(model))
    monkeypatch.setenv("WORKER_CODEC", str(codec_folder))
    monkeypatch.setenv("WORKER_SLOTS", "1")
    assert main(["check"]) == 1
    reason = {"absent": "neither a folder", "truncated": "cannot be loaded", "silent": "silent"}[broken]
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("gpu_worker: ")
    assert reason in error


def test_pin_writes_the_hubs_newest_commits(model: Path, codec_folder: Path, tmp_path: Path) -> None:
    """`pin` writes both repositories' commits to models.toml and prints the model id."""
    published = {
        "bosonai/higgs-audio-v2-generation-3B-base": model,
        "bosonai/higgs-audio-v2-tokenizer": codec_folder,
    }
    pins = tmp_path / "models.toml"
    with hub(published) as endpoint:
        pinned = run_module(
            "gpu_worker", "pin", "--file", pins, HF_ENDPOINT=endpoint, HF_HOME=tmp_path / "hf"
        )
    assert pinned.returncode == 0, pinned.stderr
    written = tomllib.loads(pins.read_text())
    assert {pin["repository"]: pin["revision"] for pin in written.values()} == dict.fromkeys(
        published, REVISION
    )
    model_repository, codec_repository = published
    named = f"{model_repository}@{REVISION}+{codec_repository}@{REVISION}"
    assert pinned.stdout == f"higgs-audio-v2/{named}/engine-1\n"


def test_pin_refuses_repositories_that_the_worker_cannot_load(tmp_path: Path) -> None:
    """A repository in the original layout, or a missing one, leaves models.toml unchanged."""
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.json").write_text('{"model_type": "higgs_audio"}')
    repository = "bosonai/higgs-audio-v2-generation-3B-base"
    for published, named in (({repository: old}, "'higgs_audio'"), ({}, repository)):
        with hub(published) as endpoint:
            pinned = run_module(
                *("gpu_worker", "pin", "--file", tmp_path / "models.toml"),
                HF_ENDPOINT=endpoint,
                HF_HOME=tmp_path / "hf",
            )
        assert pinned.returncode == 1
        assert named in pinned.stderr
        assert "Traceback" not in pinned.stderr
        assert not (tmp_path / "models.toml").exists()


async def test_the_bare_client_gets_a_clip(tmp_path: Path) -> None:
    """examples/one_chunk.py, with the seven published fields alone, saves a clip from the local endpoint."""
    client = Path(__file__).parents[1] / "examples/one_chunk.py"
    async with serve_endpoint(
        LocalEndpointOptions(workers=1, api_key="key", environment={"WORKER_ENGINE": "draft"})
    ) as endpoint:
        done = await asyncio.to_thread(
            run_python,
            *(client, "The sun rose over the quiet harbour.", tmp_path / "chunk.wav"),
            NARRATION_RUNPOD_URL=endpoint.base_url,
            RUNPOD_API_KEY=endpoint.api_key,
            RUNPOD_HIGGS_ENDPOINT_ID=endpoint.endpoint_id,
        )
    assert done.returncode == 0, done.stderr
    assert f"by {DRAFT_MODEL}, seed 42" in done.stdout
    samples, rate = soundfile.read(tmp_path / "chunk.wav")
    assert rate == 24_000
    assert len(samples) > 24_000
    assert np.abs(samples).max() > 0.05
