"""Russian agreement for captions: adjectives, participles and numerals put to nouns, from committed tables.

Nothing here needs a dictionary at run time; ``inflect`` builds the tables. Letters are those of the CLDR
names: no ё, which the tokenizer folds anyway.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from kinolenta.errors import DataError, require


@dataclass(frozen=True)
class NounForms:
    """What agreement needs of a noun.

    gender: m, f, n, or pl for plural only; accusative: singular; two: what follows два or две, without the
    numeral ("летучие мыши", "воздушных шарика"); many: genitive plural. These two are empty if not countable.
    """

    word: str
    gender: str
    animate: bool
    countable: bool
    accusative: str
    two: str
    many: str


@dataclass(frozen=True)
class VerbForms:
    """A verb phrase in the present: 3rd person singular and plural, and the participle (masculine)."""

    singular: str
    plural: str
    participle: str


_HARD = {"m": "ый", "f": "ая", "n": "ое", "pl": "ые", "gen": "ого", "acc_f": "ую", "gen_pl": "ых", "at": "ом"}
_STRESSED = {**_HARD, "m": "ой"}
_SOFT = {"m": "ий", "f": "яя", "n": "ее", "pl": "ие", "gen": "его", "acc_f": "юю", "gen_pl": "их", "at": "ем"}
_HUSHING = {**_SOFT, "f": "ая", "acc_f": "ую"}


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files("kinolenta.data").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


@cache
def noun_forms() -> dict[tuple[str, str], NounForms]:
    """Forms by (code, word), for the name and every synonym of every noun."""
    return {
        (row["code"], row["word"]): NounForms(
            word=row["word"],
            gender=row["gender"],
            animate=row["animate"] == "1",
            countable=row["countable"] == "1",
            accusative=row["accusative"],
            two=row["two"],
            many=row["many"],
        )
        for row in _rows("noun_forms.tsv")
    }


@cache
def verb_forms() -> dict[str, VerbForms]:
    """Forms by 3rd person singular."""
    return {row["singular"]: VerbForms(**row) for row in _rows("verb_forms.tsv")}


@cache
def adjective(word: str, form: str) -> str:
    """A form of an adjective or present participle given as masculine nominative.

    form: m, f, n, pl for the nominatives; gen (masculine), acc_f, gen_pl, at ("на красном фоне").
    Raises DataError for a word that declines in another way.
    """
    stem, ending, tail = word[:-2], word[-2:], ""
    if word.endswith("щийся"):
        stem, ending, tail = word[:-4], "ий", "ся"
    endings = {"ый": _HARD, "ой": _STRESSED, "ий": _HUSHING if stem[-1:] in "жшчщ" else _SOFT}.get(ending)
    require(endings is not None, DataError, "cannot decline {!r}; use an adjective in -ый, -ой or -ий", word)
    assert endings is not None
    return stem + endings[form] + tail


def adjective_before(word: str, noun: NounForms, *, count: int = 1, accusative: bool = False) -> str:
    """The adjective as it stands between the numeral, if any, and the noun."""
    if count > 1:
        if accusative and noun.animate:
            return adjective(word, "gen_pl")
        return adjective(word, "pl" if noun.gender == "f" else "gen_pl")
    if accusative and noun.gender == "m" and noun.animate:
        return adjective(word, "gen")
    if accusative and noun.gender == "f":
        return adjective(word, "acc_f")
    return adjective(word, noun.gender)


def noun_phrase(noun: NounForms, tint: str | None, *, count: int = 1, accusative: bool = False) -> str:
    """ "рыжая кошка", "две рыжие кошки"; accusative: "рыжую кошку", "двух рыжих кошек".

    Raises DataError for a count of what cannot be counted, or outside 1-3.
    """
    require(1 <= count <= 3, DataError, "count is {}; a scene holds 1 to 3 objects", count)
    require(count == 1 or noun.countable, DataError, "{!r} is not countable; use count 1", noun.word)
    words = [] if tint is None else [adjective_before(tint, noun, count=count, accusative=accusative)]
    if count == 1:
        words.append(noun.accusative if accusative else noun.word)
    elif accusative and noun.animate:
        words = ["двух" if count == 2 else "трех", *words, noun.many]
    else:
        two = "две" if noun.gender == "f" else "два"
        words = [two if count == 2 else "три", *words, noun.two]
    return " ".join(words)


def verb_with(phrase: str, noun: NounForms, *, count: int = 1) -> str:
    """The verb phrase in the number of its subject."""
    forms = verb_forms()[phrase]
    return forms.plural if count > 1 or noun.gender == "pl" else forms.singular


def participle_with(phrase: str, noun: NounForms, *, count: int = 1, accusative: bool = False) -> str:
    """The verb phrase as a participle after its noun: "кошка, бегущая"; "покажи кота, бегущего"."""
    if count > 1:
        form = "gen_pl" if accusative and noun.animate else "pl"
        if accusative and not noun.animate and noun.gender != "f":
            form = "gen_pl"
    elif accusative and noun.gender == "m" and noun.animate:
        form = "gen"
    elif accusative and noun.gender == "f":
        form = "acc_f"
    else:
        form = noun.gender
    words = verb_forms()[phrase].participle.split(" ")
    declined = [adjective(w, form) if w.endswith(("щий", "щийся")) else w for w in words]
    return " ".join(declined)
