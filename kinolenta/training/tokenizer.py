"""Trains the text vocabulary on the Russian Wiktionary and on the captions of the world.

The invariant: the same sources and options give the same three files, byte for byte.
"""

import html
import random
import re
import sqlite3
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kinolenta.config import Config
from kinolenta.data.fetch import archive_path, members
from kinolenta.data.sources import by_name
from kinolenta.errors import CheckpointError, ConfigError, DataError, require
from kinolenta.files import atomic_path
from kinolenta.tokenizer import TextTokenizer, normalize, train_tokenizer

WIKTIONARY = "wiki-ru-wordnet"
CARD_NAME = "CARD.md"
_MIN_CYRILLIC = 0.45  # share of a line's characters; drops formulas, foreign words, remains of markup
_CHECKED_CAPTIONS = 2000


@dataclass(frozen=True, kw_only=True)
class TokenizerTrainConfig(Config):
    """What the vocabulary is trained on, and how large it is.

    captions: how many are drawn from the world's training split; the *_repeats say how often captions, names
    of things and the film's captions count, against once for a line of Wiktionary. held_out: one in so many
    lines of Wiktionary is kept for the card, chosen by checksum. seed: of the captions.
    """

    vocab_size: int = 16384
    min_frequency: int = 2
    captions: int = 20000
    caption_repeats: int = 8
    noun_repeats: int = 200
    film_repeats: int = 100
    held_out: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"captions": 0, "caption_repeats": 1, "noun_repeats": 1, "film_repeats": 1, "held_out": 2}
        for name, bound in least.items():
            value = getattr(self, name)
            require(value >= bound, ConfigError, "{} is {}; it must be {} or more.", name, value, bound)


def train(config: TokenizerTrainConfig, cache: str | Path, out_folder: str | Path) -> Path:
    """Train and write ``tokenizer.json``, ``tokenizer_config.json`` and ``CARD.md``; returns the folder.

    cache: folder of the fetched sources. Raises DataError if Wiktionary is not in it, or if the corpus is too
    small for the size asked for; CheckpointError if the folder cannot be written.
    """
    from kinolenta.data.film import takes
    from kinolenta.data.scene import nouns

    archive = archive_path(cache, WIKTIONARY)
    lines = sorted(set(wiktionary_lines(archive)))
    held_out = [line for line in lines if _is_held_out(line, config.held_out)]
    kept = [line for line in lines if not _is_held_out(line, config.held_out)]
    names = [name for noun in nouns().values() for name in (noun.name, *noun.synonyms)]
    film = [take.caption for take in takes() if take.caption]
    captions = list(caption_lines(config.captions, f"train {config.seed}"))
    corpus = (
        kept + names * config.noun_repeats + film * config.film_repeats + captions * config.caption_repeats
    )
    tokenizer = train_tokenizer(corpus, vocab_size=config.vocab_size, min_frequency=config.min_frequency)
    if tokenizer.vocab_size != config.vocab_size:
        raise DataError(
            f"The corpus gives only {tokenizer.vocab_size} tokens of {config.vocab_size}; lower vocab_size."
        )
    folder = Path(out_folder)
    tokenizer.save(folder)
    checked = list(caption_lines(_CHECKED_CAPTIONS, f"held out {config.seed}"))
    card = _card(config, tokenizer, kept, held_out, checked, film, names)
    with atomic_path(folder / CARD_NAME, CheckpointError, overwrite=True) as partial:
        partial.write_text(card, encoding="utf-8")
    return folder


def caption_lines(count: int, seed: str) -> Iterator[str]:
    """Captions of random scenes of the training split; the n-th depends on the seed and n alone."""
    from tqdm import tqdm

    from kinolenta.data.captions import caption
    from kinolenta.data.sampling import sample_scene

    for number in tqdm(range(count), desc="captions", file=sys.stderr, leave=False, delay=1.0):
        rng = random.Random(f"{seed} {number}")
        yield caption(sample_scene(rng), rng)


def wiktionary_lines(archive: Path) -> Iterator[str]:
    """Clean, normalised lines from the database in the archive of wiki-ru-wordnet, some of them repeatedly.

    Entries that the dictionary labels as abuse are left out. Raises DataError if the archive is damaged.
    """
    found = next(members(archive, lambda path: path.endswith("/wikiwordnet.db")), None)
    if found is None:
        raise DataError(f"{archive} holds no wikiwordnet.db. Delete it, then run 'kinolenta data fetch'.")
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(found[1])
            for (entry,) in database.execute("SELECT definition FROM synsets ORDER BY rowid"):
                yield from entry_lines(entry)
    except sqlite3.Error as error:
        raise DataError(f"{archive} holds a damaged database: {error}. Fetch it again.") from error


_ABUSE = re.compile(r"\{\{[^{}]*?(?<!\w)(?:вульг|обсц|мат(?!\w)|груб|бран)")
_COMMENT = re.compile(r"<!--.*?-->|<(ref|math)\b.*?</\1>", re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,80}>")
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]|\[https?:\S+ ?([^\]]*)\]")
_CYRILLIC = re.compile("[а-я]")
_REST = re.compile(r"\{\{|\}\}|\[\[|\]\]|\|")  # markup that was not closed
_TEMPLATE = re.compile(r"\{\{([^{}]*)\}\}")


