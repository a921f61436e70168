"""The vocabulary that comes with the package: what its card says is true."""

import hashlib
import re
from pathlib import Path

import pytest

import kinolenta.tokenizer
from kinolenta.tokenizer import TextTokenizer, normalize
from kinolenta.tokenizer.storage import SPECIALS
from kinolenta.training.tokenizer import caption_lines

ASSETS = Path(kinolenta.tokenizer.__file__).parent / "assets"


@pytest.fixture(scope="module")
def shipped() -> TextTokenizer:
    return TextTokenizer.shipped()


def test_checksum_equals_that_of_the_card(shipped: TextTokenizer) -> None:
    card = (ASSETS / "CARD.md").read_text(encoding="utf-8")
    found = re.findall(r"`([0-9a-f]{64})`", card)
    assert found == [hashlib.sha256((ASSETS / "tokenizer.json").read_bytes()).hexdigest()] == [shipped.sha256]


def test_size_and_specials(shipped: TextTokenizer) -> None:
    assert shipped.vocab_size == 16384
    assert shipped.vocabulary.tokens[: len(SPECIALS)] == SPECIALS
    assert (ASSETS / "tokenizer.json").stat().st_size < 1_300_000


def test_captions_are_short(shipped: TextTokenizer) -> None:
    captions = list(caption_lines(200, "held out 0"))
    rows = [shipped.encode(caption, max_length=64) for caption in captions]
    assert sum(len(normalize(caption)) for caption in captions) / sum(map(len, rows)) >= 5.3
    assert [shipped.decode(ids) for ids in rows] == [normalize(caption) for caption in captions]


def test_any_script_is_spelled_without_unknowns(shipped: TextTokenizer) -> None:
    for text in (
        "привет, world! 123",
        "日本語のテキスト",
        "שלום עולם",
        "🏳\ufe0f\u200d🌈 👩🏽\u200d🚀",
        "два ра́за",
        "ѣ ѳ ѵ",
        "\x01\x7f\uffff",
    ):
        assert shipped.decode(shipped.encode(text)) == normalize(text)
    for code in range(256):  # Latin-1, its controls included
        character = chr(code) if code else "я"
        if normalize(character):
            assert shipped.decode(shipped.encode(character)) == normalize(character)


def test_words_of_captions_are_single_tokens(shipped: TextTokenizer) -> None:
    for word in (
        "кошка",
        "бежит",
        "вправо",
        "траве",
        "фоне",
        "рыжая",
        "синий",
        "медленно",
        "вращается",
        "исчезает",
    ):
        assert len(shipped.encode(word)) == 1, word
