"""`narrate voice`: import voices into the store, list them, check them."""

from __future__ import annotations

import argparse

from flows.cli import terminal
from flows.cli.terminal import BAD_INPUT, DONE
from narration.settings import Settings
from narration.store import VoiceCollection, open_store
from narration.voices import add_voice, list_voices, recheck_voice


def add(given: argparse.Namespace, settings: Settings) -> int:
    """Import a voice into the store."""
    voice = add_voice(
        open_store(settings.store).voices,
        given.name,
        given.sample,
        given.transcript,
        replace=given.replace,
        allow_private=settings.allow_private_urls,
        ffmpeg=settings.ffmpeg,
    )
    terminal.result(f"{voice.name}: {voice.seconds:.1f} s, SHA-256 {voice.sha256[:12]}…")
    return _show_problems(open_store(settings.store).voices, voice.name)


def show_all(_: argparse.Namespace, settings: Settings) -> int:
    """Show the store's voices."""
    voices = list_voices(open_store(settings.store).voices)
    if not voices:
        terminal.say("no voices yet; add one with `narrate voice add NAME --sample … --transcript …`")
        return DONE
    rows = [("voice", "seconds", "SHA-256", "transcript")]
    rows += [
        (voice.name, f"{voice.seconds:.1f}", voice.sha256[:12], voice.transcript[:60]) for voice in voices
    ]
    terminal.result(terminal.table(rows, right=(1,)))
    return DONE


def check(given: argparse.Namespace, settings: Settings) -> int:
    """Check a voice's sample again."""
    return _show_problems(open_store(settings.store).voices, given.name)


def _show_problems(voices: VoiceCollection, name: str) -> int:
    problems = recheck_voice(voices, name)
    for problem in problems:
        terminal.result(f"  {problem.severity:<8} {problem.message}; {problem.remedy}")
    if not problems:
        terminal.result("  ok       length, level, clipping and a quiet end")
    return BAD_INPUT if any(problem.severity == "error" for problem in problems) else DONE
