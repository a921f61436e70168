"""The vocabulary on disk: ``tokenizer.json`` as the ``tokenizers`` library has it, and a small configuration.

The special names are plain entries of the vocabulary which no merge yields. They are not among the file's
added tokens, since those are searched for in the text that a user types. A file that is read here is only
data: of its regular expressions, normalisers and options none but ours is accepted, and the library is never
handed the file.
"""

import hashlib
import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kinolenta.config import Config
from kinolenta.errors import CheckpointError, ConfigError, require

VOCABULARY_NAME, CONFIG_NAME = "tokenizer.json", "tokenizer_config.json"
SPECIALS = ("<bos>", "<eot>", "<eov>", "<eos>", "<pad>")  # their ids are their places here
NORMALIZATION = 1  # raised when normalize() changes: a vocabulary fits only the text that it was trained on
MIN_VOCAB_SIZE, MAX_VOCAB_SIZE = len(SPECIALS) + 256, 262_144
MAX_FILE_BYTES = 64_000_000

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
_FRAME: dict[str, Any] = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": _BYTE_LEVEL, "post_processor": None, "decoder": _BYTE_LEVEL,
}  # fmt: skip
_MODEL = {
    "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
    "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
}  # fmt: skip


class Vocabulary(NamedTuple):
    """Names of the tokens in the order of their ids, and the pairs that are merged, first rule first."""

    tokens: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]

    def to_json(self) -> str:
        """The text of ``tokenizer.json``; equal vocabularies give equal text."""
        vocab = {token: number for number, token in enumerate(self.tokens)}
        model = {**_MODEL, "vocab": vocab, "merges": [" ".join(pair) for pair in self.merges]}
        return json.dumps({**_FRAME, "model": model}, ensure_ascii=False, separators=(",", ":")) + "\n"

    def sha256(self) -> str:
        """Checksum of ``tokenizer.json``, hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig(Config):
    """What ``tokenizer_config.json`` says; sha256 is that of ``tokenizer.json`` beside it."""

    vocab_size: int
    sha256: str
    specials: tuple[str, ...] = SPECIALS
    normalization: int = NORMALIZATION

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("specials", self.specials, SPECIALS),
            ("normalization", self.normalization, NORMALIZATION),
        ):
            require(value == allowed, ConfigError, "{} is {}; it must be {}.", name, value, allowed)
        require(
            MIN_VOCAB_SIZE <= self.vocab_size <= MAX_VOCAB_SIZE,
            ConfigError,
            "vocab_size is {}; it must lie in {}..{}.",
            self.vocab_size,
            MIN_VOCAB_SIZE,
            MAX_VOCAB_SIZE,
        )


def save_vocabulary(folder: str | Path, vocabulary: Vocabulary) -> None:
    """Write both files into the folder, made if need be, replacing older ones. Raises CheckpointError."""
    folder, text = Path(folder), vocabulary.to_json()
    config = TokenizerConfig(vocab_size=len(vocabulary.tokens), sha256=vocabulary.sha256())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / VOCABULARY_NAME, text)
        _write(folder / CONFIG_NAME, json.dumps(config.to_dict(), indent=2) + "\n")
    except OSError as error:
        raise CheckpointError(f"The tokenizer cannot be written to {folder}: {error.strerror}.") from error


def load_vocabulary(folder: str | Path) -> Vocabulary:
    """Read both files and hold one against the other. Raises CheckpointError that names file and fault."""
    path, config_path = Path(folder) / VOCABULARY_NAME, Path(folder) / CONFIG_NAME
    try:
        config = TokenizerConfig.from_file(config_path)
    except ConfigError as error:
        message = str(error)
        raise CheckpointError(
            message if str(config_path) in message else f"{config_path}: {message}"
        ) from error
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CheckpointError(f"{path} is over {MAX_FILE_BYTES} bytes, too large for a vocabulary.")
        data = path.read_bytes()
        vocabulary = _parse(path, json.loads(data.decode("utf-8")))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}. Check the path.") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}.") from error
    check_vocabulary(str(path), vocabulary)
    if len(vocabulary.tokens) != config.vocab_size:
        raise CheckpointError(
            f"{path} has {len(vocabulary.tokens)} tokens; {CONFIG_NAME} says vocab_size={config.vocab_size}."
        )
    # Written anew it must come out the same: no room for repeated keys, or for anything not looked at.
    if vocabulary.to_json().encode() != data:
        raise CheckpointError(f"{path} was not written by kinolenta; save the tokenizer again.")
    if hashlib.sha256(data).hexdigest() != config.sha256:
        raise CheckpointError(f"{path} has another sha256 than {CONFIG_NAME} says; copy both from one model.")
    return vocabulary


def check_vocabulary(name: str, vocabulary: Vocabulary) -> None:
    """Raise CheckpointError unless every text can be encoded and no text can give a special id."""
    from tokenizers.pre_tokenizers import ByteLevel

    tokens, merges = vocabulary
    if tokens[: len(SPECIALS)] != SPECIALS:
        raise CheckpointError(f"{name} begins with {list(tokens[:5])}; it must be {list(SPECIALS)}.")
    known, alphabet = set(tokens), set(ByteLevel.alphabet())
    if len(known) != len(tokens):
        raise CheckpointError(f"{name} holds a token twice.")
    if missing := sorted(alphabet - known):
        raise CheckpointError(f"{name} lacks the byte {missing[0]!r}; all 256 must be there.")
    for token in tokens[len(SPECIALS) :]:
        if not token or not alphabet.issuperset(token):
            raise CheckpointError(f"{name} has a token {token!r} that is not made of bytes.")
    for left, right in merges:
        if left not in known or right not in known or left + right not in known:
            raise CheckpointError(f"{name} merges {left!r} and {right!r}, of which not all are tokens.")
        if not {left, right, left + right}.isdisjoint(SPECIALS):
            raise CheckpointError(f"{name} merges {left!r} and {right!r}; text must never give a special.")


def _parse(path: Path, values: Any) -> Vocabulary:
    """The vocabulary in parsed JSON in which all else is exactly as we write it."""
    if not isinstance(values, dict) or not isinstance(values.get("model"), dict):
        raise CheckpointError(f"{path} is not a vocabulary of kinolenta: it has no model.")
    for found, wanted in ((values, _FRAME), (values["model"], _MODEL)):
        for key, value in wanted.items():
            if key not in found or found[key] != value:
                raise CheckpointError(
                    f"{path} has a foreign {key}: {_short(found.get(key))}; only {_short(value)} is read."
                )
    vocab, merges = values["model"]["vocab"], values["model"]["merges"]
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise CheckpointError(f"{path} is not a vocabulary of kinolenta: its tokens or merges are missing.")
    if any(type(number) is not int or number != place for place, number in enumerate(vocab.values())):
        raise CheckpointError(f"{path} does not number its tokens 0..{len(vocab) - 1} in order.")
    pairs = []
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else []
        if len(parts) != 2:
            raise CheckpointError(f"{path} has a merge {_short(merge)}; it must be two tokens and a space.")
        pairs.append((parts[0], parts[1]))
    return Vocabulary(tuple(vocab), tuple(pairs))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _write(path: Path, text: str) -> None:
    """Whole or not at all: into a file beside it, which then takes its name."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    try:
        with partial.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
