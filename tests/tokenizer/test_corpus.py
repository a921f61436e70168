"""The corpus from the dictionary's archive, and a whole training run on a tiny one."""

import hashlib
import io
import sqlite3
import tarfile
from pathlib import Path

import pytest

from kinolenta.data.sources import by_name
from kinolenta.errors import ConfigError, DataError
from kinolenta.tokenizer import TextTokenizer
from kinolenta.training.tokenizer import (
    WIKTIONARY,
    TokenizerTrainConfig,
    caption_lines,
    entry_lines,
    train,
    wiktionary_lines,
)

ENTRIES = [
    "кот~ru~кот~ru~{{зоол.|ru}} домашнее [[животное]] {{пример|Рыжий {{выдел|кот}} спит.|А. Чехов}}~1~2",
    "кот~ru~кот~ru~{{вульг.}} грубое слово {{пример|Грубая фраза.}}~3~4",
    "бромат~ru~бромат~ru~соль HBrO<sub>3</sub> [[кислота|кислот]]&nbsp;[http://x.y ссылка]<!--a-->~5~6",
    "x~ru~x~ru~quod erat demonstrandum~7~8",
    "y~ru~y~ru~''Ёж'' ― {{-}} зверь {{пример}} {{пример|}}\n#~9~10",
    "z~ru~z~ru~не закрытая [[ссылка~11~12",
]


def _archive(folder: Path, database: bytes, name: str = "wiki/database/wikiwordnet.db") -> Path:
    path = folder / "archives" / by_name(WIKTIONARY).archive
    path.parent.mkdir(parents=True)
    entry = tarfile.TarInfo(name)
    entry.size = len(database)
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(entry, io.BytesIO(database))
    return path


def _database(entries: list[str]) -> bytes:
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE synsets(synset_id INTEGER, lemma TEXT, definition TEXT)")
        database.executemany("INSERT INTO synsets VALUES (0, '', ?)", [(entry,) for entry in entries])
        database.commit()
        data = database.serialize()
    database.close()
    return data


def test_entries_become_clean_lines() -> None:
    assert [list(entry_lines(entry)) for entry in ENTRIES] == [
        ["домашнее животное", "рыжий кот спит"],
        [],
        ["соль hbro3 кислот ссылка"],
        [],
        ["еж ― — зверь"],
        [],
    ]


def test_the_archive_is_streamed_into_lines(tmp_path: Path) -> None:
    assert list(wiktionary_lines(_archive(tmp_path, _database(ENTRIES[:1])))) == [
        "домашнее животное",
        "рыжий кот спит",
    ]


def test_archives_without_a_sound_database_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no wikiwordnet\.db"):
        list(wiktionary_lines(_archive(tmp_path / "a", b"", name="wiki/README")))
    with pytest.raises(DataError, match="holds a damaged database"):
        list(wiktionary_lines(_archive(tmp_path / "b", b"no database" * 1000)))
    with pytest.raises(DataError, match="is missing"):
        train(TokenizerTrainConfig(), tmp_path, tmp_path / "out")


def test_captions_depend_on_seed_and_number_alone() -> None:
    five = list(caption_lines(5, "train 0"))
    assert list(caption_lines(8, "train 0"))[:5] == five != list(caption_lines(5, "train 1"))


def test_training_writes_a_tokenizer_and_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinolenta.training.tokenizer._CHECKED_CAPTIONS", 10)
    sentences = [f"слово{number} и ещё одно слово{number * 7}" for number in range(40)]
    _archive(tmp_path, _database([f"w~ru~w~ru~{sentence}~0~0" for sentence in sentences]))
    options = TokenizerTrainConfig(vocab_size=400, captions=5, held_out=2, noun_repeats=2, film_repeats=2)
    for name in ("out", "again"):
        assert train(options, tmp_path, tmp_path / name) == tmp_path / name
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == [
            "CARD.md",
            "tokenizer.json",
            "tokenizer_config.json",
        ]
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    tokenizer = TextTokenizer.load(tmp_path / "out")
    card = (tmp_path / "out" / "CARD.md").read_text(encoding="utf-8")
    assert tokenizer.vocab_size == 400 and tokenizer.sha256 in card and "vocab_size = 400" in card
    assert tokenizer.sha256 == hashlib.sha256((tmp_path / "out" / "tokenizer.json").read_bytes()).hexdigest()


def test_a_corpus_too_small_for_the_vocabulary_is_refused(tmp_path: Path) -> None:
    _archive(tmp_path, _database(ENTRIES[:1]))
    with pytest.raises(DataError, match=r"gives only \d+ tokens of 200000; lower vocab_size"):
        train(
            TokenizerTrainConfig(vocab_size=200_000, captions=5, noun_repeats=1, film_repeats=1),
            tmp_path,
            tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["captions", "caption_repeats", "noun_repeats", "film_repeats", "held_out"])
def test_options_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is -1; it must be"):
        TokenizerTrainConfig(**{name: -1})
