"""The images, the workflows that build them and RunPod's Hub files, judged without Docker."""

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
from typing import Any

import pytest
import yaml

from gpu_worker.settings import WorkerSettings
from narration.contract import parse_request

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
NARRATION_IN_WORKER = [
    "narration/__init__.py",
    "narration/contract.py",
    "narration/errors.py",
    "narration/escaping.py",
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
POOLS = {
    *("AMPERE_16", "AMPERE_24", "ADA_24", "AMPERE_48", "ADA_48_PRO"),
    *("AMPERE_80", "ADA_80_PRO", "HOPPER_141"),
}


def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions and their arguments, by stage; continued lines are joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: dict[str, list[tuple[str, str]]] = {}
    for line in filter(None, text.replace("\\\n", " ").splitlines()):
        instruction, _, argument = line.partition(" ")
        if instruction == "FROM":
            name = argument.split(" AS ")[1]
            found[name] = []
        found[name].append((instruction, argument))
    return found


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    return {name.lower().replace("_", "-"): version for name, version in (line.split("==") for line in lines)}


def workflow(name: str) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    text = (ROOT / f".github/workflows/{name}.yml").read_text().replace("\non:", "\ntriggers:")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def program(name: str) -> str:
    return f"{sysconfig.get_path('scripts')}/{name}"


@pytest.mark.skipif(NO_LINTERS, reason="the linters have no wheel for this platform")
def test_the_dockerfile_lints() -> None:
    """hadolint finds nothing in the Dockerfile."""
    linted = subprocess.run(
        [program("hadolint"), ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (linted.returncode, linted.stdout) == (0, "")


@pytest.mark.skipif(NO_LINTERS, reason="the linters have no wheel for this platform")
def test_the_workflows_lint() -> None:
    """zizmor finds nothing in the workflows: no unpinned action, needless permission or injectable text."""
    linted = subprocess.run(
        [program("zizmor"), "--offline", "--no-progress", *WORKFLOWS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_the_base_is_pinned_and_shared() -> None:
    """Both images begin with one Python, pinned to its patch version."""
    first = {name: instructions[0][1] for name, instructions in stages().items()}
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm AS base", first.pop("base"))
    assert (
        set(first.values())
        == {f"base AS {name}" for name in first}
        == {"base AS pipeline", "base AS gpu-worker"}
    )


def test_the_worker_is_the_last_target() -> None:
    """A builder that knows no targets, as RunPod's own, builds the worker."""
    assert list(stages()) == ["base", "pipeline", "gpu-worker"]


@pytest.mark.parametrize(("target", "instruction"), [("gpu-worker", "ENTRYPOINT"), ("pipeline", "CMD")])
def test_what_runs_is_process_one_and_not_root(target: str, instruction: str) -> None:
    """The program is started without a shell, so that signals reach it, and by a numbered user."""
    last = dict(stages()[target])
    assert all(isinstance(word, str) for word in json.loads(last[instruction]))
    assert int(last["USER"]) > 0


def test_the_worker_is_offline_at_run_time_and_knows_its_weights() -> None:
    """After the build nothing is looked up at the hub: the weights are where the fetch put them.

    Nor does a worker whose GPU cannot be seen speak on the CPU, slowly, at the GPU's price.
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


def environment_of(stage: str) -> list[str]:
    return [argument for instruction, argument in stages()[stage] if instruction == "ENV"]


def test_weights_lie_below_everything_that_changes_more_often() -> None:
    """Each share of the weights is a layer of its own, and comes before the dependencies and the code."""
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
    assert before == [
        "gpu_worker/__init__.py gpu_worker/",
        "gpu_worker/checkpoints/ gpu_worker/checkpoints/",
    ]
    assert sorted(path.name for path in (ROOT / "gpu_worker/checkpoints").glob("*.*")) == [
        "__init__.py",
        "fetch.py",
        "models.toml",
        "shards.py",
        "source.py",
    ]
    assert any("-r requirements.txt" in argument for _, argument in worker[last:])


def test_a_missing_revision_has_no_default() -> None:
    """The revisions are build arguments without a value: a build without one stops instead of guessing."""
    arguments = [argument for instruction, argument in stages()["gpu-worker"] if instruction == "ARG"]
    assert arguments == ["MODEL_REVISION", "CODEC_REVISION", "HF_ENDPOINT"]


def test_what_is_copied_exists_and_is_let_in() -> None:
    """Every file the Dockerfile copies is there, and .dockerignore lets it through."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().split("\n") if line.startswith("!")]
    for instructions in stages().values():
        for instruction, argument in instructions:
            if instruction == "COPY":
                for copied in argument.split()[:-1]:
                    assert (ROOT / copied).exists(), copied
                    assert copied.split("/")[0] in allowed, copied


def test_the_pinned_list_names_what_the_image_installs() -> None:
    """Everything installed by name has its version in constraints.txt, the hub's client the same one."""
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


def test_the_image_installs_what_the_worker_imports() -> None:
    """Each library that the worker's code imports is in its requirements, or comes with transformers."""
    code = [
        *(ROOT / "gpu_worker").glob("*.py"),
        *(ROOT / path for path in IN_WORKER),
        *(ROOT / FETCH_IN_WORKER).glob("*.py"),
    ]
    libraries = set(_imported(code)) - sys.stdlib_module_names - {"gpu_worker", "narration"}
    named = set((ROOT / "gpu_worker/requirements.txt").read_text().replace("-", "_").split())
    assert libraries - named <= {"huggingface_hub", "safetensors", "torchaudio"}


def test_the_copied_code_is_enough(tmp_path: Path) -> None:
    """With nothing but the files that the image copies, the worker passes its self-test."""
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


def test_main_is_pushed_with_its_commit_and_latest() -> None:
    """Every push to main pushes runpod-higgs-tts under the commit and `latest`, once the disk is freed."""
    described = workflow("build-push")
    assert described["triggers"]["push"] == {"branches": ["main"]}
    assert "${{ github.sha }}" in described["concurrency"]["group"], "one push would cancel another's image"
    steps = described["jobs"]["gpu-worker"]["steps"]
    push = next(step["with"] for step in steps if step.get("uses", "").startswith("docker/build-push-action"))
    image = "${{ steps.image.outputs.name }}"
    assert push["tags"].splitlines() == [image + ":${{ github.sha }}", image + ":latest"]
    assert (push["target"], push["push"]) == ("gpu-worker", True)
    assert "mode=max" in push["cache-to"]
    names = [step.get("name", step.get("uses", "")) for step in steps]
    assert names.index("Free the disk") < names.index(next(name for name in names if "build-push" in name))


def test_the_image_s_name_is_in_lower_case() -> None:
    """A registry refuses upper case, so an owner's name is lowered before it is used."""
    steps = workflow("build-push")["jobs"]["gpu-worker"]["steps"]
    script = next(step["run"] for step in steps if step.get("id") == "image")
    named = subprocess.run(
        ["bash", "-euc", script.replace('"$GITHUB_OUTPUT"', "/dev/stdout")],
        env={"GITHUB_REPOSITORY_OWNER": "Some-Owner"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert named.stdout == "name=ghcr.io/some-owner/runpod-higgs-tts\n"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_to_a_commit(path: Path) -> None:
    """An action is named by 40 digits, with the release they are beside them for a reader."""
    for line in path.read_text().splitlines():
        if "uses:" in line:
            assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_ci_runs_what_there_is() -> None:
    """The targets and test files that CI names exist."""
    makefile = (ROOT / "Makefile").read_text()
    commands = [step.get("run", "") for job in workflow("ci")["jobs"].values() for step in job["steps"]]
    for command in commands:
        for target in re.findall(r"\bmake (\w+)", command):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        for file in re.findall(r"tests/\w+\.py", command):
            assert (ROOT / file).exists(), file


def test_the_hub_offers_settings_that_exist() -> None:
    """RunPod's Hub shows variables the worker reads, within its limits, and pools that exist."""
    hub = json.loads((ROOT / ".runpod/hub.json").read_text())
    config = hub["config"]
    assert (hub["type"], hub["category"], config["runsOn"]) == ("serverless", "audio", "GPU")
    assert set(config["gpuIds"].split(",")) <= POOLS
    for variable in config["env"]:
        name = variable["key"].removeprefix("WORKER_").lower()
        assert name in WorkerSettings.model_fields
        default = variable["input"]["default"]
        assert WorkerSettings.model_validate({name: default}) or default == ""


def test_the_hub_tests_are_requests() -> None:
    """What RunPod's Hub sends to try the worker is valid by the contract."""
    tests = json.loads((ROOT / ".runpod/tests.json").read_text())
    for test in tests["tests"]:
        parse_request(test["input"])
    for variable in tests["config"]["env"]:
        assert variable["key"].removeprefix("WORKER_").lower() in WorkerSettings.model_fields
