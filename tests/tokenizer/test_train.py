"""Training: deterministic, of the size asked for, on normalised text."""

import random

import pytest

from kinolenta.errors import ConfigError
from kinolenta.tokenizer import train_tokenizer

NOUNS, VERBS = ("кошка", "собака", "лиса"), ("бежит вправо", "прыгает на месте")
LINES = [f"{colour} {noun} {verb}" for colour in ("рыжая", "ЧЁРНАЯ") for noun in NOUNS for verb in VERBS]


def test_same_texts_give_the_same_file_in_any_order() -> None:
    first = train_tokenizer(LINES, vocab_size=320).vocabulary.to_json()
    shuffled = random.Random(0).sample(LINES, len(LINES))
    assert train_tokenizer(iter(LINES), vocab_size=320).vocabulary.to_json() == first
    assert train_tokenizer(shuffled, vocab_size=320).vocabulary.to_json() == first


def test_frequent_words_become_single_tokens() -> None:
    tokenizer = train_tokenizer(LINES, vocab_size=328)
    assert tokenizer.vocab_size == 328
    for word in ("кошка", "Чёрная", "чeрная".replace("e", "ё")):
        assert len(tokenizer.encode(word)) == 1


def test_texts_with_few_pairs_give_fewer_ids() -> None:
    assert train_tokenizer(["аб"] * 2, vocab_size=1000).vocab_size < 270


@pytest.mark.parametrize(
    ("options", "name"), [({"vocab_size": 260}, "vocab_size"), ({"min_frequency": 0}, "min_")]
)
def test_sizes_out_of_range_are_refused(options: dict[str, int], name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        train_tokenizer(LINES, **options)
