"""The plan: which clips a narration needs, under which identity, at what price."""

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
from narration.planning import Plan, RetakeRequest, make_plan, narration_slug, published_id, retake_requests
from narration.script import parse_script
from narration.settings import Settings, read_settings
from narration.store import Store, open_store, validate_id
from narration.voices import Voice, choose_voice

VOICE = Voice(
    name="me", sha256="a" * 64, transcript="What I said.", seconds=9.0, suffix=".wav", source="here"
)
SAID = "What is said here is long enough to be spoken alone, without a neighbour."
OTHER = "Something else stands in this paragraph, and it is just as long as the other."
ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())
SENTENCES = "The first sentence is about as long as this one is, give or take. " * 12


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def higgs(**changes: object) -> Settings:
    return read_settings(engine="higgs", model="higgs/1", **changes)


def plan(
    store: Store, text: str, settings: Settings | None = None, changes: dict[int, RetakeRequest] | None = None
) -> Plan:
    script = parse_script(text.encode(), name="script.md")
    return make_plan(
        store, script, narration_id="one", settings=settings or higgs(), voice=VOICE, changes=changes
    )


def test_every_request_has_its_defaults_resolved(store: Store) -> None:
    """Identity leaves nothing to the worker: model, sample and sampling are all said."""
    request = plan(store, "One sentence.").chunks[0].request
    assert request.model == "higgs/1"
    assert (request.audio_sha256, request.audio_transcript) == (VOICE.sha256, VOICE.transcript)
    assert request.seed is None  # each attempt's follows from the digest
    assert request.max_new_tokens == MIN_FRAME_CAP


def test_the_frame_cap_is_twice_the_expected_frames(store: Store) -> None:
    """A clip that runs away is cut at twice its length, not at the worker's patience."""
    planned = plan(store, SENTENCES).chunks[0]
    expected = len(planned.text) / 14 * 25
    assert 1.4 * expected < planned.request.max_new_tokens < 2.8 * expected


def test_the_digest_knows_no_place(store: Store) -> None:
    """The same words elsewhere in another script are the same clip."""
    alone = plan(store, SAID).chunks[0]
    later = plan(store, f"{OTHER}\n\n{SAID}").chunks[1]
    assert alone.digest == later.digest
    assert len(plan(store, f"{SAID}\n\n{OTHER}\n\n{SAID}").missing) == 2


@pytest.mark.parametrize(
    "changes", [{"temperature": 0.5}, {"scene": "A hall."}, {"seed": 5}, {"model": "higgs/2"}]
)
def test_a_setting_that_changes_the_sound_changes_every_digest(
    store: Store, changes: dict[str, object]
) -> None:
    """No clip of other settings is passed off as this one."""
    settings = read_settings(**({"engine": "higgs", "model": "higgs/1"} | changes))
    assert (
        plan(store, "One sentence.", settings).chunks[0].digest
        != plan(store, "One sentence.").chunks[0].digest
    )


def test_a_setting_of_the_master_changes_no_digest(store: Store) -> None:
    """Other pauses and another loudness cost nothing."""
    other = plan(store, "One sentence.", higgs(loudness="podcast", pause_sentence=1.0))
    assert other.chunks[0].digest == plan(store, "One sentence.").chunks[0].digest


def test_what_no_request_can_carry_is_refused_by_its_field(store: Store) -> None:
    """A setting that only the contract limits is a setting to mend, not a bug."""
    with pytest.raises(InputError, match=r"^system_prompt: "):
        plan(store, SAID, higgs(system_prompt="x" * 2_001))


@settings(deadline=None)
@given(st.sampled_from(sorted(Voice.model_fields)), ANYTHING)
@example("transcript", "\u200b")
@example("transcript", "\ud800")
def test_a_voice_with_one_field_altered_is_planned_with_or_refused(name: str, value: object) -> None:
    """What became of `voice.json` behind the store's back is a typed failure, never a crash."""
    with TemporaryDirectory() as folder:
        store = open_store(folder)
        altered = json.dumps(VOICE.model_dump() | {name: value}).encode()
        store.voices.replace("me", altered, if_match=None)
        with suppress(InputError):
            voice = choose_voice(store.voices, higgs(voice="me"))
            script = parse_script(SAID.encode(), name="script.md")
            make_plan(store, script, narration_id="one", settings=higgs(), voice=voice)


