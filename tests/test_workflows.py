"""GitHub's workflows, which test and push the images, and the files for RunPod's Hub."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpu_worker.settings import WorkerSettings
from narration.contract import parse_request

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
NO_LINTERS = sys.platform == "win32" or platform.machine() == "aarch64"
POOLS = {
    *("AMPERE_16", "AMPERE_24", "ADA_24", "AMPERE_48", "ADA_48_PRO"),
    *("AMPERE_80", "ADA_80_PRO", "HOPPER_141"),
}


def workflow(name: str) -> dict[str, Any]:
    # YAML 1.1 reads the key `on` as true.
    text = (ROOT / f".github/workflows/{name}.yml").read_text().replace("\non:", "\ntriggers:")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@pytest.mark.skipif(NO_LINTERS, reason="the linters have no wheel for this platform")
def test_the_workflows_lint() -> None:
    """zizmor finds nothing in the workflows: no unpinned action, needless permission or injectable text."""
    linted = subprocess.run(
        [f"{sysconfig.get_path('scripts')}/zizmor", "--offline", "--no-progress", *WORKFLOWS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_a_push_to_main_pushes_the_image_as_its_commit_and_latest() -> None:
    """The workflow tags runpod-higgs-tts with the commit and `latest`, after it has freed the disk."""
    described = workflow("build-push")
    assert described["triggers"]["push"] == {"branches": ["main"]}
    assert "${{ github.sha }}" in described["concurrency"]["group"], (
        "else one push would cancel the image of another"
    )
    steps = described["jobs"]["gpu-worker"]["steps"]
    push = next(step["with"] for step in steps if step.get("uses", "").startswith("docker/build-push-action"))
    image = "${{ steps.image.outputs.name }}"
    assert push["tags"].splitlines() == [image + ":${{ github.sha }}", image + ":latest"]
    assert (push["target"], push["push"]) == ("gpu-worker", True)
    assert "mode=max" in push["cache-to"]
    names = [step.get("name", step.get("uses", "")) for step in steps]
    assert names.index("Free the disk") < names.index(next(name for name in names if "build-push" in name))


def test_the_images_name_is_in_lower_case() -> None:
    """Registries refuse upper case, which an owner's name may have."""
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
    """By 40 hex digits, with the release in a comment."""
    for line in path.read_text().splitlines():
        if "uses:" in line:
            assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_ci_runs_targets_and_files_that_exist() -> None:
    """Every make target and test file that CI names exists."""
    makefile = (ROOT / "Makefile").read_text()
    commands = [step.get("run", "") for job in workflow("ci")["jobs"].values() for step in job["steps"]]
    for command in commands:
        for target in re.findall(r"\bmake (\w+)", command):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        for file in re.findall(r"tests/\w+\.py", command):
            assert (ROOT / file).exists(), file


def test_the_hub_offers_valid_settings() -> None:
    """RunPod's Hub shows variables that the worker reads, with valid defaults, and GPU pools that exist."""
    hub = json.loads((ROOT / ".runpod/hub.json").read_text())
    config = hub["config"]
    assert (hub["type"], hub["category"], config["runsOn"]) == ("serverless", "audio", "GPU")
    assert set(config["gpuIds"].split(",")) <= POOLS
    for variable in config["env"]:
        name = variable["key"].removeprefix("WORKER_").lower()
        assert name in WorkerSettings.model_fields
        default = variable["input"]["default"]
        assert WorkerSettings.model_validate({name: default}) or default == ""


def test_the_hubs_tests_are_valid_requests() -> None:
    """The inputs that RunPod's Hub sends to test the worker satisfy the contract."""
    tests = json.loads((ROOT / ".runpod/tests.json").read_text())
    for test in tests["tests"]:
        parse_request(test["input"])
    for variable in tests["config"]["env"]:
        assert variable["key"].removeprefix("WORKER_").lower() in WorkerSettings.model_fields
