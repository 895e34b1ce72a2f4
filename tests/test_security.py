"""Nobody gets in by a script, an id or an address, and no key gets out."""

from __future__ import annotations

import html
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from support.narrations import FOUR_CHUNKS, CliWorkspace

from narration.contract import SynthesisRequest
from narration.errors import NarrationError, ScriptError, SettingsError
from narration.escaping import escape_markdown
from narration.planning.script_source import read_reference
from narration.preflight import check_endpoint
from narration.settings import read_settings
from narration.store import open_store

HOSTILE = """# <script>alert(1)</script> [click](javascript:alert(1))

![x](https://example.com/pixel.png) A sentence with `code` and | pipes | and <img src=x onerror=alert(1)>.

Normal words &lt;b&gt;not bold&lt;/b&gt; go on here.
"""


def everything_on(url: str) -> str:
    """All that a Prefect server remembers of runs: states, parameters, logs, artifacts, events."""
    told = []
    for path in ("flow_runs", "task_runs", "logs", "artifacts", "deployments", "work_pools"):
        offset = 0
        while True:
            page = httpx.post(
                f"{url}/{path}/filter", json={"limit": 200, "offset": offset}, timeout=30
            ).json()
            told.append(json.dumps(page))
            offset += 200
            if len(page) < 200:
                break
    told.append(json.dumps(httpx.post(f"{url}/events/filter", json={"limit": 50}, timeout=30).json()))
    return "".join(told)


def arguments_of_all_processes() -> str:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def test_a_run_leaves_its_key_nowhere(cli: CliWorkspace) -> None:
    """Not in the store, the server's memory, the output or any process's arguments; won or lost."""
    key = cli.env["RUNPOD_API_KEY"]
    others = {name: f"{name}_KEPT_TO_ITSELF" for name in ("RUNPOD_MANAGEMENT_KEY", "AWS_SECRET_ACCESS_KEY")}
    others["VOICE_SAMPLE_URL"] = "https://voices.example/me.wav?X-Amz-Signature=KEPT_TO_ITSELF"
    script = cli.write("four.md", FOUR_CHUNKS)
    process = cli.start("run", str(script), **others)
    with ThreadPoolExecutor(1) as thread:
        ended = thread.submit(process.communicate, timeout=240)
        seen = ""
        while not ended.done():
            seen += arguments_of_all_processes()
            time.sleep(0.1)
        out, err = ended.result()
    assert process.returncode == 0, err
    assert "ffmpeg" in seen  # the arguments of what a run starts were seen
    wrong = "rpa_" + "WRONGKEY" * 5
    lost = cli.narrate(
        "run", str(cli.write("b.md", FOUR_CHUNKS + "\n\nMore words are here.\n")), RUNPOD_API_KEY=wrong
    )
    assert lost.returncode == 2
    assert "RUNPOD_API_KEY" in lost.stderr
    stored = b"".join(path.read_bytes() for path in cli.folder.rglob("*") if path.is_file())
    remembered = everything_on(cli.env["PREFECT_API_URL"])
    assert "four-draft" in remembered  # the haystack is the right one
    for secret in (key, wrong, "KEPT_TO_ITSELF"):
        for where in (seen, out, err, lost.stdout, lost.stderr, remembered, stored.decode(errors="replace")):
            assert secret not in where


def test_nothing_that_holds_a_key_shows_it() -> None:
    """A repr ends in tracebacks and in logs; a signed URL is a key to what it names."""
    signed = "https://voices.example/me.wav?X-Amz-Signature=hunter2"
    settings = read_settings(runpod_api_key="hunter2", management_key="hunter2", voice_sample_url=signed)
    request = SynthesisRequest(prompt="Words.", audio_url=signed)
    assert "hunter2" not in f"{settings!r} {settings} {request!r} {request}"
    assert (settings.voice_sample_url, request.audio_url) == (signed, signed)


@pytest.mark.parametrize("url", ["https://me:hunter2@host.example/v2", "http://host.example/v2?key=hunter2"])
async def test_what_is_wrong_with_the_endpoints_address_is_told_without_it(url: str) -> None:
    """A password or key that somebody wrote into the address stays out of the run's log and state."""
    finding = await check_endpoint(read_settings(runpod_url=url, endpoint_id="ep", runpod_api_key="rpa_key"))
    assert finding.ok is False
    assert "NARRATION_RUNPOD_URL" in f"{finding.remedy}"
    assert "hunter2" not in f"{finding} {finding.error}"


