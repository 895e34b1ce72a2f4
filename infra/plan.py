"""What a provisioning script would change: shown before it is done, empty when there is nothing to do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from narration.errors import InputError, NarrationError

ABSENT = "(absent)"


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting that is not as wanted, both sides as text for a person."""

    name: str
    present: str
    wanted: str


@dataclass(frozen=True, slots=True)
class ProvisioningChange:
    """One thing and how it differs from what is wanted; `apply` makes it so.

    `present` is False for a thing that does not exist yet.
    """

    what: str
    present: bool
    differences: tuple[Difference, ...]
    apply: Callable[[], object] = field(repr=False)

    @property
    def needed(self) -> bool:
        """Whether there is anything to apply."""
        return not self.present or bool(self.differences)

    @property
    def verb(self) -> str:
        """What applying would do: `create`, `update` or `unchanged`."""
        if not self.present:
            return "create"
        return "update" if self.differences else "unchanged"


def flatten(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Nested settings as one level of dotted names; lists and empty mappings stay whole."""
    flat: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def compare(present: Mapping[str, object], wanted: Mapping[str, object]) -> tuple[Difference, ...]:
    """How two flat mappings differ, in the order of `wanted`, then what is wanted gone."""
    names = [*wanted, *(name for name in present if name not in wanted)]
    return tuple(
        Difference(name, _shown(present, name), _shown(wanted, name))
        for name in names
        if name not in present or name not in wanted or present[name] != wanted[name]
    )


def describe_changes(plan: Sequence[ProvisioningChange]) -> str:
    """The plan as lines for a person: each thing with its verb, each difference below it."""
    lines: list[str] = []
    for change in plan:
        lines.append(f"{change.verb:<9}  {change.what}")
        for difference in change.differences:
            was = f"{difference.present} -> " if change.present else ""
            lines.append(f"             {difference.name}: {was}{difference.wanted}")
    return "\n".join(lines)


def apply_changes(plan: Sequence[ProvisioningChange], *, dry_run: bool) -> None:
    """Show the plan on stderr, then apply what is needed of it, in order, unless `dry_run`."""
    sys.stderr.write(describe_changes(plan) + "\n")
    needed = [change for change in plan if change.needed]
    if not needed:
        sys.stderr.write("Nothing to do.\n")
    elif dry_run:
        sys.stderr.write(f"Dry run: {len(needed)} to change, nothing was changed.\n")
    else:
        for change in needed:
            change.apply()
        sys.stderr.write(f"Done: {len(needed)} changed.\n")


def run_script(script: Callable[[], None]) -> int:
    """Run a script's body; its exit status: 0, 2 for what the person must mend, 1 for other failures."""
    try:
        script()
    except NarrationError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2 if isinstance(error, InputError) else 1
    return 0


def _shown(settings: Mapping[str, object], name: str) -> str:
    if name not in settings:
        return ABSENT
    value = settings[name]
    return value if isinstance(value, str) and value else repr(value)
