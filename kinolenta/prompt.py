"""What may be given as a text: the check that every way in shares, before anything large is loaded."""

from collections.abc import Iterator
from contextlib import contextmanager

from kinolenta.errors import PromptError
from kinolenta.tokenizer import MAX_PROMPT_CHARS, TextTokenizer, checked_text

__all__ = ["MAX_PROMPT_CHARS", "check_prompt", "encode_whole", "named"]


def check_prompt(prompt: object, name: str = "prompt") -> str:
    """Return the prompt if it is a text of words that the tokenizer takes. Raises PromptError otherwise.

    name: what the error calls it. Whether it fits the model's number of tokens is for the tokenizer to say.
    """
    with named(name):
        text = checked_text(prompt)
    if not any(character.isalpha() for character in text):
        raise PromptError(f"{name} {text[:40]!r} must contain words; write a few.")
    return str(prompt)


@contextmanager
def named(name: str) -> Iterator[None]:
    """Errors of the tokenizer, which knows of prompts only, in the name of what was given."""
    try:
        yield
    except PromptError as error:
        raise PromptError(name + str(error).removeprefix("prompt")) from None


def encode_whole(tokenizer: TextTokenizer, text: str, limit: int, name: str) -> list[int]:
    """The text_ids of a text that is checked, and never cut. Raises PromptError for more than the limit."""
    ids = tokenizer.encode(check_prompt(text, name))
    if len(ids) > limit:
        raise PromptError(f"{name} is {len(ids)} tokens; this model takes {limit}. Shorten it.")
    return ids