def test_hostile_markup_in_a_script_stays_text(cli: CliWorkspace) -> None:
    """The review page lets no word of a script become markup: of plain text, which leaves nothing out."""
    answer = cli.json("run", str(cli.write("hostile.txt", HOSTILE)))
    page = Path(answer["files"]["html"]).read_text(encoding="utf-8")
    assert html.escape("<img src=x onerror=alert(1)>") in page
    assert "<img" not in page
    assert page.count("<script>") == 1  # the page's own
    assert "javascript:" not in page.replace(html.escape("javascript:alert(1)"), "")
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    "text",
    [
        *("[a](javascript:x)", "![i](http://h/p)", "<b>", "a|b", "`x`", "# t", "a\nb", "*e*_f_"),
        *(
            "1. t",
            "1986. t",
            "1)",
            "- t",
            "+ t",
            "> t",
            "---",
            "&lt;",
            "[x]: http://h",
            "~~t~~",
            "a\\",
            "3.5",
        ),
    ],
)
def test_plain_text_renders_as_itself(text: str) -> None:
    """Every character that Markdown could take for markup is escaped, and no line ends."""
    from markdown_it import MarkdownIt

    rendered = MarkdownIt("commonmark").enable("table").render(escape_markdown(text))
    assert rendered.strip() == f"<p>{html.escape(' '.join(text.split()))}</p>"


@pytest.mark.parametrize(
    "reference",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "inbox/../scripts/x.md",
        "inbox/../../secret.md",
        "scripts/..",
        "file:///etc/passwd",
        "http://127.0.0.1/x.md",
        "https://user:pass@127.0.0.1/x.md",
        "s3://other-bucket/x.md",
        "voices/me/voice.json",
        "narrations/x/manifest.json",
        "C:\\Windows\\win.ini",
        "inbox/\x00.md",
        "allowed\x00.md",
        "inbox/\u202egnp.md",
        "inbox/\x9b2J.md",
        "scripts/con.md",
        "https://[::1/x.md",
        "https://\uff5c.example/x.md",
        "https://exa\u2100mple.com/x.md",
        "\ud800.md",
        "loop.md",
        "pipe.md",
        "\x1b[2Jnowhere.md\nnarrate: done",
        "x" * 5_000,
    ],
)
def test_a_scripts_reference_leads_nowhere_else(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deployments read the store's scripts, public https and one allowed folder."""
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (tmp_path / "secret.md").write_text("Secret words.")
    (allowed / "loop.md").symlink_to("loop.md")
    if sys.platform != "win32":  # which has no pipes among its files
        os.mkfifo(allowed / "pipe.md")
    monkeypatch.setenv("NARRATION_SCRIPT_FOLDER", str(allowed))
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(NarrationError) as refused:
        read_reference(store.scripts, reference, read_settings())
    assert "Secret" not in str(refused.value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1_000


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "169.254.169.254", "localhost", "[::ffff:10.0.0.1]"])
def test_a_script_is_fetched_from_public_addresses_only(host: str, tmp_path: Path) -> None:
    """The guard of the one download stands before scripts too: nothing is connected to."""
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(ScriptError, match="is not at a public address"):
        read_reference(store.scripts, f"https://{host}/x.md", read_settings())


def test_a_link_out_of_the_allowed_folder_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read lies in the folder, not behind it."""
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (tmp_path / "secret.md").write_text("Secret words.")
    (allowed / "link.md").symlink_to(tmp_path / "secret.md")
    (allowed / "good.md").write_text("Good words.")
    monkeypatch.setenv("NARRATION_SCRIPT_FOLDER", str(allowed))
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(SettingsError):
        read_reference(store.scripts, "link.md", read_settings())
    source = read_reference(store.scripts, "good.md", read_settings())
    assert store.scripts.read(source.key) == source.script.source


def test_paths_are_not_read_where_no_folder_is_allowed(tmp_path: Path) -> None:
    """The default of a deployment is the store and https."""
    (tmp_path / "here.md").write_text("Words.")
    with pytest.raises(SettingsError, match="NARRATION_SCRIPT_FOLDER"):
        read_reference(open_store(str(tmp_path / "store")).scripts, "here.md", read_settings())


def test_a_form_takes_a_hundred_kilobytes(tmp_path: Path) -> None:
    """More belongs into the store."""
    from narration.planning.script_source import read_text

    store = open_store(str(tmp_path / "store"))
    with pytest.raises(ScriptError, match="form"):
        read_text(store.scripts, "word " * 30_000, read_settings())
    assert not (tmp_path / "store").exists()
