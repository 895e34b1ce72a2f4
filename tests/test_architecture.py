"""The architecture: which package may import which, and which modules may import which library."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("narration", "flows", "tasks", "gpu_worker", "infra")

MAY_IMPORT = {
    "narration": set(),
    "tasks": {"narration"},
    "flows": {"tasks", "narration"},
    "gpu_worker": {"narration"},
    "infra": {"narration"},
}
"""The other packages that each package may import."""

IN_WORKER_IMAGE: dict[str, set[str]] = {
    "narration": set(),
    "narration.audio": set(),
    "narration.audio.containers": set(),
    "narration.audio.files": {"numpy", "soundfile", "soxr"},
    "narration.audio.voice_sample": {"numpy"},
    "narration.contract": {"pydantic"},
    "narration.errors": set(),
    "narration.escaping": set(),
    "narration.fetch": set(),
    "narration.fetch.addresses": {"httpx"},
    "narration.fetch.deadline": set(),
    "narration.fetch.download": {"httpx"},
    "narration.fetch.errors": set(),
    "narration.fetch.urls": {"httpx"},
    "narration.model_ids": set(),
}
"""The modules of narration that the worker's image copies, and the libraries that each may import."""
STAND_IN = "infra.local_runpod"
STARTS_STAND_IN = "flows.cli.local_endpoint"

DOORS: dict[str, tuple[str, ...]] = {
    "pysbd": ("narration.chunking.sentences",),
    "httpx": (
        *("narration.endpoint", "narration.fetch", "infra", "flows.cli.flow_run"),
        "gpu_worker.speech_server.http_request",
    ),
    "boto3": ("narration.store", "infra"),
    "botocore": ("narration.store", "infra"),
    "ffmpeg": ("narration.rendering",),
    "cachetools": ("gpu_worker",),
    "imageio_ffmpeg": ("narration.audio.ffmpeg",),
    "soundfile": ("narration.audio.files",),
    "soxr": ("narration.audio.files", "gpu_worker.higgs.torchaudio_shim"),
    "torch": ("gpu_worker",),
    "transformers": ("gpu_worker",),
    "triton": ("gpu_worker.higgs.triton_attention", "gpu_worker.higgs.triton_snake"),
    "runpod": ("gpu_worker.handler", "infra"),
    "prefect": ("flows", "tasks", "infra"),
    "espeakng_loader": ("gpu_worker",),
    "filelock": ("narration.store.lock",),
    "rich": ("flows.cli.terminal", "flows.cli.progress_display"),
    "cyclopts": ("flows.cli.main", "flows.cli.argument_types", "flows.cli.commands"),
    "jinja2": ("narration.publishing.review",),
    "regex": ("narration.rendering.caption_lines",),
    "markdown_it": ("narration.script.markdown", "narration.script.footnotes"),
    "pydantic_settings": ("narration.settings", "gpu_worker.settings"),
}
"""The modules or packages that may import each library."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module and name imported, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(place + ".") for place in places)


MODULES = dict(modules())


@pytest.mark.parametrize("module", MODULES)
def test_arrows_run_one_way(module: str) -> None:
    """A module imports only packages named in `MAY_IMPORT`: flows -> tasks -> narration <- gpu_worker."""
    package = module.split(".", maxsplit=1)[0]
    for imported in imports(MODULES[module]):
        target = imported.split(".")[0]
        if target not in PACKAGES or target == package:
            continue
        if within(imported, (STAND_IN,)) and module == STARTS_STAND_IN:
            continue
        assert target in MAY_IMPORT[package], f"{module} imports {imported}"


def test_no_rooms_import_each_other_in_a_circle() -> None:
    """No module imports itself by way of others, so that the order of imports does not matter."""
    needs = {
        module: {imported for imported in imports(tree) if imported in MODULES and imported != module}
        for module, tree in MODULES.items()
    }
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("gpu_worker")])
def test_the_worker_stands_alone(module: str) -> None:
    """Of narration, gpu_worker imports only the modules that its image copies."""
    for imported in imports(MODULES[module]):
        if imported.startswith("narration") and imported in MODULES:
            assert imported in IN_WORKER_IMAGE, f"{module} imports {imported}"


@pytest.mark.parametrize("module", IN_WORKER_IMAGE)
def test_what_the_worker_shares_brings_nothing_along(module: str) -> None:
    """The shared modules import their libraries, each other and the standard library only."""
    for imported in imports(MODULES[module]):
        top = imported.split(".")[0]
        if top == "narration":
            assert imported not in MODULES or imported in IN_WORKER_IMAGE, f"{module} imports {imported}"
        else:
            allowed = IN_WORKER_IMAGE[module] | sys.stdlib_module_names
            assert top in allowed, f"{module} imports {imported}"


def test_the_worker_shares_no_module_without_need() -> None:
    """Each shared module is imported by gpu_worker, directly or by way of another one."""
    reached: set[str] = set()
    waiting = [name for name in MODULES if name.startswith("gpu_worker")]
    while waiting:
        for imported in imports(MODULES[waiting.pop()]):
            parts = imported.split(".")
            packages = {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
            new = {name for name in packages & MODULES.keys() if name.startswith("narration")} - reached
            reached |= new
            waiting.extend(new)
    assert reached == set(IN_WORKER_IMAGE)


@pytest.mark.parametrize("library", DOORS)
def test_each_library_has_one_door(library: str) -> None:
    """A library is imported only by the modules that `DOORS` names, and by at least one of them."""
    users = [
        name
        for name, tree in MODULES.items()
        if any(imported.split(".")[0] == library for imported in imports(tree))
    ]
    assert users, f"{library} is not used at all"
    strays = [name for name in users if not within(name, DOORS[library])]
    assert not strays, f"{library} is imported by {strays}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.split(".")[0] in {"flows", "tasks"}])
def test_flows_and_tasks_define_no_types(module: str) -> None:
    """No class is defined in flows or tasks; types belong to narration."""
    classes = [node.name for node in ast.walk(MODULES[module]) if isinstance(node, ast.ClassDef)]
    assert not classes


def test_no_flow_file_bears_the_name_of_a_top_level_package() -> None:
    """A path entrypoint puts the flow's folder first on the path, where such a file would shadow it."""
    names = {path.stem for path in (ROOT / "flows").glob("*.py")}
    assert not names & set(PACKAGES)


def test_narration_itself_holds_only_its_docstring() -> None:
    """Importing one module of narration does not import the others."""
    body = MODULES["narration"].body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)


@pytest.mark.parametrize("module", MODULES)
def test_each_module_says_its_duty_first(module: str) -> None:
    """Each module has a docstring, whose first line is its duty."""
    docstring = ast.get_docstring(MODULES[module])
    assert docstring
    assert docstring.splitlines()[0].strip()


def test_files_beside_the_modules_are_installed_with_them() -> None:
    """Templates, schemas and tables that a module reads are named as package data."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    data = config["tool"]["setuptools"]["package-data"]
    installed = {
        path
        for package, patterns in data.items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    beside = {
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
    assert {path.name for path in beside - installed} == {
        "README.md",
        "requirements.txt",
    }  # read by people and the image


def test_the_workflows_name_test_files_that_exist() -> None:
    """A test file that is renamed stays in the jobs that name it."""
    workflows = (ROOT / ".github/workflows").glob("*.yml")
    named = {name for path in workflows for name in re.findall(r"tests/[\w/]+\.py", path.read_text())}
    assert named
    assert {name for name in named if not (ROOT / name).is_file()} == set()
