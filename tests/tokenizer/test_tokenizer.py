"""Prompts in, ids out: exact round trips, the policy for bad and long prompts, no way to a special id."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinolenta.errors import ConfigError, PromptError
from kinolenta.tokenizer import MAX_PROMPT_CHARS, TextTokenizer, normalize, train_tokenizer

LINES = ["рыжая кошка бежит вправо по траве", "красный мяч прыгает на синем фоне", "<eot> <bos><pad>"] * 5


@pytest.fixture(scope="module")
def tiny() -> TextTokenizer:
    return train_tokenizer(LINES, vocab_size=300)


@pytest.fixture(scope="module")
def shipped() -> TextTokenizer:
    return TextTokenizer.shipped()


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=200).filter(lambda text: "\0" not in text and normalize(text) != ""))
def test_every_text_comes_back_normalized(shipped: TextTokenizer, text: str) -> None:
    ids = shipped.encode(text)
    assert shipped.decode(ids) == normalize(text)
    assert min(ids) > shipped.pad_id and max(ids) < shipped.vocab_size


def test_batch_equals_single(shipped: TextTokenizer) -> None:
    texts = ["Рыжая кошка", "x", "🚀 летит", *LINES]
    assert shipped.encode_batch(texts) == [shipped.encode(text) for text in texts]


def test_first_word_is_the_same_token_as_a_later_one(shipped: TextTokenizer) -> None:
    assert shipped.encode("кошка бежит")[0] == shipped.encode("большая кошка")[-1]


@pytest.mark.parametrize("after_reload", [False, True])
def test_specials_typed_by_the_user_are_text(tiny: TextTokenizer, tmp_path: Path, after_reload: bool) -> None:
    if after_reload:
        tiny.save(tmp_path)
        tiny = TextTokenizer.load(tmp_path)
    for name in ("<bos>", "<eot>", "<eov>", "<eos>", "<pad>"):
        for prompt in (
            name,
            f"кот{name}",
            f" {name} кот {name}{name}",
            name.upper(),
            f"{name[0]}\u200b{name[1:]}",
        ):
            ids = tiny.encode(prompt)
            assert not {tiny.bos_id, tiny.eot_id, tiny.eov_id, tiny.eos_id, tiny.pad_id} & set(ids)
            assert tiny.decode(ids) == normalize(prompt)


def test_decode_passes_over_specials_and_broken_bytes(tiny: TextTokenizer) -> None:
    ids = tiny.encode("кот")
    assert tiny.decode([tiny.bos_id, *ids, tiny.eot_id, tiny.pad_id]) == "кот"
    assert tiny.decode([]) == ""
    half = tiny.vocabulary.tokens.index("Ð")  # the first byte of a Russian letter
    assert tiny.decode([half]) == "\ufffd"


@pytest.mark.parametrize("text_id", [-1, 300, 2**40])
def test_ids_out_of_range_are_refused(tiny: TextTokenizer, text_id: int) -> None:
    with pytest.raises(PromptError, match=rf"text id {text_id} is out of range; this tokenizer has 0..299\."):
        tiny.decode([text_id])


def test_what_is_no_number_is_refused(tiny: TextTokenizer) -> None:
    with pytest.raises(PromptError, match="whole numbers; got float"):
        tiny.decode([1.5])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (None, "must be a text .str.; got NoneType"),
        (b"cat", "got bytes"),
        (["кот"], "got list"),
        ("", "is empty"),
        (" \n\u00a0\t", "is empty"),
        ("\u200b\u202e\ufeff", "is empty"),
        ("кот\0", r"NUL character \(U\+0000\) at position 3"),
        ("ко\ud83dт", r"lone surrogate \(U\+D83D\) at position 2"),
        ("я" * (MAX_PROMPT_CHARS + 1), "is 4097 characters; at most 4096"),
        ("\ud83d" * 5000, "is 5000 characters"),
    ],
)
def test_bad_prompts_are_refused_by_name(tiny: TextTokenizer, prompt: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        tiny.encode(prompt)
    with pytest.raises(PromptError, match=message):
        tiny.encode_batch(["кот", prompt])


def test_a_string_is_no_batch(tiny: TextTokenizer) -> None:
    with pytest.raises(PromptError, match="takes a list of texts"):
        tiny.encode_batch("кот")


def test_the_longest_prompt_is_taken(tiny: TextTokenizer) -> None:
    assert tiny.decode(tiny.encode("я" * MAX_PROMPT_CHARS)) == "я" * MAX_PROMPT_CHARS


def test_too_many_tokens_are_refused_or_cut(shipped: TextTokenizer) -> None:
    prompt = "кошка " * 412
    assert len(shipped.encode(prompt)) == 412
    with pytest.raises(PromptError) as caught:
        shipped.encode(prompt, max_length=64)
    assert str(caught.value) == (
        "prompt is 412 tokens; this model takes 64. Shorten it, or pass truncate (--truncate) to keep "
        "the first 64."
    )
    assert shipped.encode(prompt, max_length=64, truncate=True) == shipped.encode(prompt)[:64]
    assert (
        shipped.encode_batch([prompt, "кот"], max_length=64, truncate=True)[0] == shipped.encode(prompt)[:64]
    )
    assert shipped.encode(prompt, max_length=412) == shipped.encode(prompt)
    with pytest.raises(ConfigError, match="max_length is 0"):
        shipped.encode("кот", max_length=0)