def test_continuity_chains_within_a_paragraph_only(store: Store) -> None:
    """An edit then costs the rest of its paragraph, and nothing beyond it."""
    settings = higgs(continuity=True)
    before = plan(store, f"{SENTENCES}\n\n{OTHER}", settings).chunks
    assert [chunk.previous for chunk in before] == [None, *(chunk.digest for chunk in before[:-2]), None]
    after = plan(store, f"{SENTENCES.replace('first', 'second', 1)}\n\n{OTHER}", settings).chunks
    changed = [a.digest != b.digest for a, b in zip(before, after, strict=True)]
    assert changed == [True] * (len(before) - 1) + [False]


def test_a_change_makes_the_next_take(store: Store) -> None:
    """Another take is another clip of the same words; the first stays known."""
    first = plan(store, "One sentence.").chunks[0]
    again = plan(store, "One sentence.", changes={1: RetakeRequest()}).chunks[0]
    assert again.digest != first.digest
    assert [entry.take for entry in again.choice.takes] == [1, 2]
    assert again.choice.takes[0].digest == first.digest
    assert again.text == first.text


def test_other_words_are_sent_and_the_source_is_remembered(store: Store) -> None:
    """An override is spoken in place of the chunk, which keeps its place by its own words."""
    changed = plan(store, "One sentence.", changes={1: RetakeRequest(text="Other words.")}).chunks[0]
    assert (changed.text, changed.chunk.text) == ("Other words.", "One sentence.")


@pytest.mark.parametrize(
    "changes", [{9: RetakeRequest()}, {1: RetakeRequest(take=4)}, {1: RetakeRequest(text="x" * 2001)}]
)
def test_what_is_not_there_cannot_be_taken_again(store: Store, changes: dict[int, RetakeRequest]) -> None:
    """A wrong chunk, take or text is refused before anything is paid."""
    with pytest.raises(InputError):
        plan(store, "One sentence.", changes=changes)


@pytest.mark.parametrize(
    "arguments",
    [
        {"chunks": [1], "seed": None, "texts": {2: "Words."}, "take": None},
        {"chunks": [1], "seed": 5, "texts": {}, "take": 1},
        {"chunks": [1], "seed": None, "texts": {1: "  "}, "take": None},
    ],
)
def test_a_retake_that_contradicts_itself_is_refused(arguments: dict[str, object]) -> None:
    """Text for a chunk not named, a seed for an old take, words that are none."""
    with pytest.raises(InputError):
        retake_requests(**arguments)  # type: ignore[arg-type]  # as a person might give them


def test_a_drafts_id_is_always_a_drafts() -> None:
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
def test_names_that_an_id_cannot_hold_are_told_apart(one: str, other: str) -> None:
    """No script replaces another's narration because an id has no room for what their names differ in."""
    slugs = {narration_slug(one), narration_slug(other)}
    assert len(slugs) == 2
    assert all(validate_id(slug) == slug for slug in slugs)
    assert narration_slug("Й") == narration_slug("И\u0306")  # one name, as two file systems write it


def test_the_price_counts_each_missing_clip_once(store: Store) -> None:
    """What two chunks share is paid once, and a draft is free."""
    once = plan(store, SENTENCES).estimate
    twice = plan(store, f"{SENTENCES}\n\n{SENTENCES}").estimate
    assert twice.price == pytest.approx(once.price, rel=0.1)
    assert twice.speech_seconds == pytest.approx(2 * once.speech_seconds, rel=0.1)
    assert once.price == pytest.approx(once.missing_seconds / once.speed * 0.00031)
    script = parse_script(b"One sentence.", name="s.txt")
    free = make_plan(store, script, narration_id="one", settings=read_settings(), voice=None)
    assert (free.engine, free.estimate.price) == ("draft", 0.0)


def test_a_store_in_s3_needs_an_endpoint_or_the_word_draft() -> None:
    """A draft must be asked for where others read what is published."""
    with pytest.raises(SettingsError, match="engine=draft"):
        read_settings(store="s3://bucket/x").engine_in_use()
    assert read_settings(store="s3://bucket/x", engine="draft").engine_in_use() == "draft"


def test_a_model_is_never_guessed() -> None:
    """Without a model id no clip could be told from another model's."""
    with pytest.raises(SettingsError, match="NARRATION_MODEL"):
        read_settings(engine="higgs").model_id()
