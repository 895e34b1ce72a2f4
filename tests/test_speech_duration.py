"""The expected duration of spoken text, compared with real speech."""

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
def test_real_speech_is_within_the_bounds(voice: str, text: str) -> None:
    """Speech of 100 to 260 words per minute takes between the fastest and the slowest duration."""
    bounds = speech_duration(text)
    for wpm in (100, 260):
        seconds = speak(text, voice=voice, wpm=wpm).size / RATE
        assert bounds.fastest <= seconds <= bounds.slowest


@pytest.mark.parametrize(("voice", "text"), TEXTS)
def test_twice_the_expected_seconds_is_enough_for_real_speech(voice: str, text: str) -> None:
    """At 150 words per minute every text takes less than twice its expected duration, or than 10 s."""
    seconds = speak(text, voice=voice, wpm=150).size / RATE
    assert seconds < max(2 * expected_seconds(text), MIN_FRAME_CAP / FRAME_RATE)


@pytest.mark.parametrize(("voice", "text"), TEXTS[:2] + TEXTS[10:])
def test_running_text_is_expected_within_a_third(voice: str, text: str) -> None:
    """Sentences of words at 150 words per minute take the expected duration to within a third."""
    seconds = speak(text, voice=voice, wpm=150).size / RATE
    assert seconds / 1.35 < expected_seconds(text) < seconds * 1.35


def test_more_text_takes_longer() -> None:
    """Each word adds to the expected duration; marks that are not spoken add nothing."""
    assert expected_seconds("One two three.") > expected_seconds("One two.")
    assert expected_seconds("“One” *two*") == expected_seconds("One two")
    assert expected_seconds("") == expected_seconds("\u200b")


def test_an_endless_word_may_be_cut_short() -> None:
    """A word of ten thousand letters may be spoken in two seconds without being too fast."""
    assert speech_duration("q" * 10_000).fastest < 2.0 < speech_duration("q" * 10_000).expected


@pytest.mark.parametrize("text", ["½cup", "①第一章", "²x", "Ⅳb", "₂e", "x²y", "3½in", "٣٤"])
def test_other_numerals_count_as_digits(text: str) -> None:
    """A fraction or a circled number directly before a word counts as a number and a word."""
    assert expected_seconds("") < expected_seconds(text) < expected_seconds(f"{text} and more")
    assert expected_seconds("½cup") == expected_seconds("7cup")


@settings(deadline=None)  # a loaded machine
@given(st.text())
def test_any_text_has_a_duration(text: str) -> None:
    """Any text has a positive duration, with the fastest, expected and slowest in order."""
    bounds = speech_duration(text)
    assert 0 < bounds.fastest <= bounds.expected <= bounds.slowest
