"""`narrate voice`: import voices into the store, list them, check them."""

from __future__ import annotations

import argparse

from flows.cli import terminal
from flows.cli.terminal import BAD_INPUT, DONE
from narration.settings import Settings
from narration.store import Store, open_store
from narration.voices import add_voice, list_voices, recheck_voice


def add(given: argparse.Namespace, settings: Settings) -> int:
    """Import a voice into the store."""
    voice = add_voice(
        open_store(settings.store),
        given.name,
        given.sample,
        given.transcript,
        replace=given.replace,
        allow_private=settings.allow_private_urls,
    )
    terminal.result(f"{voice.name}: {voice.seconds:.1f} s, SHA-256 {voice.sha256[:12]}…")
    return _show_findings(open_store(settings.store), voice.name)


def show_all(_: argparse.Namespace, settings: Settings) -> int:
    """Show the store's voices."""
    voices = list_voices(open_store(settings.store))
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
    return _show_findings(open_store(settings.store), given.name)


def _show_findings(store: Store, name: str) -> int:
    findings = recheck_voice(store, name)
    for finding in findings:
        terminal.result(f"  {finding.severity:<8} {finding.message}; {finding.remedy}")
    if not findings:
        terminal.result("  ok       length, level, clipping and a quiet end")
    return BAD_INPUT if any(finding.severity == "error" for finding in findings) else DONE
