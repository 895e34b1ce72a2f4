"""The Dockerfile, checked without Docker: layers, pins, and what each image holds."""

from __future__ import annotations

import ast
import json
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.published_checkpoints import write_published_codec, write_published_model

ROOT = Path(__file__).parents[1]
NARRATION_IN_WORKER = [
    "narration/__init__.py",
    "narration/contract.py",
    "narration/errors.py",
    "narration/escaping.py",
    "narration/model_ids.py",
]
AUDIO_IN_WORKER = [
    "narration/audio/__init__.py",
    "narration/audio/containers.py",
    "narration/audio/files.py",
    "narration/audio/voice_sample.py",
]
IN_WORKER = [*NARRATION_IN_WORKER, *AUDIO_IN_WORKER]  # of what is not gpu_worker
FETCH_IN_WORKER = "narration/fetch"  # a folder, likewise
NO_LINTERS = sys.platform == "win32" or platform.machine() == "aarch64"


def stages() -> dict[str, list[tuple[str, str]]]:
    """Each stage's instructions with their arguments; continued lines are joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    instructions: dict[str, list[tuple[str, str]]] = {}
    for line in filter(None, text.replace("\\\n", " ").splitlines()):
        instruction, _, argument = line.partition(" ")
        if instruction == "FROM":
            name = argument.split(" AS ")[1]
            instructions[name] = []
        instructions[name].append((instruction, argument))
    return instructions


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    return {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}


def program(name: str) -> str:
    return f"{sysconfig.get_path('scripts')}/{name}"


@pytest.mark.skipif(NO_LINTERS, reason="the linters have no wheel for this platform")
def test_the_dockerfile_lints() -> None:
    """hadolint finds nothing in the Dockerfile."""
    linted = subprocess.run(
        [program("hadolint"), ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (linted.returncode, linted.stdout) == (0, "")


def test_both_images_have_one_pinned_base() -> None:
    """One Python image, pinned to its patch version."""
    first = {name: instructions[0][1] for name, instructions in stages().items()}
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm AS base", first.pop("base"))
    assert (
        set(first.values())
        == {f"base AS {name}" for name in first}
        == {"base AS pipeline", "base AS gpu-worker"}
    )


def test_the_worker_is_the_last_target() -> None:
    """A builder without targets, as RunPod's, builds the last stage."""
    assert list(stages()) == ["base", "pipeline", "gpu-worker"]


@pytest.mark.parametrize(("target", "instruction"), [("gpu-worker", "ENTRYPOINT"), ("pipeline", "CMD")])
def test_the_program_is_process_1_and_not_root(target: str, instruction: str) -> None:
    """It starts without a shell, so that signals reach it, and as a user given by number."""
    last = dict(stages()[target])
    assert all(isinstance(word, str) for word in json.loads(last[instruction]))
    assert int(last["USER"]) > 0


def test_the_worker_runs_offline_on_the_fetched_weights_and_on_the_gpu() -> None:
    """The image names the folders of the weights, and asks the hub for nothing after the build.

    A worker that sees no GPU ends, instead of running on the CPU at the GPU's price.
    """
    worker = stages()["gpu-worker"]
    environment = next(argument for instruction, argument in worker if instruction == "ENV")
    assert {
        "HF_HUB_OFFLINE=1",
        "WORKER_DEVICE=cuda",
        "WORKER_MODEL=/models/model",
        "WORKER_CODEC=/models/codec",
    } <= set(environment.split())
    assert not any("HUB_OFFLINE" in argument for argument in environment_of("base"))


def test_the_worker_has_the_compiler_that_tritons_kernels_need() -> None:
    """Without a C compiler the sampler runs uncompiled; it is installed above the layers of weights."""
    worker = [argument for _, argument in stages()["gpu-worker"]]
    compiler = next(index for index, argument in enumerate(worker) if " gcc libc6-dev " in argument)
    weights = max(index for index, argument in enumerate(worker) if "checkpoints.fetch" in argument)
    assert weights < compiler


def environment_of(stage: str) -> list[str]:
    return [argument for instruction, argument in stages()[stage] if instruction == "ENV"]


