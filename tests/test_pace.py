"""How long a text takes to say, against real speech."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.audio import RATE, speak

from narration.contract import FRAME_RATE, MIN_FRAME_CAP
from narration.speech_duration import expected_seconds, speech_duration

TEXTS = [
    ("en-us", "A narrator reads at about one hundred and fifty words a minute, which is slower than talk."),
    ("en-us", "In 1815, Napoleon lost the battle of Waterloo. He was exiled, and died in 1821."),
    ("en-us", "On 12 March 2024, at 10:45, 1,234,567 people watched; by 11:00 there were 2,345,678."),
    ("en-us", "It cost $3.5 million in 1999, or about 12.5% of GDP."),
    ("en-us", "NASA and the FBI signed an MOU with the EU, the UN and IBM."),
    (
        "en-us",
        "Call 555-0199 or write to info@example.com; see https://www.example.com/path?x=1&y=2 for more.",
    ),
    ("en-us", "a b c d e f g h i j k l m n o p q r s t u v w x y z"),
    ("en-us", "INTRODUCTION"),
    ("en-us", "No."),
    ("en-us", "😀 Great work! 🎉🎉"),
    ("de", "Die Donaudampfschifffahrtsgesellschaft wurde im Jahr 1829 in Wien gegründet."),
    ("ru", "Все счастливые семьи похожи друг на друга, каждая несчастлива по-своему."),  # noqa: RUF001  Russian
    ("cmn", "人工智能正在改变我们的生活方式。今天天气很好，我们去公园散步吧。"),  # noqa: RUF001  Chinese
    ("ko", "안녕하세요. 오늘은 날씨가 아주 좋습니다. 우리는 공원에 갑니다."),
    ("ar", "مرحبا بكم في هذا البرنامج. اليوم سوف نتحدث عن التاريخ."),
    ("hi", "भारत एक विशाल देश है। यहाँ कई भाषाएँ बोली जाती हैं।"),
    ("th", "สวัสดีครับ วันนี้เราจะพูดถึงประวัติศาสตร์"),
]


@pytest.mark.parametrize(("voice", "text"), TEXTS)
def test_bounds_hold_real_speech(voice: str, text: str) -> None:
    """No one who speaks from 100 to 260 words a minute leaves the bounds."""
    bounds = speech_duration(text)
    for wpm in (100, 260):
        seconds = speak(text, voice=voice, wpm=wpm).size / RATE
        assert bounds.fastest <= seconds <= bounds.slowest


@pytest.mark.parametrize(("voice", "text"), TEXTS)
def test_twice_the_expected_seconds_never_cut_a_narrator(voice: str, text: str) -> None:
    """At 150 words a minute every text ends before twice its expected time, or ten seconds."""
    seconds = speak(text, voice=voice, wpm=150).size / RATE
    assert seconds < max(2 * expected_seconds(text), MIN_FRAME_CAP / FRAME_RATE)


@pytest.mark.parametrize(("voice", "text"), TEXTS[:2] + TEXTS[10:])
def test_running_text_is_expected_within_a_third(voice: str, text: str) -> None:
    """For sentences of words the expectation is right within a third at 150 words a minute."""
    seconds = speak(text, voice=voice, wpm=150).size / RATE
    assert seconds / 1.35 < expected_seconds(text) < seconds * 1.35


def test_more_text_takes_longer() -> None:
    """Every unit adds to the expectation; marks that are not heard add nothing."""
    assert expected_seconds("One two three.") > expected_seconds("One two.")
    assert expected_seconds("“One” *two*") == expected_seconds("One two")
    assert expected_seconds("") == expected_seconds("\u200b")


def test_a_word_no_one_would_finish_may_be_short() -> None:
    """Ten thousand letters in a row do not oblige a speaker to minutes of sound."""
    assert speech_duration("q" * 10_000).fastest < 2.0 < speech_duration("q" * 10_000).expected


@pytest.mark.parametrize("text", ["½cup", "①第一章", "²x", "Ⅳb", "₂e", "x²y", "3½in", "٣٤"])
def test_numerals_that_are_no_digits_are_said_like_digits(text: str) -> None:
    """A fraction or a circled number right before a word is a number and a word."""
    assert expected_seconds("") < expected_seconds(text) < expected_seconds(f"{text} and more")
    assert expected_seconds("½cup") == expected_seconds("7cup")


@settings(deadline=None)  # a loaded machine
@given(st.text())
def test_any_text_has_a_pace(text: str) -> None:
    """No text is beyond it, and its bounds are in order."""
    bounds = speech_duration(text)
    assert 0 < bounds.fastest <= bounds.expected <= bounds.slowest
