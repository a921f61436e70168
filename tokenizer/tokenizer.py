"""TextTokenizer: Russian text to text_ids and back.

The invariant: ``encode`` never returns a special id, whatever the text, and ``decode(encode(text))`` equals
``normalize(text)``.
"""

import operator
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from kinolenta.errors import ConfigError, PromptError
from kinolenta.tokenizer.normalize import normalize
from kinolenta.tokenizer.storage import (
    SPECIALS,
    Vocabulary,
    check_vocabulary,
    load_vocabulary,
    save_vocabulary,
)

MAX_PROMPT_CHARS = 4096
_REFUSED = re.compile("[\0\ud800-\udfff]")


class TextTokenizer:
    """Byte-level BPE over normalised text (Sennrich et al. 2016, arXiv:1508.07909; bytes after GPT-2).

    Nothing is unknown to it: what has no token of its own is spelled in bytes. Safe to use from many threads.
    """

    bos_id, eot_id, eov_id, eos_id, pad_id = range(len(SPECIALS))

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Raises CheckpointError for a missing byte, a special out of place, or one that a merge makes."""
        check_vocabulary("The vocabulary", vocabulary)
        self.vocabulary = vocabulary
        tokens, merges = vocabulary
        vocab = {token: number for number, token in enumerate(tokens)}
        self._bpe = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
        # The space before the first word makes it the same token as anywhere else in a sentence; normalised
        # text has no space there, so decode() can take it back.
        self._bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        self._bpe.decoder = decoders.ByteLevel()

    @property
    def vocab_size(self) -> int:
        """Number of ids, the five specials included."""
        return len(self.vocabulary.tokens)

    @property
    def sha256(self) -> str:
        """Checksum of the vocabulary as it is written to ``tokenizer.json``, hexadecimal."""
        return self.vocabulary.sha256()

    def encode(self, text: str, *, max_length: int | None = None, truncate: bool = False) -> list[int]:
        """Text to text_ids without specials, which the strip's layout adds.

        text: 1 to 4,096 characters, normalised here. max_length: most text_ids that may come out; more raise
        PromptError, or are cut off with truncate=True. Raises PromptError for what is not text: another type,
        lone surrogates, NUL, nothing but space or invisible characters.
        """
        return _limited(self._bpe.encode(checked_text(text)).ids, max_length, truncate)

    def encode_batch(
        self, texts: Iterable[str], *, max_length: int | None = None, truncate: bool = False
    ) -> list[list[int]]:
        """``encode`` of each text, on all cores."""
        if isinstance(texts, str):
            raise PromptError("encode_batch takes a list of texts; got one str. Call encode for one text.")
        encodings = self._bpe.encode_batch_fast([checked_text(text) for text in texts])
        return [_limited(encoding.ids, max_length, truncate) for encoding in encodings]

    def decode(self, text_ids: Iterable[int]) -> str:
        """The text of text_ids; specials are passed over, bytes that make no character become U+FFFD.

        Raises PromptError for what is not an id of this vocabulary.
        """
        ids = []
        for item in text_ids:
            try:
                number = operator.index(item)
            except TypeError as error:
                raise PromptError(f"text_ids must be whole numbers; got {type(item).__name__}.") from error
            if not 0 <= number < self.vocab_size:
                raise PromptError(
                    f"text id {number} is out of range; this tokenizer has 0..{self.vocab_size - 1}."
                )
            if number >= len(SPECIALS):
                ids.append(number)
        return self._bpe.decode(ids, skip_special_tokens=False).removeprefix(" ")

    def save(self, folder: str | Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json`` into the folder. Raises CheckpointError."""
        save_vocabulary(folder, self.vocabulary)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what ``save`` wrote. Raises CheckpointError for anything foreign or damaged."""
        return cls(load_vocabulary(folder))

    @classmethod
    def shipped(cls) -> Self:
        """The Russian vocabulary that comes with the package."""
        return cls.load(Path(__file__).with_name("assets"))


def checked_text(text: object) -> str:
    """The text, normalised, if it may be a prompt; its length is judged before any work is spent on it."""
    if not isinstance(text, str):
        raise PromptError(f"prompt must be a text (str); got {type(text).__name__}.")
    if len(text) > MAX_PROMPT_CHARS:
        raise PromptError(
            f"prompt is {len(text)} characters; at most {MAX_PROMPT_CHARS} are taken. Shorten it."
        )
    if refused := _REFUSED.search(text):
        place, character = refused.start(), refused[0]
        if character == "\0":
            raise PromptError(f"prompt holds a NUL character (U+0000) at position {place}; remove it.")
        raise PromptError(
            f"prompt holds a lone surrogate (U+{ord(character):04X}) at position {place}, "
            "half of a character; decode the text anew."
        )
    normalized = normalize(text)
    if not normalized:
        raise PromptError(
            "prompt is empty once white space and invisible characters are removed; write a few words."
        )
    return normalized


def _limited(ids: list[int], max_length: int | None, truncate: bool) -> list[int]:
    if max_length is None:
        return ids
    if max_length < 1:
        raise ConfigError(f"max_length is {max_length}; it must be 1 or more, or None for no limit.")
    if len(ids) > max_length and not truncate:
        raise PromptError(
            f"prompt is {len(ids)} tokens; this model takes {max_length}. "
            f"Shorten it, or pass truncate (--truncate) to keep the first {max_length}."
        )
    return ids[:max_length]
