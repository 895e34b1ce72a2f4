"""Planning: the clips that a narration needs, their digests, takes, ids and price."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from narration.contract import MIN_FRAME_CAP
from narration.errors import InputError, SettingsError
from narration.manifest import VoiceEntry, dump_manifest, load_manifest
from narration.planning import (
    NarrationSource,
    Plan,
    RetakeRequest,
    make_plan,
    narration_slug,
    published_id,
    retake_requests,
)
from narration.script import parse_script, read_script
from narration.settings import Settings, read_settings
from narration.store import Store, open_store, validate_id
from narration.voices import Voice, choose_voice

GOLDEN = Path(__file__).parent / "golden"
MANIFEST = "store/narrations/golden-draft/manifest.json"
VOICE = Voice(
    name="me", sha256="a" * 64, transcript="What I said.", seconds=9.0, suffix=".wav", source="here"
)
SENTENCE = "What is said here is long enough to be spoken alone, without a neighbour."
OTHER_SENTENCE = "Something else stands in this paragraph, and it is just as long as the other."
ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())
SENTENCES = "The first sentence is about as long as this one is, give or take. " * 12


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def higgs(**changes: object) -> Settings:
    return read_settings(engine="higgs", model="higgs/1", **changes)


def source(text: str, settings: Settings) -> NarrationSource:
    """A source whose script is not stored."""
    return NarrationSource(parse_script(text.encode(), name="script.md"), key="", settings=settings)


def plan(
    store: Store,
    text: str,
    settings: Settings | None = None,
    retakes: dict[int, RetakeRequest] | None = None,
) -> Plan:
    """The plan of a script that is not published."""
    return make_plan(
        store, source(text, settings or higgs()), narration_id="one", voice=VOICE, retakes=retakes
    )


def test_every_request_has_its_defaults_resolved(store: Store) -> None:
    """The digest covers the model, the voice sample and the sampling, so that the worker chooses none."""
    request = plan(store, "One sentence.").chunks[0].request
    assert request.model == "higgs/1"
    assert (request.audio_sha256, request.audio_transcript) == (VOICE.sha256, VOICE.transcript)
    assert request.seed is None  # each attempt's is derived from the digest
    assert request.max_new_tokens == MIN_FRAME_CAP


def test_the_frame_cap_is_twice_the_expected_frames(store: Store) -> None:
    """A clip that does not end is cut at twice its expected length."""
    planned = plan(store, SENTENCES).chunks[0]
    expected = len(planned.text) / 14 * 25
    assert 1.4 * expected < planned.request.max_new_tokens < 2.8 * expected


def test_the_same_text_elsewhere_has_the_same_digest(store: Store) -> None:
    """A text in another place, in the same script or another, is the same clip."""
    alone = plan(store, SENTENCE).chunks[0]
    later = plan(store, f"{OTHER_SENTENCE}\n\n{SENTENCE}").chunks[1]
    assert alone.digest == later.digest
    assert len(plan(store, f"{SENTENCE}\n\n{OTHER_SENTENCE}\n\n{SENTENCE}").missing) == 2


@pytest.mark.parametrize(
    "changes", [{"temperature": 0.5}, {"scene": "A hall."}, {"seed": 5}, {"model": "higgs/2"}]
)
def test_a_setting_that_changes_the_sound_changes_every_digest(
    store: Store, changes: dict[str, object]
) -> None:
    """A clip made with other settings is never used for this one."""
    settings = read_settings(**({"engine": "higgs", "model": "higgs/1"} | changes))
    assert (
        plan(store, "One sentence.", settings).chunks[0].digest
        != plan(store, "One sentence.").chunks[0].digest
    )


def test_a_setting_of_the_master_changes_no_digest(store: Store) -> None:
    """Other pauses and another loudness need no new clip."""
    other = plan(store, "One sentence.", higgs(loudness="podcast", pause_sentence=1.0))
    assert other.chunks[0].digest == plan(store, "One sentence.").chunks[0].digest


def test_a_value_that_no_request_can_have_is_refused_by_its_field(store: Store) -> None:
    """A setting that only the contract limits is an input error, not a bug."""
    with pytest.raises(InputError, match=r"^system_prompt: "):
        plan(store, SENTENCE, higgs(system_prompt="x" * 2_001))


@settings(deadline=None)
@given(st.sampled_from(sorted(Voice.model_fields)), ANYTHING)
@example("transcript", "\u200b")
@example("transcript", "\ud800")
def test_a_voice_with_one_field_altered_is_planned_with_or_refused(name: str, value: object) -> None:
    """A `voice.json` altered in the store is an input error, never a crash."""
    with TemporaryDirectory() as folder:
        store = open_store(folder)
        altered = json.dumps(VOICE.model_dump() | {name: value}).encode()
        store.voices.replace("me", altered, if_match=None)
        with suppress(InputError):
            voice = choose_voice(store.voices, higgs(voice="me"))
            make_plan(store, source(SENTENCE, higgs()), narration_id="one", voice=voice)


def test_continuity_chains_within_a_paragraph_only(store: Store) -> None:
    """An edit then costs the rest of its paragraph and no other chunk."""
    settings = higgs(continuity=True)
    before = plan(store, f"{SENTENCES}\n\n{OTHER_SENTENCE}", settings).chunks
    assert [chunk.previous for chunk in before] == [None, *(chunk.digest for chunk in before[:-2]), None]
    after = plan(store, f"{SENTENCES.replace('first', 'second', 1)}\n\n{OTHER_SENTENCE}", settings).chunks
    changed = [a.digest != b.digest for a, b in zip(before, after, strict=True)]
    assert changed == [True] * (len(before) - 1) + [False]


def test_a_retake_makes_the_next_take(store: Store) -> None:
    """Another take is another clip of the same text; the first stays in the history."""
    first = plan(store, "One sentence.").chunks[0]
    again = plan(store, "One sentence.", retakes={1: RetakeRequest()}).chunks[0]
    assert again.digest != first.digest
    assert [entry.take for entry in again.take_history.takes] == [1, 2]
    assert again.take_history.takes[0].digest == first.digest
    assert again.text == first.text


def test_an_override_is_sent_and_the_source_text_is_kept(store: Store) -> None:
    """The override is spoken; the chunk is found again by its own text."""
    changed = plan(store, "One sentence.", retakes={1: RetakeRequest(text="Other words.")}).chunks[0]
    assert (changed.text, changed.chunk.text) == ("Other words.", "One sentence.")


@pytest.mark.parametrize(
    "retakes", [{9: RetakeRequest()}, {1: RetakeRequest(take=4)}, {1: RetakeRequest(text="x" * 2001)}]
)
def test_a_retake_of_what_does_not_exist_is_refused(store: Store, retakes: dict[int, RetakeRequest]) -> None:
    """A wrong chunk, take or text is refused before anything is paid."""
    with pytest.raises(InputError):
        plan(store, "One sentence.", retakes=retakes)


@pytest.mark.parametrize(
    "arguments",
    [
        {"chunks": [1], "seed": None, "texts": {2: "Words."}, "take": None},
        {"chunks": [1], "seed": 5, "texts": {}, "take": 1},
        {"chunks": [1], "seed": None, "texts": {1: "  "}, "take": None},
    ],
)
def test_a_retake_that_contradicts_itself_is_refused(arguments: dict[str, object]) -> None:
    """Text for a chunk that is not named, a seed for an earlier take, an empty text."""
    with pytest.raises(InputError):
        retake_requests(**arguments)  # type: ignore[arg-type]  # as a person might give them


def test_only_a_drafts_id_ends_with_draft() -> None:
    """A draft is never published over another engine's narration, nor the reverse."""
    assert published_id("intro", "draft") == "intro-draft"
    assert published_id("intro-draft", "draft") == "intro-draft"
    assert published_id("intro", "higgs") == "intro"
    with pytest.raises(SettingsError):
        published_id("intro-draft", "higgs")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("My Script (v2)", "my-script-v2"),
        ("Crème brûlée", "creme-brulee"),
        ("Straße", "strasse"),
        ("--a--", "a"),
        ("x" * 80, "x" * 80),
    ],
)
def test_a_files_name_makes_an_id(name: str, slug: str) -> None:
    """Any file can be narrated without thinking of an id."""
    assert narration_slug(name) == slug


