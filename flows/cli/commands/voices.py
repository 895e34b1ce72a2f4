"""Commands on the store's voices: `voice add`, `voice list`, `voice check`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Group, Parameter

from flows.cli import terminal
from flows.cli.argument_types import StoreOption, VoiceName, examples
from flows.cli.command_settings import command_settings
from flows.cli.process_exit import BAD_INPUT, DONE
from narration.store import VoiceCollection, open_store
from narration.voices import add_voice, list_voices, recheck_voice

commands = App()
voice = App(
    name="voice",
    help="Add, list and check voices.",
    group=Group("Voices", sort_key=3),
    help_epilogue=examples(
        'narrate voice add anna --sample anna.wav --transcript "Exactly what it says."', "narrate voice list"
    ),
)
commands.command(voice)


@voice.command
def add(
    name: VoiceName,
    /,
    *,
    sample: Annotated[
        str,
        Parameter(metavar="FILE_OR_URL", help="1 to 30 s of clean speech, in any format that ffmpeg reads."),
    ],
    transcript: Annotated[
        str,
        Parameter(metavar="FILE_OR_TEXT", allow_leading_hyphen=True, help="Exactly what the sample says."),
    ],
    replace: Annotated[bool, Parameter(help="Replace a voice of that name.")] = False,
    store: StoreOption = None,
) -> int:
    """Import a voice into the store, and check its sample."""
    settings = command_settings(store=store)
    voices = open_store(settings.store).voices
    added = add_voice(
        voices,
        name,
        sample,
        transcript,
        replace=replace,
        allow_private=settings.allow_private_urls,
        ffmpeg=settings.ffmpeg,
    )
    terminal.result(f"{added.name}: {added.seconds:.1f} s, SHA-256 {added.sha256[:12]}…")
    return _show_problems(voices, added.name)


@voice.command(name="list")
def list_all(*, store: StoreOption = None) -> int:
    """List the store's voices."""
    voices = list_voices(open_store(command_settings(store=store).store).voices)
    if not voices:
        terminal.say("no voices yet; add one with `narrate voice add NAME --sample … --transcript …`")
        return DONE
    rows = [("voice", "seconds", "SHA-256", "transcript")]
    rows += [(each.name, f"{each.seconds:.1f}", each.sha256[:12], each.transcript) for each in voices]
    terminal.result_table(rows, right=(1,))
    return DONE


@voice.command
def check(name: VoiceName, /, *, store: StoreOption = None) -> int:
    """Check a voice's sample again."""
    return _show_problems(open_store(command_settings(store=store).store).voices, name)


def _show_problems(voices: VoiceCollection, name: str) -> int:
    problems = recheck_voice(voices, name)
    for problem in problems:
        style = "red" if problem.severity == "error" else "yellow"
        terminal.result(f"  {problem.severity:<8} {problem.message}; {problem.remedy}", style=style)
    if not problems:
        terminal.result("  ok       length, level, clipping and a quiet end", style="green")
    return BAD_INPUT if any(problem.severity == "error" for problem in problems) else DONE
