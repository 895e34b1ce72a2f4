"""The pages agree with the code: links, packages, settings, fields, quoted messages, examples of scripts."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from functools import cache

import pytest
import yaml
from prefect.settings import Settings as PrefectSettings
from support.pages import PAGES, ROOT, Page, rows

from flows.cli.main import app
from gpu_worker.settings import WorkerSettings
from infra.local_runpod.environment import API_KEY_VARIABLE
from narration.contract import SynthesisRequest
from narration.script import parse_script
from narration.settings import Settings
from tasks.run_artifacts import PUBLISHED

README, ARCHITECTURE, OPERATIONS, SCRIPTS, WORKER = (
    Page(name)
    for name in (
        "README.md",
        "docs/architecture.md",
        "docs/operations.md",
        "docs/scripts.md",
        "gpu_worker/README.md",
    )
)
PACKAGES = ("narration", "flows", "tasks", "gpu_worker", "infra")
README_WORDS = 900
LANGUAGES = {"sh", "powershell", "python", "markdown", "text"}
HISTORY = Page("CHANGELOG.md")
"""Names modules as they were."""

SETTINGS_OF_OTHERS = {
    API_KEY_VARIABLE,
    "RUNPOD_INIT_TIMEOUT",  # RunPod's
    "RUNPOD_LOG_LEVEL",  # of RunPod's SDK
    "POSTGRES_PASSWORD",  # of infra/compose.yaml, as the next
    "NARRATION_WORKERS",
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_PROFILE"),
}
"""Variables that neither the pipeline's settings nor the worker's have."""

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def variables_of(settings: type[Settings | WorkerSettings]) -> dict[str, str]:
    """The field of each environment variable."""
    prefix = str(settings.model_config.get("env_prefix"))
    aliases = {name: field.validation_alias for name, field in settings.model_fields.items()}
    return {str(alias or prefix + name.upper()): name for name, alias in aliases.items()}


def words_in(text: str) -> int:
    """How many words `wc -w` counts."""
    return len(text.split())


# What every page must be


def test_the_readme_is_short() -> None:
    """A newcomer reads it in a few minutes; what is longer has a page of its own."""
    assert words_in(README.text) <= README_WORDS


@pages
def test_every_link_leads_somewhere(page: Page) -> None:
    """To a file or folder of the project, and to a heading where it names one."""
    for target in page.links():
        path, _, anchor = target.partition("#")
        linked = (page.path.parent / path).resolve() if path else page.path
        assert linked.exists(), target
        assert linked.is_relative_to(ROOT)
        if anchor:
            assert anchor in Page(linked.relative_to(ROOT).as_posix()).anchors(), target


def test_every_page_is_reached_from_the_readme() -> None:
    """A page that nothing links is not found."""
    reached, waiting = {README.name}, [README]
    while waiting:
        page = waiting.pop()
        linked = {(page.path.parent / target.partition("#")[0]).resolve() for target in page.links()}
        new = {one for one in PAGES if one.path in linked and one.name not in reached}
        reached |= {one.name for one in new}
        waiting.extend(new)
    assert reached == {page.name for page in PAGES}


@pages
def test_every_block_names_its_language(page: Page) -> None:
    """By it readers see colours, and `test_docs_commands.py` finds the commands."""
    assert {block.language for block in page.all_blocks()} <= LANGUAGES


@pytest.mark.parametrize("page", [page for page in PAGES if page != HISTORY], ids=lambda page: page.name)
def test_no_page_names_an_unknown_file_or_module(page: Page) -> None:
    """Paths such as `narration/store/layout.py`, and names such as `flows.narrate.narrate`."""
    for span in page.spans():
        if re.fullmatch(
            r"(narration|flows|tasks|gpu_worker|infra|tests|benchmarks|examples|docs)/[\w./-]*", span
        ):
            assert (ROOT / span).exists(), span
        elif re.fullmatch(rf"({'|'.join(PACKAGES)})(\.\w+)+", span):
            assert span == PUBLISHED or is_importable(span), span


def is_importable(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    path = ROOT.joinpath(*parts)
    if path.with_suffix(".py").is_file() or path.is_dir():
        return True
    return hasattr(importlib.import_module(".".join(parts[:-1])), parts[-1])


@pages
def test_every_variable_is_a_setting(page: Page) -> None:
    """Of the pipeline, of the worker, of Prefect, or one of the few others."""
    known = {*variables_of(Settings), *variables_of(WorkerSettings), *SETTINGS_OF_OTHERS}
    names = set(
        re.findall(
            r"\b(?:NARRATION|WORKER|RUNPOD|VOICE_SAMPLE|LOCAL_RUNPOD|AWS)_[A-Z0-9_]*[A-Z0-9]\b", page.text
        )
    )
    assert names <= known
    for name in re.findall(r"\bPREFECT_[A-Z_]+\b", page.text):
        assert is_prefect_setting(name), name


def is_prefect_setting(name: str) -> bool:
    """Whether the installed Prefect reads the variable."""
    return name in prefect_variables()


@cache
def prefect_variables() -> set[str]:
    """The variables of the installed Prefect, with their older names."""
    names: set[str] = set()

    def add(model: type, prefix: str) -> None:
        for field, info in model.model_fields.items():  # type: ignore[attr-defined]  # pydantic settings
            alias = info.validation_alias
            choices = getattr(alias, "choices", [alias] if isinstance(alias, str) else [])
            names.update(choice.upper() for choice in choices if isinstance(choice, str))
            names.add(f"{prefix}{field.upper()}")
            if hasattr(info.annotation, "model_fields"):
                add(info.annotation, f"{prefix}{field.upper()}_")

    add(PrefectSettings, "PREFECT_")
    return names


# Tables and trees that list what the code has


def test_the_settings_table_has_every_setting_with_its_default() -> None:
    """Nothing is missing, invented, or documented with another default."""
    documented = {
        name.strip("`"): default.strip("`") for name, default, _ in rows(OPERATIONS.section("Settings"))
    }
    variables = variables_of(Settings)
    assert set(documented) == set(variables)
    for name, field in variables.items():
        default = Settings.model_fields[field].default
        text = str(default).lower() if isinstance(default, bool) else str(default)
        assert documented[name] == ("" if default is None else text), name


def test_the_workers_page_has_every_setting_of_the_worker() -> None:
    """Each variable has a row in its tables."""
    first_cells = " ".join(cells[0] for cells in rows(WORKER.text))
    variables = set(variables_of(WorkerSettings))
    assert {name for name in re.findall(r"`(\w+)`", first_cells) if name.isupper()} == variables


def test_the_example_environment_names_settings_only() -> None:
    """`.env.example` can be copied and filled in."""
    names = re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(names) <= {*variables_of(Settings), *variables_of(WorkerSettings), *SETTINGS_OF_OTHERS}


def test_the_tree_has_every_package_and_module_of_narration() -> None:
    """A reader finds each package in it, and none that is not there."""
    tree = next(block.text for block in ARCHITECTURE.all_blocks() if block.text.startswith("flows/"))
    named = set(paths_in(tree))
    assert all((ROOT / name).exists() for name in named), named
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")}
    modules = {path for path in (ROOT / "narration").glob("*.py") if path.name != "__init__.py"}
    assert {path.relative_to(ROOT).as_posix() for path in folders | modules} <= named


def paths_in(tree: str) -> list[str]:
    """The paths in a tree drawn by indentation, a description after each name."""
    paths: list[str] = []
    parents = [""]
    for line in tree.splitlines():
        indent = len(line) - len(line.lstrip())
        if indent > 8:  # a description that goes on
            continue
        parents = parents[: indent // 2 + 1]
        names = re.split(r"\s{2,}", line.strip())[0].split(", ")
        paths.extend(parents[-1] + name.rstrip("/") for name in names)
        parents.append(paths[-1] + "/")
    return paths


def test_the_contracts_table_has_every_field() -> None:
    """Each field of a request is described."""
    first_cells = " ".join(cells[0] for cells in rows(ARCHITECTURE.section("The contract with the worker")))
    assert set(re.findall(r"`(\w+)`", first_cells)) == set(SynthesisRequest.model_fields)


def test_the_readme_has_every_command() -> None:
    """Each command of `narrate` stands in its table."""
    named = {words[1] for words in README.spoken_commands("narrate")}
    assert named == {name for name in app if not name.startswith("-")}


def test_the_deployments_are_those_of_prefect_yaml() -> None:
    """Operations and architecture name each of them."""
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    for page in (OPERATIONS, ARCHITECTURE):
        assert all(re.search(rf"\b{deployment['name']}\b", page.text) for deployment in deployments)


def test_the_latest_version_is_in_the_changelog() -> None:
    """The version of the package has an entry, below what is not released yet."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    headings = re.findall(r"^## (.+)$", HISTORY.text, re.MULTILINE)
    assert version in headings
    assert headings.index(version) == headings.count("Unreleased")


