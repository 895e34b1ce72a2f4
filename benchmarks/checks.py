"""What a benchmark requires of its runs, and which of it did not hold; used by `chaos.py` and `load.py`."""

from __future__ import annotations


class Checks:
    """Collects failed requirements, so that a run goes on and reports all of them at its end."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def require(self, held: bool, failure: str) -> None:
        """Note `failure` unless the requirement was `held`."""
        if not held:
            self.failures.append(failure)

    def require_equal(self, name: str, value: object, expected: object) -> None:
        """Note a failure unless `value` is `expected`."""
        self.require(value == expected, f"{name}: {value}, expected {expected}")

    def exit_status(self) -> int:
        """Print every failure; 0 if there is none, else 1."""
        for failure in self.failures:
            print(f"FAILED {failure}")
        return 1 if self.failures else 0
