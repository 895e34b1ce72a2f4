"""The review page: every chunk's words, sound, waveform and doubts, the worst first, as one HTML file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime

from narration.audio.waveform_svg import WAVEFORM_HEIGHT, WAVEFORM_POINTS
from narration.escaping import escape_html
from narration.manifest import ChunkEntry, Manifest
from narration.publishing.commands import retake_command, review_command

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --doubt: #c2410c; --wave: #2563eb; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
header p { margin: .2rem 0; }
.draft { border: 2px solid var(--doubt); padding: .5rem .8rem; border-radius: .4rem; font-weight: 600; }
article { border-top: 1px solid var(--line); padding: 1rem 0; }
article.doubt { border-left: 4px solid var(--doubt); padding-left: .8rem; }
h2 { font-size: 1rem; margin: 0; display: flex; gap: .8rem; flex-wrap: wrap; align-items: baseline; }
h2 small { font-weight: 400; opacity: .7; }
blockquote { margin: .5rem 0; white-space: pre-wrap; overflow-wrap: anywhere; }
svg { width: 100%; height: 48px; display: block; } svg path { stroke: var(--wave); fill: none; }
audio { width: 100%; margin: .3rem 0; }
ul { margin: .3rem 0; padding-left: 1.2rem; } li { color: var(--doubt); }
li.note { color: inherit; opacity: .75; }
code { background: #8882; padding: .15rem .4rem; border-radius: .3rem; overflow-wrap: anywhere; }
button { font: inherit; } main { display: flex; flex-direction: column; }
body.script-order article { order: var(--script); }
"""

_SCRIPT = """
const order = document.getElementById("order");
order.addEventListener("click", () => {
  const inScript = document.body.classList.toggle("script-order");
  order.textContent = inScript ? "Show the worst first" : "Show in script order";
});
document.querySelectorAll("button[data-copy]").forEach((button) => button.addEventListener("click", () => {
  navigator.clipboard.writeText(button.dataset.copy);
  button.textContent = "Copied";
}));
document.addEventListener("play", (event) => {
  document.querySelectorAll("audio").forEach((other) => { if (other !== event.target) other.pause(); });
}, true);
"""


def render_review(
    manifest: Manifest,
    waveforms: Mapping[str, str],
    link: Callable[[str], str],
    *,
    store: str,
    links_until: datetime | None,
) -> str:
    """The page of `manifest`. `waveforms`: digest -> SVG path; `link`: digest -> address of its clip.

    `store` is where the narration is, for the commands it names; `links_until` is when its links
    end, if they do. Self-contained but for the audio it links; nothing of the script can become markup.
    """
    ordered = sorted(manifest.chunks, key=lambda chunk: (not chunk.flags, chunk.score, chunk.index))
    doubtful = sum(bool(chunk.flags) for chunk in manifest.chunks)
    script = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; media-src *; style-src 'unsafe-inline'; script-src 'sha256-{script}'"
    until = ""
    if links_until is not None:
        end = f"The players' links work until {links_until:%d %B %Y, %H:%M} UTC. After that, for a new page:"
        until = f"<p>{end} {_command(review_command(manifest.id, store=store))}</p>"
    draft = (
        '<p class="draft">Draft voice (espeak-ng): for hearing the timing, not for publishing.</p>'
        if manifest.engine == "draft"
        else ""
    )
    loudness = manifest.loudness
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Review of {escape_html(manifest.id)}</title><style>{_STYLE}</style></head>
<body><header><h1>{escape_html(manifest.title or manifest.id)}</h1>{draft}
<p>{escape_html(manifest.id)}: {manifest.duration:.1f} s, {len(manifest.chunks)} chunks,
{doubtful} with doubts, {loudness.integrated_lufs:.1f} LUFS (target {loudness.target_lufs:.0f}),
model {escape_html(manifest.model)}</p>{until}
<p><button id="order" type="button">Show in script order</button></p></header>
<main>{"".join(_article(manifest, chunk, waveforms, link, store) for chunk in ordered)}</main>
<script>{_SCRIPT}</script></body></html>
"""


def _article(
    manifest: Manifest,
    chunk: ChunkEntry,
    waveforms: Mapping[str, str],
    link: Callable[[str], str],
    store: str,
) -> str:
    again = retake_command(manifest.id, [chunk.index], store=store, engine=manifest.engine)
    takes = ", ".join(str(entry.take) for entry in chunk.takes)
    doubts = [f"<li>{escape_html(flag)}</li>" for flag in chunk.flags]
    doubts += [f'<li class="note">refused before: {escape_html(reason)}</li>' for reason in chunk.refused]
    doubts += [f'<li class="note">{escape_html(note)}</li>' for note in chunk.notes]
    return f"""<article id="chunk-{chunk.index}" style="--script: {chunk.index}"{
        ' class="doubt"' if chunk.flags else ""
    }>
<h2>Chunk {chunk.index} <small>at {_clock(chunk.start)}, {chunk.end - chunk.start:.1f} s, take {chunk.take}
(made: {takes}), attempt {chunk.attempt}, seed {chunk.seed}</small></h2>
<blockquote>{escape_html(chunk.text)}</blockquote>
<svg viewBox="0 0 {WAVEFORM_POINTS} {WAVEFORM_HEIGHT}" preserveAspectRatio="none" role="img"
aria-label="Waveform of chunk {chunk.index}"><path d="{escape_html(waveforms[chunk.digest])}"/></svg>
<audio controls preload="none" src="{escape_html(link(chunk.digest))}"></audio>
{f"<ul>{''.join(doubts)}</ul>" if doubts else ""}
<p>{_command(again)}</p>
</article>
"""


def _command(words: str) -> str:
    escaped = escape_html(words)
    return f'<code>{escaped}</code> <button type="button" data-copy="{escaped}">Copy</button>'


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:04.1f}"