def test_the_layers_of_weights_come_before_dependencies_and_code() -> None:
    """Each shard of the weights is a layer of its own, rebuilt only when gpu_worker/checkpoints changes."""
    worker = stages()["gpu-worker"]
    parts = [
        (index, argument.rsplit(" ", 1)[1])
        for index, (_, argument) in enumerate(worker)
        if "gpu_worker.checkpoints.fetch" in argument
    ]
    assert [part for _, part in parts] == [f"{number}/{len(parts)}" for number in range(1, len(parts) + 1)]
    assert 11_542_613_696 / len(parts) < 5e9  # bytes of the published model; registries end at 10 GB a layer
    last = parts[-1][0]
    before = [argument for instruction, argument in worker[:last] if instruction == "COPY"]
    assert before == ["gpu_worker/checkpoints/ gpu_worker/checkpoints/"]
    assert sorted(path.name for path in (ROOT / "gpu_worker/checkpoints").glob("*.*")) == [
        "__init__.py",
        "fetch.py",
        "models.toml",
        "shards.py",
        "source.py",
    ]
    assert any("-r requirements.txt" in argument for _, argument in worker[last:])


def test_the_weights_are_fetched_with_the_package_checkpoints_alone(tmp_path: Path) -> None:
    """Its files, without the rest of gpu_worker and without any library, fetch checkpoints from folders."""
    shutil.copytree(ROOT / "gpu_worker/checkpoints", tmp_path / "gpu_worker/checkpoints")
    model = write_published_model(tmp_path / "model")
    codec = write_published_codec(tmp_path / "codec")
    command = ["-S", "-m", "gpu_worker.checkpoints.fetch", "--models", str(tmp_path / "models")]
    fetched = subprocess.run(
        [sys.executable, *command, "--model", str(model), "--codec", str(codec), "--part", "1/4"],
        cwd=tmp_path,
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert fetched.returncode == 0, fetched.stderr
    assert (tmp_path / "models/model/model-00001-of-00004.safetensors").exists()


def test_a_missing_revision_has_no_default() -> None:
    """The revisions are build arguments without a value: a build without one stops."""
    arguments = [argument for instruction, argument in stages()["gpu-worker"] if instruction == "ARG"]
    assert arguments == ["MODEL_REVISION", "CODEC_REVISION", "HF_ENDPOINT"]


def test_copied_files_exist_and_are_not_ignored() -> None:
    """Every file that the Dockerfile copies exists, and .dockerignore does not exclude it."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().split("\n") if line.startswith("!")]
    for instructions in stages().values():
        for instruction, argument in instructions:
            if instruction == "COPY":
                for copied in argument.split()[:-1]:
                    assert (ROOT / copied).exists(), copied
                    assert copied.split("/")[0] in allowed, copied


def test_everything_that_the_image_installs_is_pinned() -> None:
    """Every requirement is in constraints.txt, and the hub's client has the version given there."""
    pinned = constraints()
    names = [
        line for line in (ROOT / "gpu_worker/requirements.txt").read_text().splitlines() if line[:1] != "#"
    ]
    assert {name.lower().replace("_", "-") for name in names} <= set(pinned)
    installed = next(argument for _, argument in stages()["gpu-worker"] if "huggingface_hub" in argument)
    assert installed == f"pip install huggingface_hub=={pinned['huggingface-hub']}"


def _imported(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.split(".")[0]


def test_the_image_installs_every_imported_library() -> None:
    """A library that the worker's code imports is in its requirements, or comes with one of them."""
    code = [
        *(ROOT / "gpu_worker").rglob("*.py"),
        *(ROOT / path for path in IN_WORKER),
        *(ROOT / FETCH_IN_WORKER).glob("*.py"),
    ]
    libraries = set(_imported(code)) - sys.stdlib_module_names - {"gpu_worker", "narration"}
    named = set((ROOT / "gpu_worker/requirements.txt").read_text().replace("-", "_").split())
    assert libraries - named <= {"huggingface_hub", "safetensors", "torchaudio", "triton"}


def test_the_worker_runs_from_the_copied_files_alone(tmp_path: Path) -> None:
    """With only the files that the image copies, the worker passes its self-test."""
    copies = [argument for instruction, argument in stages()["gpu-worker"] if instruction == "COPY"]
    assert copies[-4:] == [
        " ".join(NARRATION_IN_WORKER) + " narration/",
        " ".join(AUDIO_IN_WORKER) + " narration/audio/",
        f"{FETCH_IN_WORKER}/ {FETCH_IN_WORKER}/",
        "gpu_worker/ gpu_worker/",
    ]
    (tmp_path / "narration/audio").mkdir(parents=True)
    for path in IN_WORKER:
        shutil.copy(ROOT / path, tmp_path / path)
    for folder in (FETCH_IN_WORKER, "gpu_worker"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    checked = subprocess.run(
        [sys.executable, "-m", "gpu_worker", "check"],
        cwd=tmp_path,
        env={"WORKER_ENGINE": "draft"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
