"""Time and memory of chunking a script, and whether twice the text takes twice the time.

    python benchmarks/chunking.py [--characters N]

Each case runs in processes of its own, three times for N characters (a million) and three times for
half of them; the fastest counts. `ratio` is the one over the other: 2 is linear, over 2.3 is not.
Exit status 1 if a case takes more than `narrate plan` may take for a million characters.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

EXPLAINER = Path(__file__).parent.parent / "examples" / "explainer.md"
MOST_SECONDS, MOST_MEGABYTES, MOST_RATIO = 20, 500, 2.3


def normal(characters: int) -> str:
    """The example script, repeated."""
    body = EXPLAINER.read_text(encoding="utf-8").rpartition("-->")[2]
    return (body * (characters // len(body) + 1))[:characters]


def one_paragraph(characters: int) -> str:
    """The same words without a line break or a heading."""
    prose = "".join(line for line in normal(characters).splitlines(keepends=True) if line[:1] not in "#-")
    return (" ".join(prose.split()) + " ").ljust(characters, "a")


def one_word(characters: int) -> str:
    """One word of that length."""
    return "word" * (characters // 4)


CASES: dict[str, Callable[[int], str]] = {
    "normal": normal,
    "one paragraph": one_paragraph,
    "one word": one_word,
}


def measure(case: str, characters: int) -> None:
    """Chunk one script and print seconds of CPU, chunks, and peak memory in MB as JSON."""
    import resource

    from narration.chunking import chunk_script
    from narration.script import parse_script

    data = CASES[case](characters).encode()
    before = time.process_time()
    chunks = chunk_script(parse_script(data, name="script.md"))
    seconds = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(json.dumps({"seconds": seconds, "chunks": len(chunks), "peak": peak}))


def run(case: str, characters: int) -> dict[str, float]:
    """The fastest of three runs of `measure`, each in a fresh process."""
    command = [sys.executable, __file__, "--measure", case, "--characters", str(characters)]
    answers: list[dict[str, float]] = [
        json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(3)
    ]
    return min(answers, key=lambda answer: answer["seconds"])


def main() -> None:
    """Print the table; exit status 1 if a case takes more than the limits above."""
    parser = argparse.ArgumentParser(description="Time and memory of chunking.")
    parser.add_argument("--characters", type=int, default=1_000_000)
    parser.add_argument("--measure", choices=CASES)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.characters)
        return
    print(f"{'script':15}{'characters':>12}{'chunks':>8}{'CPU s':>8}{'char/s':>10}{'peak MB':>9}{'ratio':>7}")
    within = True
    for case in CASES:
        half, whole = run(case, arguments.characters // 2), run(case, arguments.characters)
        ratio = whole["seconds"] / half["seconds"]
        speed = arguments.characters / whole["seconds"]
        print(
            f"{case:15}{arguments.characters:12}{whole['chunks']:8.0f}{whole['seconds']:8.2f}{speed:10.0f}"
            f"{whole['peak']:9.0f}{ratio:7.2f}"
        )
        within &= whole["seconds"] < MOST_SECONDS and whole["peak"] < MOST_MEGABYTES and ratio <= MOST_RATIO
    sys.exit(0 if within else 1)


if __name__ == "__main__":
    main()
