"""text -> text_ids: a Russian normaliser and a byte-level BPE whose special ids no text can produce."""

from kinolenta.tokenizer.normalize import normalize
from kinolenta.tokenizer.storage import TokenizerConfig
from kinolenta.tokenizer.tokenizer import MAX_PROMPT_CHARS, TextTokenizer, checked_text
from kinolenta.tokenizer.train import train_tokenizer

__all__ = [
    "MAX_PROMPT_CHARS",
    "TextTokenizer",
    "TokenizerConfig",
    "checked_text",
    "normalize",
    "train_tokenizer",
]
