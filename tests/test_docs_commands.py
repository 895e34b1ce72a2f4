"""The commands of the pages: each is parsed by its program, then run or listed with a reason."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from cyclopts import MissingArgumentError
from fastapi.routing import APIRoute
from prefect.server.api import deployments, flow_runs
from support.audio import RATE, silence, speak
from support.narrations import CliWorkspace
from support.pages import PAGES, ROOT, Page
from support.prefect_servers import prefect_env

from flows.cli.main import app

PROGRAMS = ("narrate", "python", "prefect", "make", "bash", "docker")
SAMPLE_TEXT = "Exactly what the sample says."

NOT_RUN = {
    "docker": "there is no Docker engine; test_compose.py runs the compose file's commands as processes",
    "python -m infra.runpod_endpoint": "there is no account; test_runpod_endpoint.py has one of its own",
    "python -m infra.s3_bucket": "it needs a bucket; test_s3_bucket.py has servers for it",
    "python -m infra.prefect_setup": "every test with the fixture `deployed` runs it, and test_compose.py",
    "python -m infra.local_runpod": "it runs until it is stopped; test_local_runpod.py starts it",
    "python -m gpu_worker": "it needs weights; test_worker_cli.py has tiny ones",
    "python examples/": "test_deployments.py and test_worker_cli.py run the examples",
    "python benchmarks/": "they take minutes and print a table for RESULTS.md",
    "bash benchmarks/measure_gpu.sh": "it takes minutes; test_measure_gpu.py rehearses it",
    "prefect": "the servers and workers of the test kits are started by these commands",
    "curl": "test_deployments.py and test_deployed_runs.py make these requests",
    "make": "each installs, or runs all tests; CI runs them",
    "pip": "`make demo` installs by it",
    ".venv/bin/": "`make check` and `make test` run these programs",
    "source": "tests run in the virtual environment already",
    "export": "a setting, which test_docs.py knows",
    "narrate review intro --store s3://": "it needs a bucket; test_review.py renews a page in one",
    "py ": "there is no Windows here",
    ".venv/Scripts/": "there is no Windows here",
}
"""Commands that this file checks and does not run, by how they begin, with the reason."""


def commands_of(page: Page) -> list[list[str]]:
    """All commands of a page, in blocks and in the text."""
    windows = [words_on_windows(line) for block in page.blocks("powershell") for line in block.splitlines()]
    spoken = [[word for word in words if word != "…"] for words in page.spoken_commands(*PROGRAMS)]
    return [*page.commands(), *windows, *spoken]


def words_on_windows(line: str) -> list[str]:
    """The words of a command in PowerShell, as they would be elsewhere."""
    return shlex.split(line.replace("\\", "/").replace(".venv/Scripts/narrate", "narrate"))


COMMANDS = sorted({shlex.join(words) for page in PAGES for words in commands_of(page)})


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[:60])
def test_every_command_is_understood_by_its_program(command: str) -> None:
    """Its subcommand, options, files and parameters exist."""
    words = shlex.split(command)
    check = next((check for start, check in CHECKS.items() if command.startswith(start)), None)
    assert check is not None, "no program that this test knows"
    check(words)


def check_narrate(words: list[str]) -> None:
    """Parsed by the command line itself; the text may name a command without its arguments."""
    with suppress(MissingArgumentError):
        app.parse_args(words[1:], print_error=False, exit_on_error=False)


def check_python(words: list[str]) -> None:
    """The module, its subcommand and options, by its help; a program's options by its source."""
    if words[1] != "-m":
        source = (ROOT / words[1]).read_text(encoding="utf-8")
        assert all(f'"{word}"' in source for word in words if word.startswith("--")), words
        return
    name, *rest = words[2:]
    path = ROOT / name.replace(".", "/")
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name
    subcommand = [word for word in rest[:1] if not word.startswith("-")]
    assert_options(help_of(sys.executable, "-m", name, *subcommand), rest)


def check_prefect(words: list[str]) -> None:
    """The subcommand and its options, by its help; the parameters of a deployment, by its flow."""
    rest = [word for word in words[1:] if word != "--no-prompt"]
    subcommand = rest[:1] if rest[0] == "deploy" else rest[:2]
    assert_options(help_of(sys.executable, "-m", "prefect", *subcommand), rest)
    if rest[:2] == ["deployment", "run"]:
        flow_name, _, deployment = rest[2].partition("/")
        assert flow_name == deployment
        given = [rest[place + 1] for place, word in enumerate(rest) if word == "--param"]
        assert_parameters(flow_name, [parameter.partition("=")[0] for parameter in given])


def check_curl(words: list[str]) -> None:
    """The route exists at Prefect's API, and the body is what it takes."""
    (url,) = (word for word in words if word.startswith("$PREFECT_API_URL"))
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    routes = [*deployments.router.routes, *flow_runs.router.routes]
    paths = [
        route.path for route in routes if isinstance(route, APIRoute) and method in (route.methods or ())
    ]
    path = url.removeprefix("$PREFECT_API_URL")
    assert any(is_path_of(path, route) for route in paths), path
    if "-d" in words:
        body: dict[str, Any] = json.loads(words[words.index("-d") + 1])
        assert_parameters("narrate", body.get("parameters", {}))


