"""Opening a store, its links, and which keys and ids are valid."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narration.errors import SettingsError
from narration.store import Store, open_store, validate_id
from narration.store.keys import check_key


def test_a_working_store_passes_the_write_check(store: Store) -> None:
    """The check succeeds and leaves no object."""
    store.check_writable()
    assert store.supports_concurrent_writers()
    for folder in ("clips/", "inbox/", "narrations/"):
        assert list(store.all_objects.list(folder)) == []


def test_a_link_leads_to_the_object(store: Store) -> None:
    """The object's bytes are read from the link without credentials."""
    import httpx

    key = store.scripts.put(b"words", ".md")
    link = store.link(key, seconds=60)
    assert store.locate(key).endswith(key)
    if link.startswith("file:"):
        assert Path(url2pathname(urlsplit(link).path)).read_bytes() == b"words"
    else:
        with httpx.Client(trust_env=False) as client:
            assert client.get(link).content == b"words"


@pytest.mark.parametrize(
    "url",
    ["", " ", "http://host/x", "gs://bucket", "S3://bucket", "s3://", "s3://A_b", "s3:/bucket", "s3:bucket",
     "s3://bucket/../x", "s3://bucket/a//b", "s3://bucket/.hidden", "file:///tmp/x", "ftp:x"],
)  # fmt: skip
def test_only_folders_and_buckets_are_stores(url: str) -> None:
    """Any other URL raises `SettingsError` before a folder of that name is created."""
    with pytest.raises(SettingsError):
        open_store(url)


@pytest.mark.parametrize(
    "key",
    ["", "/", "a/", "/a", "a//b", ".", "..", "a/..", "../a", "a/./b", "a\\b", "C:/a", "C:a", "a:b", "a\x00b",
     "a\nb", "a\x1b[2J", "a\x9b2J", "a\u2028b", "a\u202egnp.exe", "a\u2066b",
     "con", "x/NUL", "aux.txt", "COM1", "lpt9.log", "a/trailing.", "a/trailing ", ".env",
     "a/.lock",
     "a?b", "a*b", 'a"b', "a<b", "a|b", "x" * 241, "x/" * 500 + "x", "\ud800"],
)  # fmt: skip
def test_a_key_that_is_unsafe_on_any_system_is_refused(key: str) -> None:
    """Traversal, drives, devices, hidden files and control characters are refused on every system."""
    with pytest.raises(SettingsError):
        check_key(key)


@given(key=st.text(max_size=60))
def test_an_accepted_key_is_a_path_below_the_root(key: str) -> None:
    """Any text that is accepted as a key names a file inside the store's folder."""
    try:
        check_key(key)
    except SettingsError:
        return
    root = Path("/store")
    path = Path(os.path.normpath(root.joinpath(*key.split("/"))))
    assert root in path.parents
    assert path.relative_to(root).as_posix() == key


@pytest.mark.parametrize("narration_id", ["a", "chapter-3", "0", "a" * 100, "intro-draft"])
def test_a_slug_is_an_id(narration_id: str) -> None:
    """Lowercase letters, digits and inner hyphens make a narration id."""
    assert validate_id(narration_id) == narration_id


@pytest.mark.parametrize(
    "narration_id",
    [
        "",
        "A",
        "a_b",
        "-a",
        "a-",
        "a b",
        "../a",
        "a/b",
        "a.b",
        "ä",
        "a" * 101,
        "con",
        "nul",
        "com1",
        "a\n",
        "\u0661",
    ],
)
def test_any_other_text_is_not_an_id(narration_id: str, folder: Path) -> None:
    """The error says which characters an id may have."""
    with pytest.raises(SettingsError, match="a-z, 0-9 and -"):
        validate_id(narration_id)
    with pytest.raises(SettingsError):
        open_store(str(folder)).manifests.read(narration_id)


def test_a_folder_store_does_not_import_boto3(folder: Path) -> None:
    """Only S3 needs boto3, and `narrate plan` must start in under a second."""
    code = (
        "import sys; from narration.store import open_store; open_store(sys.argv[1]).manifests.ids();"
        "print([name for name in ('boto3', 'httpx', 'numpy', 'prefect') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