@pytest.mark.parametrize(
    ("one", "other"), [("第一章", "第二章"), ("Глава 1", "Часть 1"), ("x" * 81, "x" * 82), ("?", "!")]
)
def test_names_that_an_id_cannot_hold_get_different_ids(one: str, other: str) -> None:
    """No script replaces another's narration because an id cannot hold what their names differ in."""
    slugs = {narration_slug(one), narration_slug(other)}
    assert len(slugs) == 2
    assert all(validate_id(slug) == slug for slug in slugs)
    assert narration_slug("Й") == narration_slug("И\u0306")  # one name, as two file systems write it


def test_the_price_counts_each_missing_clip_once(store: Store) -> None:
    """A clip that two chunks share is paid once, and a draft is free."""
    once = plan(store, SENTENCES).estimate
    twice = plan(store, f"{SENTENCES}\n\n{SENTENCES}").estimate
    assert twice.price == pytest.approx(once.price, rel=0.1)
    assert twice.speech_seconds == pytest.approx(2 * once.speech_seconds, rel=0.1)
    assert once.price == pytest.approx(once.missing_seconds / once.speed * 0.00031)
    draft = source("One sentence.", read_settings())
    free = make_plan(store, draft, narration_id="one", voice=None)
    assert (free.engine, free.estimate.price) == ("draft", 0.0)


