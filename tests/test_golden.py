"""Stored clips, manifests and settings of version 0.1.0 stay valid, so that no clip is paid for twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from narration.manifest import load_manifest
from narration.planning import NarrationSource, Plan, SynthesizedNarration, make_plan
from narration.rendering.render import narration_fingerprint
from narration.script import read_script
from narration.settings import Settings, read_settings
from narration.store import Store, open_store
from narration.voices.voice import Voice

GOLDEN = Path(__file__).parent / "golden"
DIGESTS: dict[str, list[str]] = json.loads((GOLDEN / "digests.json").read_text(encoding="utf-8"))
VOICE = Voice(
    name="anna",
    sha256="a" * 64,
    transcript="What the sample says.",
    seconds=7.5,
    suffix=".wav",
    source="anna.wav",
)
HIGGS: dict[str, object] = {"engine": "higgs", "model": "higgs/golden", "endpoint_id": "golden"}
VARIANTS: dict[str, dict[str, object]] = {
    "higgs": HIGGS,
    "higgs, continuity": HIGGS | {"continuity": True},
    "higgs, seed and sampling": HIGGS | {"seed": 7, "temperature": 0.5, "top_k": 40},
    "higgs, short chunks": HIGGS | {"chunk_characters": 60},
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """The store of a draft narration with a retake; of its audio files only the sizes are real."""
    folder = tmp_path / "store"
    shutil.copytree(GOLDEN / "store", folder)
    for sidecar in folder.glob("clips/*/*.json"):
        with sidecar.with_suffix(".flac").open("wb") as audio:
            audio.truncate(json.loads(sidecar.read_bytes())["size"])
    return open_store(str(folder))


def planned(store: Store, settings: Settings, voice: Voice | None) -> Plan:
    return make_plan(
        store,
        NarrationSource(read_script(GOLDEN / "script.md"), key="", settings=settings),
        narration_id="golden",
        voice=voice,
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_cloned_voice_keeps_its_digests(variant: str, store: Store) -> None:
    """The clips of a script in a cloned voice are found under the digests they were stored by."""
    plan = planned(store, read_settings(**VARIANTS[variant]), VOICE)
    assert [entry.digest for entry in plan.chunks] == DIGESTS[variant]


def test_a_stored_narration_needs_no_new_clip(store: Store) -> None:
    """Every clip that its manifest and sidecars name is found, the retake's among them."""
    plan = planned(store, read_settings(engine="draft"), None)
    assert plan.cached == len(plan.chunks) == 6
    assert plan.chunks[2].text == "Twelve green bottles."
    assert [entry.digest for entry in plan.chunks] == DIGESTS["draft"]


def test_a_stored_narration_is_not_published_again(store: Store) -> None:
    """What it was made from is still the same, so that a run of the same script leaves it alone."""
    plan = planned(store, read_settings(engine="draft"), None)
    clips = {entry.digest: entry.clip for entry in plan.chunks if entry.clip}
    assert plan.manifest is not None
    assert narration_fingerprint(SynthesizedNarration(plan, clips)) == plan.manifest.fingerprint


def test_a_stored_manifest_keeps_all_that_it_says() -> None:
    """No field of it is renamed or dropped."""
    data = (GOLDEN / "store/narrations/golden-draft/manifest.json").read_bytes()
    read = load_manifest(data, name="golden").model_dump(mode="json")
    assert _is_within(json.loads(data), read)


@pytest.mark.parametrize(
    "sidecar", sorted(GOLDEN.glob("store/clips/*/*.json")), ids=lambda path: path.stem[:8]
)
def test_a_stored_sidecar_keeps_all_that_it_says(sidecar: Path, store: Store) -> None:
    """No field of it is renamed or dropped."""
    clip = store.clips.find(sidecar.stem)
    assert clip is not None
    assert _is_within(json.loads(sidecar.read_bytes()), json.loads(clip.sidecar.to_json()))


def test_settings_keep_their_names() -> None:
    """A `.env` of today says tomorrow what it says today."""
    names = {
        str(field.validation_alias) if field.validation_alias else f"NARRATION_{name.upper()}"
        for name, field in Settings.model_fields.items()
    }
    assert set(json.loads((GOLDEN / "settings.json").read_text(encoding="utf-8"))) <= names


def _is_within(old: object, new: object) -> bool:
    """Whether every field of `old` stands in `new` with the same value; `new` may have more."""
    if isinstance(old, dict) and isinstance(new, dict):
        return all(key in new and _is_within(value, new[key]) for key, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_is_within, old, new))
    return old == new
