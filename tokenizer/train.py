"""Training of a vocabulary: byte-pair encoding over normalised lines, the same text giving the same file."""

import json
from collections.abc import Iterable

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from kinolenta.errors import ConfigError
from kinolenta.tokenizer.normalize import normalize
from kinolenta.tokenizer.storage import MAX_VOCAB_SIZE, MIN_VOCAB_SIZE, SPECIALS, Vocabulary
from kinolenta.tokenizer.tokenizer import TextTokenizer


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int = 16384, min_frequency: int = 2, progress: bool = False
) -> TextTokenizer:
    """A tokenizer whose merges are the most frequent pairs of the texts, each normalised here.

    vocab_size: ids in all, the five specials and the 256 bytes included; fewer come out of texts with too few
    pairs. min_frequency: how often a pair must stand in the texts. Deterministic: neither threads nor the
    order of the texts make a difference. Raises ConfigError for a size out of range.
    """
    if not MIN_VOCAB_SIZE <= vocab_size <= MAX_VOCAB_SIZE:
        raise ConfigError(f"vocab_size is {vocab_size}; it must lie in {MIN_VOCAB_SIZE}..{MAX_VOCAB_SIZE}.")
    if min_frequency < 1:
        raise ConfigError(f"min_frequency is {min_frequency}; it must be 1 or more.")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        show_progress=progress,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    bpe.train_from_iterator((normalize(text) for text in texts), trainer=trainer)
    model = json.loads(bpe.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return TextTokenizer(Vocabulary(tuple(tokens), tuple((left, right) for left, right in model["merges"])))