def test_a_store_in_s3_needs_an_endpoint_or_the_engine_draft() -> None:
    """Where others read what is published, a draft is made only if the engine is set."""
    with pytest.raises(SettingsError, match="engine=draft"):
        read_settings(store="s3://bucket/x").engine_in_use()
    assert read_settings(store="s3://bucket/x", engine="draft").engine_in_use() == "draft"


def test_a_model_is_never_guessed() -> None:
    """Without a model id, clips of different models could not be told apart."""
    with pytest.raises(SettingsError, match="NARRATION_MODEL"):
        read_settings(engine="higgs").model_id()


def test_a_retake_in_another_model_or_voice_names_both(store: Store) -> None:
    """The message says by which model and in which voice it was narrated, then what the settings choose."""
    stored = load_manifest((GOLDEN / MANIFEST).read_bytes(), name="golden")
    anna = VoiceEntry(name="anna", sha256="b" * 64, transcript="What Anna said.")
    published = stored.model_copy(update={"id": "one", "model": "higgs/0", "voice": anna})
    store.manifests.replace("one", dump_manifest(published), if_match=None)
    script = read_script(GOLDEN / "script.md")
    with pytest.raises(InputError) as refused:
        make_plan(
            store,
            NarrationSource(script, key="", settings=higgs()),
            narration_id="one",
            voice=VOICE,
            retakes={1: RetakeRequest()},
        )
    assert refused.value.message == (
        "one was narrated by the model higgs/0 in the voice anna (sample bbbbbbbb); "
        "the present settings choose the model higgs/1 in the voice me (sample aaaaaaaa)"
    )


def test_clips_side_by_side_are_chained_only_by_their_context(store: Store) -> None:
    """Each missing clip is a chain of its own; under continuity a paragraph is one, in order."""
    text = f"{SENTENCES}\n\n{OTHER_SENTENCE}"
    free = plan(store, text)
    assert [len(chain) for chain in free.missing_chains] == [1] * len(free.chunks)
    chained = plan(store, text, higgs(continuity=True, chunk_characters=150))
    assert len(chained.chunks) > 3
    assert [len(chain) for chain in chained.missing_chains] == [len(chained.chunks) - 1, 1]
    assert chained.missing_chains[0] == list(chained.chunks[:-1])
