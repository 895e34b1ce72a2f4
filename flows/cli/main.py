"""The command `narrate`: its groups of commands, its exit status, and errors in one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from cyclopts import App, CycloptsError, Group, Parameter

from flows.cli import terminal
from flows.cli.argument_types import examples
from flows.cli.commands import maintenance, published, runs, voices
from flows.cli.process_exit import BAD_INPUT, DONE, FAILED, PIPE_CLOSED, STOPPED, exit_process
from narration.errors import NarrationError
from narration.escaping import single_line

DISTRIBUTION = "narration-pipeline"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  # 20 ms, for `--version` alone

    try:
        return f"narrate {version(DISTRIBUTION)}"
    except PackageNotFoundError:  # a source tree that is not installed
        return "narrate, not installed"


app = App(
    name="narrate",
    help="Narration scripts to finished narrations in a cloned voice.",
    help_epilogue=examples(
        "narrate plan talk.md", "narrate run talk.md", "narrate retake talk 3 7", "narrate run --help"
    ),
    help_format="plaintext",
    version=_version,
    default_parameter=Parameter(negative=(), show_default=False, allow_repeating=True),
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
for group in (runs, published, voices, maintenance):
    for name in group.commands:
        if not name.startswith("-"):  # but for the group's own --help and --version
            app.command(group.commands[name], name=name)
OPTIONS = Group("Options", sort_key=9)
for flag in ("--help", "--version"):
    app[flag].group = (OPTIONS,)


def program() -> NoReturn:
    """Run the process `narrate` from its first to its last moment."""
    exit_process(main())


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 (some chunk failed; the rest is stored) or 2 (bad input)."""
    terminal.replace_unencodable()
    try:
        status: int | None = app(sys.argv[1:] if words is None else words)
    except CycloptsError as error:
        return _refuse(error)
    except NarrationError as error:
        terminal.say(f"narrate: {error}", style="red")
        return FAILED if error.clips_stored else BAD_INPUT
    except KeyboardInterrupt:
        terminal.say("narrate: stopped; what was stored is kept, the same command goes on from there")
        return STOPPED
    except BrokenPipeError:
        terminal.discard_output()
        return PIPE_CLOSED
    return DONE if status is None else status  # the help and the version return nothing


def _refuse(error: CycloptsError) -> int:
    """Say what is wrong with the command's words, and where its help is."""
    command = " ".join(["narrate", *(error.command_chain or ())])
    terminal.say(f"narrate: {single_line(str(error))}", style="red")
    terminal.say(f"`{command} --help` shows what the command takes")
    return BAD_INPUT


if __name__ == "__main__":
    program()
