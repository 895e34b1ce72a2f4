"""Changes of a provisioning script: computed, shown, and then applied unless it is a dry run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from narration.errors import InputError, NarrationError

ABSENT = "(absent)"


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting whose actual value is not the desired one; both values as text for a person."""

    name: str
    actual: str
    desired: str


@dataclass(frozen=True, slots=True)
class ProvisioningChange:
    """One object and how it differs from what is desired; `apply` creates or updates it."""

    object_name: str
    exists: bool
    differences: tuple[Difference, ...]
    apply: Callable[[], object] = field(repr=False)

    @property
    def needed(self) -> bool:
        """Whether there is anything to apply."""
        return not self.exists or bool(self.differences)

    @property
    def verb(self) -> str:
        """The effect of applying: `create`, `update` or `unchanged`."""
        if not self.exists:
            return "create"
        return "update" if self.differences else "unchanged"


def flatten(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested settings as one level of dotted names; lists and empty mappings are kept whole."""
    flat: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def compare(actual: Mapping[str, object], desired: Mapping[str, object]) -> tuple[Difference, ...]:
    """The differences of two flat mappings, in the order of `desired`, then what `desired` lacks."""
    names = [*desired, *(name for name in actual if name not in desired)]
    return tuple(
        Difference(name, _as_text(actual, name), _as_text(desired, name))
        for name in names
        if name not in actual or name not in desired or actual[name] != desired[name]
    )


def describe_changes(changes: Sequence[ProvisioningChange]) -> str:
    """The changes as lines for a person: each object with its verb, and its differences below it."""
    lines: list[str] = []
    for change in changes:
        lines.append(f"{change.verb:<9}  {change.object_name}")
        for difference in change.differences:
            before = f"{difference.actual} -> " if change.exists else ""
            lines.append(f"             {difference.name}: {before}{difference.desired}")
    return "\n".join(lines)


def apply_changes(changes: Sequence[ProvisioningChange], *, dry_run: bool) -> None:
    """Show the changes on stderr, then apply those that are needed, in order, unless `dry_run`."""
    sys.stderr.write(describe_changes(changes) + "\n")
    needed = [change for change in changes if change.needed]
    if not needed:
        sys.stderr.write("Nothing to do.\n")
    elif dry_run:
        sys.stderr.write(f"Dry run: {len(needed)} to change, nothing was changed.\n")
    else:
        for change in needed:
            change.apply()
        sys.stderr.write(f"Done: {len(needed)} changed.\n")


def run_script(script: Callable[[], None]) -> int:
    """Run a script's body; returns the exit status: 0, 2 for wrong input, 1 for other failures."""
    try:
        script()
    except NarrationError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2 if isinstance(error, InputError) else 1
    return 0


def _as_text(settings: Mapping[str, object], name: str) -> str:
    if name not in settings:
        return ABSENT
    value = settings[name]
    return value if isinstance(value, str) and value else repr(value)
