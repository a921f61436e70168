"""Prompts that are none, refused before anything is loaded."""

import pytest

from kinolenta.errors import PromptError
from kinolenta.prompt import check_prompt


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", "empty"),
        (" \n\t\u00a0", "empty"),
        ("12345", "must contain words"),
        ("3.14 + 2", "must contain words"),
        ("?!…", "must contain words"),
        ("🐈", "must contain words"),
        ("слово " * 5000, "30000 characters; at most 4096"),
        ("кот\0", r"U\+0000"),
        ("кот \ud800", r"U\+D800"),
        (12345, "got int"),
        (None, "got NoneType"),
        (["кот"], "got list"),
        (b"cat", "got bytes"),
    ],
)
def test_prompt_without_words_is_refused_in_one_sentence(prompt: object, words: str) -> None:
    with pytest.raises(PromptError, match=words) as caught:
        check_prompt(prompt)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 200 and message.encode("utf-8")


@pytest.mark.parametrize("prompt", ["кот", "a cat", "<eot>", "3 кота", "Ёж ё̈ж", "кот 🐈", "я", "家"])
def test_prompt_with_words_is_taken_as_it_is(prompt: str) -> None:
    assert check_prompt(prompt) == prompt
