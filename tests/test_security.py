"""Security: no script, id or address gives access to anything else, and no key is shown or stored."""

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
    """Everything that a Prefect server stores: states, parameters, logs, artifacts, events."""
    pages = []
    for path in ("flow_runs", "task_runs", "logs", "artifacts", "deployments", "work_pools"):
        offset = 0
        while True:
            page = httpx.post(
                f"{url}/{path}/filter", json={"limit": 200, "offset": offset}, timeout=30
            ).json()
            pages.append(json.dumps(page))
            offset += 200
            if len(page) < 200:
                break
    pages.append(json.dumps(httpx.post(f"{url}/events/filter", json={"limit": 50}, timeout=30).json()))
    return "".join(pages)


def arguments_of_all_processes() -> str:
    arguments = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(arguments)


def test_a_run_shows_and_stores_its_key_nowhere(cli: CliWorkspace) -> None:
    """No key is in the store, the server, the output or the arguments of a process, if a run fails either."""
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
    assert "ffmpeg" in seen  # the arguments of the run's own processes were read
    wrong = "rpa_" + "WRONGKEY" * 5
    failed = cli.narrate(
        "run", str(cli.write("b.md", FOUR_CHUNKS + "\n\nMore words are here.\n")), RUNPOD_API_KEY=wrong
    )
    assert failed.returncode == 2
    assert "RUNPOD_API_KEY" in failed.stderr
    stored = b"".join(path.read_bytes() for path in cli.folder.rglob("*") if path.is_file())
    on_server = everything_on(cli.env["PREFECT_API_URL"])
    assert "four-draft" in on_server  # this server was used
    for secret in (key, wrong, "KEPT_TO_ITSELF"):
        for where in (
            seen,
            out,
            err,
            failed.stdout,
            failed.stderr,
            on_server,
            stored.decode(errors="replace"),
        ):
            assert secret not in where


def test_the_repr_of_settings_and_requests_shows_no_key() -> None:
    """A repr may be logged, so it holds no key and no signed URL."""
    signed = "https://voices.example/me.wav?X-Amz-Signature=hunter2"
    settings = read_settings(runpod_api_key="hunter2", management_key="hunter2", voice_sample_url=signed)
    request = SynthesisRequest(prompt="Words.", audio_url=signed)
    assert "hunter2" not in f"{settings!r} {settings} {request!r} {request}"
    assert (settings.voice_sample_url, request.audio_url) == (signed, signed)


@pytest.mark.parametrize("url", ["https://me:hunter2@host.example/v2", "http://host.example/v2?key=hunter2"])
async def test_an_error_in_the_endpoints_address_does_not_quote_it(url: str) -> None:
    """A password or key inside the address is not in the message, which is logged."""
    finding = await check_endpoint(read_settings(runpod_url=url, endpoint_id="ep", runpod_api_key="rpa_key"))
    assert finding.ok is False
    assert "NARRATION_RUNPOD_URL" in f"{finding.remedy}"
    assert "hunter2" not in f"{finding} {finding.error}"


def test_hostile_markup_in_a_script_stays_text(cli: CliWorkspace) -> None:
    """HTML in a plain text script is text on the review page, not markup."""
    answer = cli.json("run", str(cli.write("hostile.txt", HOSTILE)))
    page = Path(answer["files"]["html"]).read_text(encoding="utf-8")
    assert html.escape("<img src=x onerror=alert(1)>") in page
    assert "<img" not in page
    assert page.count("<script>") == 1  # that of the page itself
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
    """Escaped for Markdown, text is shown as it is, on one line."""
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
def test_a_script_reference_gives_access_to_nothing_else(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment reads scripts in the store, at public https addresses and in one folder, no others."""
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
    """A script's URL on a private address is refused before a connection is made."""
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(ScriptError, match="is not at a public address"):
        read_reference(store.scripts, f"https://{host}/x.md", read_settings())


def test_a_link_out_of_the_allowed_folder_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A symbolic link out of the allowed folder is refused; a file in it is read."""
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
    """Without the setting, a deployment reads no paths, only the store and https."""
    (tmp_path / "here.md").write_text("Words.")
    with pytest.raises(SettingsError, match="NARRATION_SCRIPT_FOLDER"):
        read_reference(open_store(str(tmp_path / "store")).scripts, "here.md", read_settings())


def test_the_text_of_a_form_is_limited_to_a_hundred_kilobytes(tmp_path: Path) -> None:
    """A longer text is refused, and nothing is stored."""
    from narration.planning.script_source import read_text

    store = open_store(str(tmp_path / "store"))
    with pytest.raises(ScriptError, match="form"):
        read_text(store.scripts, "word " * 30_000, read_settings())
    assert not (tmp_path / "store").exists()
