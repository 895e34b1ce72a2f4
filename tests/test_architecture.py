"""The laws of the house: who may import whom, and which library has which door."""

from __future__ import annotations

import ast
import sys
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
"""Packages beside itself that each package may import."""

WORKER_MAY_IMPORT = {"narration.contract", "narration.fetch"}
STAND_IN = "infra.local_runpod"
STARTS_STAND_IN = "flows.cli.main"

DOORS: dict[str, tuple[str, ...]] = {
    "pysbd": ("narration.chunking.sentences",),
    "httpx": ("narration.endpoint", "narration.fetch", "infra", "flows.cli.flow_run"),
    "boto3": ("narration.store", "infra"),
    "botocore": ("narration.store", "infra"),
    "ffmpeg": ("narration.rendering",),
    "imageio_ffmpeg": ("narration.rendering.ffmpeg",),
    "soundfile": ("narration.audio.files", "gpu_worker.audio"),
    "soxr": ("narration.audio.files", "gpu_worker.audio", "gpu_worker.higgs.torchaudio_shim"),
    "cachetools": ("gpu_worker",),
    "torch": ("gpu_worker",),
    "transformers": ("gpu_worker",),
    "runpod": ("gpu_worker.handler", "infra"),
    "prefect": ("flows", "tasks", "infra"),
    "espeakng_loader": ("gpu_worker",),
    "filelock": ("narration.store.lock",),
    "rich": ("flows.cli.terminal",),
    "markdown_it": ("narration.script.markdown", "narration.script.footnotes"),
    "pydantic_settings": ("narration.settings", "gpu_worker.settings"),
}
"""The modules or packages through which each library enters."""


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
    """flows -> tasks -> narration <- gpu_worker; never back, never sideways."""
    package = module.split(".", maxsplit=1)[0]
    for imported in imports(MODULES[module]):
        target = imported.split(".")[0]
        if target not in PACKAGES or target == package:
            continue
        if within(imported, (STAND_IN,)) and module == STARTS_STAND_IN:
            continue
        assert target in MAY_IMPORT[package], f"{module} imports {imported}"


def test_no_rooms_import_each_other_in_a_circle() -> None:
    """Whichever is imported first, each finds the others whole."""
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
    """The worker's image carries the contract and the download of narration, and nothing else."""
    for imported in imports(MODULES[module]):
        if imported.startswith("narration"):
            assert within(imported, tuple(WORKER_MAY_IMPORT)), f"{module} imports {imported}"


@pytest.mark.parametrize("module", [name for name in MODULES if within(name, tuple(WORKER_MAY_IMPORT))])
def test_what_the_worker_shares_brings_nothing_along(module: str) -> None:
    """The shared modules need pydantic or httpx, the standard library and each other only."""
    allowed = ("narration.fetch", "httpx") if module.startswith("narration.fetch") else ("pydantic",)
    for imported in imports(MODULES[module]):
        top = imported.split(".")[0]
        assert within(imported, allowed) or top in sys.stdlib_module_names, f"{module} imports {imported}"


@pytest.mark.parametrize("library", DOORS)
def test_each_library_has_one_door(library: str) -> None:
    """A stranger finds the line that talks to a library without asking."""
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
    """Order and policy have no nouns of their own."""
    classes = [node.name for node in ast.walk(MODULES[module]) if isinstance(node, ast.ClassDef)]
    assert not classes


def test_no_flow_file_bears_the_name_of_a_top_level_package() -> None:
    """A path entrypoint puts the flow's folder first on the path, where such a file would shadow it."""
    names = {path.stem for path in (ROOT / "flows").glob("*.py")}
    assert not names & set(PACKAGES)


def test_narration_itself_holds_only_its_docstring() -> None:
    """Importing one room must not import the others."""
    body = MODULES["narration"].body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)


@pytest.mark.parametrize("module", MODULES)
def test_each_module_says_its_duty_first(module: str) -> None:
    """A reader knows from the first line whether this is the room."""
    docstring = ast.get_docstring(MODULES[module])
    assert docstring
    assert docstring.splitlines()[0].strip()
