"""The docstrings of `tests/support` and `tests/faults` say which module is for what."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import faults
import pytest
import support

MODULES = [
    (package, path.stem)
    for package in (support, faults)
    for path in sorted(Path(str(package.__file__)).parent.glob("[!_]*.py"))
    if not path.stem.startswith("test_")
]


@pytest.mark.parametrize(("package", "module"), MODULES, ids=[name for _, name in MODULES])
def test_every_kit_is_named_where_a_reader_looks_for_it(package: ModuleType, module: str) -> None:
    """A kit that its package does not mention is written a second time."""
    assert f"`{module}`" in str(package.__doc__)