def entry_lines(entry: str) -> Iterator[str]:
    """Definition and sentences of a dictionary entry in wiki markup, each as one clean normalised line.

    entry: ``word~ru~word~ru~text~number~number``. A line is kept if at least 45 % of it is Cyrillic.
    """
    if _ABUSE.search(entry):
        return
    text = entry.split("~", 4)[-1].rsplit("~", 2)[0]
    text = _COMMENT.sub(" ", html.unescape(text))
    text = _LINK.sub(lambda match: match[1] or match[2] or "", _TAG.sub("", text))
    while (inner := _TEMPLATE.sub(_expand, text)) != text:  # innermost first
        text = inner
    for line in re.sub("'{2,}", "", text).split("\n"):
        line = normalize(line).strip("#*:;,.= ")
        cyrillic = len(_CYRILLIC.findall(line))
        if len(line) >= 2 and cyrillic >= _MIN_CYRILLIC * len(line) and not _REST.search(line):
            yield line


def _expand(match: re.Match[str]) -> str:
    """The text that a template leaves: its example sentence, its emphasised word; labels leave none."""
    name, *values = match[1].split("|")
    value = values[0] if values else ""
    match name.strip():
        case "пример":
            return f"\n{value}\n"
        case "выдел" | "=":
            return value
        case "-" | "--":
            return " — "
        case _:
            return ""


def _is_held_out(line: str, every: int) -> bool:
    return zlib.crc32(line.encode()) % every == 0


def _measure(tokenizer: TextTokenizer, lines: Sequence[str]) -> tuple[float, float, int]:
    """Characters per token, mean and most tokens a line. Raises DataError if a line does not come back."""
    rows = tokenizer.encode_batch(lines)
    for line, ids in zip(lines, rows, strict=True):
        require(tokenizer.decode(ids) == normalize(line), DataError, "{!r} does not come back whole.", line)
    tokens = sum(map(len, rows))
    return sum(len(normalize(line)) for line in lines) / tokens, tokens / len(rows), max(map(len, rows))


def _card(
    config: TokenizerTrainConfig,
    tokenizer: TextTokenizer,
    kept: Sequence[str],
    held_out: Sequence[str],
    captions: Sequence[str],
    film: Sequence[str],
    names: Sequence[str],
) -> str:
    source = by_name(WIKTIONARY)
    words = {word.strip(".,:;") for line in captions for word in normalize(line).split()} - {""}
    rows = []
    for name, lines in (
        ("captions of the world, seeds not trained on", captions),
        ("Russian Wiktionary, lines not trained on", held_out),
        ("captions of the film, trained on", film),
    ):
        ratio, mean, most = _measure(tokenizer, lines)
        rows.append(f"| {name} | {len(lines):,} | {ratio:.2f} | {mean:.1f} | {most} |")
    return _CARD.format(
        vocab_size=tokenizer.vocab_size,
        table="\n".join(rows),
        single=sum(len(tokenizer.encode(word)) == 1 for word in words),
        words=len(words),
        sha256=tokenizer.sha256,
        wiktionary_lines=len(kept),
        megabytes=sum(len(line.encode()) for line in kept) / 1e6,
        package=f"{source.package} {source.version}",
        credit=source.credit,
        names=len(names),
        film=len(film),
        options="\n".join(f"    {name} = {value}" for name, value in config.to_dict().items()),
    )


_CARD = """# The text vocabulary

Byte-level BPE of {vocab_size:,} ids: five specials, 256 bytes, and the merges most frequent in the corpus.
Text is normalised before (`kinolenta.tokenizer.normalize`: NFC, lower case, yo as ye, even spaces), and every
word goes with the space before it, the first word too.

| text | lines | characters per token | tokens per line | most |
|---|---|---|---|---|
{table}

Each of these lines comes back exactly: `decode(encode(text)) == normalize(text)`. Unknown tokens: 0, since
all 256 bytes are tokens. {single:,} of the {words:,} words in those captions of the world are single tokens.

sha256 of `tokenizer.json`: `{sha256}`

## Corpus
- Russian Wiktionary: {wiktionary_lines:,} distinct definitions and sentences, {megabytes:.1f} MB, from the
  package {package} (its code MIT; the text by the {credit}, CC BY-SA 3.0).
  Markup is removed; lines under 45 % Cyrillic and entries labelled as abuse are left out.
- Our own captions of random scenes, {names:,} names of things, and {film:,} captions of Big Buck Bunny.

The vocabulary is a list of frequent pieces of words and holds no text; it is given under the licence of the
project, with thanks to the editors of Wiktionary.

What it does badly: a letter of another script costs up to three tokens, an emoji about five, a Latin word
four to eight. Names of people and old spellings fall into syllables.

## Options
Made by `kinolenta train tokenizer` with

{options}

The same sources, captions and options give the same bytes.
"""