def is_path_of(path: str, route: str) -> bool:
    """Whether `path` is one of the route's, where `{id}` takes anything."""
    parts, pattern = path.split("/"), route.split("/")
    return len(parts) == len(pattern) and all(
        part == expected or expected.startswith("{") for part, expected in zip(parts, pattern, strict=True)
    )


def check_make(words: list[str]) -> None:
    """A target of the Makefile."""
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(words[1:]) <= set(targets)


def check_docker(words: list[str]) -> None:
    """The files and the target that it names."""
    for option, folder in (("-f", ""), ("--file", "")):
        if option in words:
            assert (ROOT / folder / words[words.index(option) + 1]).is_file()
    if "--target" in words:
        dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
        assert re.search(rf"^FROM \S+ AS {words[words.index('--target') + 1]}$", dockerfile, re.MULTILINE)


def check_installation(words: list[str]) -> None:
    """The constraints, and the extras that it installs."""
    assert (ROOT / words[words.index("--constraint") + 1]).is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = re.fullmatch(r"\.(?:\[([\w,]+)\])?", words[words.index("--editable") + 1])
    assert extras is not None
    assert set((extras[1] or "worker").split(",")) <= set(project["optional-dependencies"])


def check_files(words: list[str]) -> None:
    """The files that it names."""
    assert all((ROOT / word).exists() for word in words[1:] if word.endswith((".py", ".sh")))


def nothing_to_check(_words: list[str]) -> None:
    """Its settings are checked in test_docs.py, or it is the system's own."""


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "narrate ": check_narrate,
    "python ": check_python,
    "prefect ": check_prefect,
    "curl ": check_curl,
    "make ": check_make,
    "docker ": check_docker,
    "pip install ": check_installation,
    ".venv/Scripts/pip install ": check_installation,
    "bash ": check_files,
    ".venv/bin/": check_files,
    ".venv/Scripts/pytest": check_files,
    "source .venv/bin/activate": nothing_to_check,
    "py -3.11 -m venv .venv": nothing_to_check,
    "export ": nothing_to_check,
}
"""By how a command begins, what is checked of it."""


def assert_options(shown: str, words: list[str]) -> None:
    """Each option in `words` is in a command's help."""
    missing = [word for word in words if word.startswith("-") and not re.search(rf"(?<!\S){word}\b", shown)]
    assert not missing, shown


def assert_parameters(name: str, parameters: Iterable[str]) -> None:
    """Each is a parameter of the flow of that name."""
    flow: Any = getattr(importlib.import_module(f"flows.{name}"), name)
    assert set(parameters) <= set(inspect.signature(flow.fn).parameters)


@cache
def help_of(*words: str) -> str:
    """What a command prints with `--help`."""
    done = subprocess.run(
        [*words, "--help"],
        env=prefect_env(Path.cwd()),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_of_the_pages_calls_what_exists() -> None:
    """The example starts the deployment with parameters that its flow has."""
    (block,) = [block for page in PAGES for block in page.blocks("python")]
    compile(block, "page", "exec")
    names = re.findall(r'"(\w+)":', block)
    assert names
    assert_parameters("narrate", names)


# Commands that are run


def narrate_commands() -> list[list[str]]:
    """The different `narrate` commands in the blocks of all pages, in the order of the pages."""
    order = ["README.md", "docs/scripts.md", "docs/operations.md"]
    ordered = [Page(name) for name in order] + [page for page in PAGES if page.name not in order]
    commands = [shlex.join(words) for page in ordered for words in page.commands() if words[0] == "narrate"]
    return [shlex.split(command) for command in dict.fromkeys(commands)]


@pytest.mark.timeout(600)
def test_the_commands_run_one_after_the_other_as_they_stand(cli: CliWorkspace) -> None:
    """With the script of docs/scripts.md, a voice sample and the draft voice, from first to last page."""
    (script,) = Page("docs/scripts.md").blocks("markdown")
    cli.write("talk.md", script)
    soundfile.write(cli.folder / "sample.wav", np.concatenate([speak(SAMPLE_TEXT), silence(0.3)]), RATE)
    ran = []
    for words in narrate_commands():
        if not shlex.join(words).startswith(tuple(NOT_RUN)):
            done = cli.narrate(*words[1:])
            assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
            ran.append(words[1])
    assert set(ran) >= {"plan", "run", "retake", "review", "voice", "doctor"}
    manifest = cli.manifest("talk-draft")
    assert manifest["chunks"][1]["take"] == 1  # the last retake goes back
    assert len(manifest["chunks"][1]["takes"]) > 1


def test_every_command_that_is_not_run_has_its_reason() -> None:
    """A reader of this file sees what only a person can try."""
    run = {shlex.join(words) for words in narrate_commands()}
    named = [command for command in COMMANDS if command.startswith("narrate ") and command not in run]
    others = [command for command in COMMANDS if command not in run and command not in named]
    assert [command for command in others if not command.startswith(tuple(NOT_RUN))] == []
    assert len([command for command in run if command.startswith(tuple(NOT_RUN))]) == 1
