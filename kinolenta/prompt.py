"""What may be given as a text prompt: the check that every way in shares, before anything large is loaded."""

from kinolenta.errors import PromptError

MAX_PROMPT_CHARS = 4096


def check_prompt(prompt: object) -> str:
    """Return the prompt if it is a text of words, 1 to 4,096 characters long. Raises PromptError otherwise.

    Whether it fits the model's number of tokens is for the tokenizer to say; this check keeps absurd texts
    from it.
    """
    if not isinstance(prompt, str):
        raise PromptError(f"A prompt must be a text (str); got {type(prompt).__name__}.")
    if not prompt.strip():
        raise PromptError("The prompt is empty; describe the clip in a few words.")
    if len(prompt) > MAX_PROMPT_CHARS:
        raise PromptError(
            f"The prompt is {len(prompt)} characters long; at most {MAX_PROMPT_CHARS} are taken."
        )
    for character in prompt:
        if character == "\0" or "\ud800" <= character <= "\udfff":
            raise PromptError(f"The prompt holds the character U+{ord(character):04X}, which is not text.")
    if not any(character.isalpha() for character in prompt):
        raise PromptError(
            f"The prompt {prompt.strip()[:40]!r} must contain words; describe the clip in a few."
        )
    return prompt
