"""What may be given as a text prompt: the check that every way in shares, before anything large is loaded."""

from kinolenta.errors import PromptError
from kinolenta.tokenizer import MAX_PROMPT_CHARS, checked_text

__all__ = ["MAX_PROMPT_CHARS", "check_prompt"]


def check_prompt(prompt: object) -> str:
    """Return the prompt if it is a text of words that the tokenizer takes. Raises PromptError otherwise.

    Whether it fits the model's number of tokens is for the tokenizer to say.
    """
    text = checked_text(prompt)
    if not any(character.isalpha() for character in text):
        raise PromptError(f"prompt {text[:40]!r} must contain words; describe the clip in a few.")
    return str(prompt)
