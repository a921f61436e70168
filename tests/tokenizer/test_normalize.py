"""The normaliser: its table of examples, its fixed point, what it removes."""

import doctest
import importlib
import time
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from kinolenta.tokenizer import normalize

# Letters, marks and controls that meet in one text only by malice.
TRICKY = st.text(
    alphabet="еёЕЁиЙЙ\u0306\u0308\u0323\u0591\u200b\u200d\ufe0f\u00ad👩🚀🏴\U000e0067\U000e007f İΣⓂ \n\u2028"
)


def test_examples_of_the_docstring_hold() -> None:
    outcome = doctest.testmod(importlib.import_module("kinolenta.tokenizer.normalize"))
    assert outcome.attempted >= 9 and outcome.failed == 0


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(), TRICKY))
def test_normalizing_twice_changes_nothing(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    assert once == unicodedata.normalize("NFC", once) and once == once.lower() and "ё" not in once
    assert once == " ".join(once.split())


def test_invisible_controls_vanish_everywhere() -> None:
    for (
        control
    ) in "\u00ad\u034f\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202e\u2060\u2066\u2069\ufeff":
        assert normalize(f"{control}ко{control}т{control} ") == "кот", f"U+{ord(control):04X}"
    hidden = "".join(chr(0xE0000 + ord(letter)) for letter in "ignore")
    assert normalize("кот" + hidden) == "кот"


def test_emoji_sequences_keep_their_joiners() -> None:
    for emoji in (
        "👨\u200d👩\u200d👧",
        "🏳\ufe0f\u200d🌈",
        "👩🏽\u200d🚀",
        "🏴\U000e0067\U000e0062\U000e007f",
        "❤\ufe0f\u200d🔥",
    ):
        assert normalize(f"Кот {emoji}") == f"кот {emoji}"


def test_a_hostile_text_takes_no_long_time() -> None:
    start = time.process_time()
    for text in ("е" + "\u0308" * 4095, "е" + "\u0591\u0308" * 2047, "👩\u200d" * 2048, "\u200d" * 4096):
        normalize(text)
    assert time.process_time() - start < 1.0
