"""The review page of a narration: one HTML file with every chunk's text, player, waveform and doubts.

The page itself, its style and its script are the template `review.html.j2`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from narration.audio.waveform_svg import WAVEFORM_HEIGHT, WAVEFORM_POINTS
from narration.manifest import ChunkEntry, Manifest
from narration.publishing.retake_command import retake_command, review_command

_TEMPLATE = Path(__file__).with_name("review.html.j2")


@dataclass(frozen=True, slots=True)
class _ReviewedChunk:
    """What the template shows of one chunk."""

    entry: ChunkEntry
    waveform: str  # SVG path
    audio: str  # address of the clip
    retake: str  # command that makes another take


def render_review(
    manifest: Manifest,
    waveforms: Mapping[str, str],
    link: Callable[[str], str],
    *,
    store: str,
    links_until: datetime | None,
) -> str:
    """The review page of `manifest` as HTML; chunks with flags first, then by score, the worst first.

    `waveforms` maps a digest to the SVG path of its clip; `link` gives the address of the clip with
    a digest. `store` is the store's location, for the commands on the page; `links_until` is the
    time in UTC when the links expire, if they do. The page needs no other file but the clips it
    plays, and no text of the manifest can become markup: the template escapes every value.
    """
    worst_first = sorted(manifest.chunks, key=lambda entry: (not entry.flags, entry.score, entry.index))
    chunks = [
        _ReviewedChunk(
            entry,
            waveforms[entry.digest],
            link(entry.digest),
            retake_command(manifest.id, [entry.index], store=store, engine=manifest.engine),
        )
        for entry in worst_first
    ]
    return _template().render(
        manifest=manifest,
        chunks=chunks,
        links_until=links_until,
        renew=review_command(manifest.id, store=store),
        waveform_points=WAVEFORM_POINTS,
        waveform_height=WAVEFORM_HEIGHT,
    )


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["clock"] = _clock
    environment.filters["sha256_base64"] = _sha256_base64
    return environment.get_template(_TEMPLATE.name)


def _clock(seconds: float) -> str:
    """Minutes and seconds: `1:02.5`."""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"


def _sha256_base64(script: str) -> str:
    """The digest by which the page's content security policy names its one script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
