"""Vocabularies on disk: what is written comes back, anything else is refused in a sentence."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from kinolenta.errors import CheckpointError
from kinolenta.tokenizer import TextTokenizer, train_tokenizer
from kinolenta.tokenizer.storage import SPECIALS, Vocabulary


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    train_tokenizer(["рыжая кошка бежит вправо по траве"] * 3, vocab_size=280).save(tmp_path)
    return tmp_path


def _rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the parsed vocabulary and make the configuration's checksum fit, as a forger would."""
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    _write(folder, json.dumps(values, ensure_ascii=True, separators=(",", ":")).encode())


def _write(folder: Path, data: bytes) -> None:
    (folder / "tokenizer.json").write_bytes(data)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def test_save_and_load_give_the_same_files_and_ids(folder: Path, tmp_path: Path) -> None:
    loaded = TextTokenizer.load(folder)
    loaded.save(tmp_path / "again" / "deeper")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "again" / "deeper" / name).read_bytes() == (folder / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "again" / "deeper").iterdir()) == [
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert [loaded.bos_id, loaded.eot_id, loaded.eov_id, loaded.eos_id, loaded.pad_id] == [0, 1, 2, 3, 4]


def test_the_library_reads_the_file_to_the_same_ids(folder: Path) -> None:
    ours, theirs = TextTokenizer.load(folder), Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in ("кошка бежит", "<eot> 🚀 x"):
        assert theirs.encode(text).ids == ours.encode(text)


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "foreign regular expression": (
        lambda v: v.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}}),
        "foreign pre_tokenizer",
    ),
    "foreign normaliser": (lambda v: v.update(normalizer={"type": "NFKC"}), "foreign normalizer"),
    "foreign decoder": (lambda v: v.update(decoder=None), "foreign decoder"),
    "post processor": (lambda v: v.update(post_processor={"type": "ByteLevel"}), "foreign post_processor"),
    "added token": (
        lambda v: v.update(added_tokens=[{"id": 1, "content": "<eot>", "special": True}]),
        "foreign added_tokens",
    ),
    "truncation": (lambda v: v.update(truncation={"max_length": 1}), "foreign truncation"),
    "other model": (lambda v: v["model"].update(type="WordPiece"), "foreign type"),
    "whole words first": (lambda v: v["model"].update(ignore_merges=True), "foreign ignore_merges"),
    "dropout": (lambda v: v["model"].update(dropout=0.5), "foreign dropout"),
    "no model": (lambda v: v.pop("model"), "has no model"),
    "merges of three": (lambda v: v["model"]["merges"].append("a b c"), "it must be two tokens and a space"),
    "merges as lists": (
        lambda v: v["model"]["merges"].append(["Ð", "º"]),
        "it must be two tokens and a space",
    ),
    "unknown merge": (lambda v: v["model"]["merges"].append("q zz"), "not all are tokens"),
    "ids out of order": (lambda v: v["model"]["vocab"].update({"<bos>": 1}), "does not number its tokens"),
    "id of a wrong type": (lambda v: v["model"]["vocab"].update({"<bos>": False}), "does not number"),
    "half a character": (lambda v: v["model"]["vocab"].update({"\ud83d": 280}), "not made of bytes"),
    "other size": (lambda v: v["model"]["vocab"].update({"Ð" * 9: 280}), "has 281 tokens; .* vocab_size=280"),
    "other key": (lambda v: v.update(comment="hello"), "was not written by kinolenta"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_vocabularies_are_refused(folder: Path, name: str) -> None:
    change, message = FORGERIES[name]
    _rewrite(folder, change)
    with pytest.raises(CheckpointError, match=message):
        TextTokenizer.load(folder)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"model": 3}', b'{"model": {"vocab": []}}'],
)
def test_damaged_vocabularies_are_refused(folder: Path, data: bytes) -> None:
    _write(folder, data)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        TextTokenizer.load(folder)


def test_a_repeated_key_is_refused(folder: Path) -> None:
    data = (folder / "tokenizer.json").read_bytes()
    _write(folder, data.replace(b'{"version":"1.0"', b'{"version":"0.9","version":"1.0"', 1))
    with pytest.raises(CheckpointError, match="was not written by kinolenta"):
        TextTokenizer.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"specials": ["<s>", "<eot>", "<eov>", "<eos>", "<pad>"]}, "specials is .*must be"),
        ({"normalization": 2}, "normalization is 2; it must be 1"),
        ({"vocab_size": 281}, "has 280 tokens; .* says vocab_size=281"),
        ({"vocab_size": 3}, "vocab_size is 3; it must lie in 261"),
        ({"sha256": "0" * 64}, "has another sha256"),
        ({"tokenizer_class": "Evil"}, "no option 'tokenizer_class'"),
    ],
)
def test_a_foreign_configuration_is_refused(folder: Path, change: dict[str, Any], message: str) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CheckpointError, match=message):
        TextTokenizer.load(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_missing_files_are_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} cannot be read: No such file"):
        TextTokenizer.load(folder)


def test_a_folder_that_cannot_be_written_is_named(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written to"):
        TextTokenizer.load(folder).save(folder / "tokenizer.json" / "x")


def test_a_merge_that_makes_a_special_is_refused(folder: Path) -> None:
    tokens, merges = TextTokenizer.load(folder).vocabulary
    for name in SPECIALS:
        forged = Vocabulary((*tokens, name[1:]), (*merges, ("<", name[1:])))
        with pytest.raises(CheckpointError, match="must never give a special"):
            TextTokenizer(forged)


def test_specials_out_of_place_and_missing_bytes_are_refused(folder: Path) -> None:
    tokens, merges = TextTokenizer.load(folder).vocabulary
    with pytest.raises(CheckpointError, match="it must be"):
        TextTokenizer(Vocabulary((tokens[1], tokens[0], *tokens[2:]), merges))
    with pytest.raises(CheckpointError, match="lacks the byte 'a'; all 256"):
        TextTokenizer(Vocabulary(tuple(token for token in tokens if token != "a"), merges))
    with pytest.raises(CheckpointError, match="holds a token twice"):
        TextTokenizer(Vocabulary((*tokens, "a"), merges))