# What pages say of messages, of Prefect and of scripts


def test_every_quoted_message_is_one_that_the_code_has() -> None:
    """In the table of failures `…` stands for what differs from case to case."""
    texts = "\n".join(literals())
    quoted = [
        span
        for cells in rows(OPERATIONS.section("What a failure looks like"))
        for span in re.findall(r"`([^`]+)`", cells[0])
    ]
    assert len(quoted) > 20
    for message in quoted:
        parts = [part.strip("$") for part in message.split("…") if len(part.strip()) > 6]
        assert all(part in texts for part in parts), message


@cache
def literals() -> list[str]:
    """Every piece of text in the code, those of f-strings included."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    nodes = (node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def test_the_named_setting_is_the_one_by_which_prefects_server_finds_postgresql(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Alone, and where its older name is set too."""
    newer, older = "PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL"
    section = OPERATIONS.section("Set up a server")
    assert f"export {newer}=postgresql+asyncpg://" in section
    assert f"`{older}` is its older name" in section
    monkeypatch.setenv(older, "postgresql+asyncpg://older/prefect")
    assert connection_url() == "postgresql+asyncpg://older/prefect"
    monkeypatch.setenv(newer, "postgresql+asyncpg://newer/prefect")
    assert connection_url() == "postgresql+asyncpg://newer/prefect"


def connection_url() -> str:
    """The database's address that Prefect reads from the environment."""
    url = PrefectSettings().server.database.connection_url
    assert url is not None
    return url.get_secret_value()


def test_the_example_script_is_spoken_as_the_page_says() -> None:
    """Each paragraph in order, and nothing else."""
    (written,) = SCRIPTS.blocks("markdown")
    (spoken,) = SCRIPTS.blocks("text")
    script = parse_script(written.encode(), name="example.md")
    assert [paragraph.text for paragraph in script.paragraphs] == spoken.splitlines()
    assert script.title == "The Box"
