"""Builds ``noun_forms.tsv`` and ``verb_forms.tsv``: the only module of the data world that needs pymorphy3.

The tables are committed and were read line by line; captions use them and not this module.
To rebuild after a change of nouns or phrases: ``python -m kinolenta.data.inflect``.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

from kinolenta.data import phrases
from kinolenta.data.scene import nouns

# Words that the dictionary reads otherwise: uninflected ones by gender, the rest by animacy.
_GENDERS = {
    "кенгуру": "masc",
    "такси": "neut",
    "каноэ": "neut",
    "манго": "neut",
    "авокадо": "neut",
    "киви": "neut",
    "фламинго": "masc",
    "брокколи": "femn",
    "лама": "femn",
}
_ANIMATE = {
    "робот",
    "пришелец",
    "инопланетянин",
    "снеговик",
    "призрак",
    "монстр",
    "джинн",
    "клоун",
    "матрешка",
    "тираннозавр",
    "динозавр",
    "диплодок",
    "медуза",
    "краб",
    "креветка",
    "улитка",
    "осьминог",
    "спрут",
    "воздушный змей",
    "русалка",
    "фея",
    "дракон",
    "единорог",
    "свинка",
    "уточка",
    "улиточка",
    "жучок",
    "серфер",
}
_INANIMATE = {
    "череп",
    "пикап",
    "джип",
    "болид",
    "спутник",
    "парашют",
    "катер",
    "кекс",
    "месяц",
    "бант",
    "мухомор",
    "гриб",
    "труба",
    "привидение",
    "смайлик",
    "подсолнух",
    "байк",
    "парусник",
    "роза",
    "круассан",
}
# One drawing shows many, or the word has no count: never two or three of them.
_UNCOUNTABLE = {
    "скорая помощь",
    "клевер",
    "виноград",
    "вишня",
    "брокколи",
    "хлеб",
    "сыр",
    "попкорн",
    "мороженое",
    "огонь",
    "пламя",
    "кукуруза",
    "солнце",
    "солнышко",
    "месяц",
    "полумесяц",
    "радуга",
    "земной шар",
    "яичница",
    "печенье",
    "клубника",
    "клубничка",
    "морковь",
    "Дед Мороз",
    "Санта-Клаус",
}
_PARTICIPLES = {"машет": "машущий", "движется": "движущийся"}  # the dictionary has rarer ones
_PLURAL_ONLY = {"блины", "оладьи", "очки", "джинсы", "наушники", "ножницы", "песочные часы"}
_BY_HAND = {  # word -> gender, animate, accusative, after "two", genitive plural
    "хот-дог": ("masc", False, "хот-дог", "хот-дога", "хот-догов"),
    "Санта-Клаус": ("masc", True, "Санта-Клауса", "", ""),
    "Дед Мороз": ("masc", True, "Деда Мороза", "", ""),
    "тирекс": ("masc", True, "тирекса", "тирекса", "тирексов"),
    "капкейк": ("masc", False, "капкейк", "капкейка", "капкейков"),
    "кроссовка": ("femn", False, "кроссовку", "кроссовки", "кроссовок"),
    "чашка кофе": ("femn", False, "чашку кофе", "чашки кофе", "чашек кофе"),
    "колесо обозрения": ("neut", False, "колесо обозрения", "колеса обозрения", "колес обозрения"),
    "мишка": ("masc", True, "мишку", "мишки", "мишек"),
    "плюшевый мишка": ("masc", True, "плюшевого мишку", "плюшевых мишки", "плюшевых мишек"),
    "крольчонок": ("masc", True, "крольчонка", "крольчонка", "крольчат"),
    "лягушонок": ("masc", True, "лягушонка", "лягушонка", "лягушат"),
}


@cache
def _analyser() -> Any:
    import pymorphy3

    return pymorphy3.MorphAnalyzer()


def _fold(text: str) -> str:
    return text.replace("ё", "е").replace("Ё", "Е")


def _noun_parse(word: str, number: str) -> Any:
    fits = [p for p in _analyser().parse(word) if {"NOUN", "nomn", number} <= p.tag.grammemes]
    if word in _GENDERS:
        fits = [p for p in fits if _GENDERS[word] in p.tag] or fits
    assert fits, f"the dictionary has no noun {word!r}: add it to _BY_HAND"
    whole = [p for p in fits if p.inflect({"plur", "gent"})]  # surnames and the like lack forms
    return (whole or fits)[0]


def _adjective_parse(word: str, gender: str, number: str) -> Any:
    wanted = {"nomn", number} if number == "plur" else {"nomn", gender}
    for p in _analyser().parse(word):
        if p.tag.POS in ("ADJF", "PRTF") and wanted <= p.tag.grammemes:
            return p
    raise AssertionError(f"the dictionary has no adjective {word!r}")


def _inflect(parse: Any, *grammemes: str) -> str:
    form = parse.inflect(set(grammemes))
    assert form is not None, (parse.word, grammemes)
    return _fold(form.word)


def noun_row(code: str, word: str) -> list[str]:
    """code, word, gender, plural only, animate, countable, accusative, form after two, genitive plural."""
    plural = word in _PLURAL_ONLY
    number = "plur" if plural else "sing"
    countable = not plural and word not in _UNCOUNTABLE
    if word in _BY_HAND:
        gender, animate, accusative, two, many = _BY_HAND[word]
    else:
        *adjectives, head = word.split(" ")
        noun = _noun_parse(head, number)
        gender = "" if plural else _GENDERS.get(head, noun.tag.gender)
        animate = word in _ANIMATE or ("anim" in noun.tag and word not in _INANIMATE)
        life = "anim" if animate else "inan"
        parts = [_adjective_parse(a, gender, number) for a in adjectives]
        if plural:
            forms = [
                _inflect(p, "plur", "accs", *(["inan"] if p is not noun else [])) for p in (*parts, noun)
            ]
            accusative, two, many = " ".join(forms), "", ""
        else:
            agree = {"sing", "accs", gender} | ({life} if gender == "masc" else set())
            if gender == "masc":  # the accusative is the genitive of the living, the nominative of the rest
                head_acc = _inflect(noun, "sing", "gent") if animate else head
            else:
                head_acc = _inflect(noun, "sing", "accs")
            accusative = " ".join([*(_inflect(p, *agree) for p in parts), head_acc])
            case = "nomn" if gender == "femn" else "gent"
            two = " ".join([*(_inflect(p, "plur", case) for p in parts), _inflect(noun, "sing", "gent")])
            many = " ".join(_inflect(p, "plur", "gent") for p in (*parts, noun))
    if not countable:
        two = many = ""
    short = {"masc": "m", "femn": "f", "neut": "n", "": "pl"}[gender or ""]
    return [code, word, short, str(int(animate)), str(int(countable)), accusative, two, many]


def verb_row(phrase: str) -> list[str]:
    """3rd person singular, plural, and present participle (masculine nominative) of a verb phrase."""
    words = phrase.split(" ")
    plural, participle = list(words), list(words)
    found = 0
    for place, word in enumerate(words):
        for p in _analyser().parse(word):
            if {"VERB", "pres", "sing", "3per"} <= p.tag.grammemes:
                plural[place] = _inflect(p, "plur", "3per")
                lexeme = [f for f in p.lexeme if {"PRTF", "pres", "actv", "masc", "nomn"} <= f.tag.grammemes]
                assert lexeme, f"no present participle of {word!r}"
                participle[place] = _PARTICIPLES.get(word, _fold(lexeme[0].word))
                found += 1
                break
    assert found >= 1, f"no verb in {phrase!r}"
    return [phrase, " ".join(plural), " ".join(participle)]


def noun_table() -> str:
    """The text of ``noun_forms.tsv``."""
    lines = ["code\tword\tgender\tanimate\tcountable\taccusative\ttwo\tmany"]
    for noun in nouns().values():
        lines += ["\t".join(noun_row(noun.code, word)) for word in (noun.name, *noun.synonyms)]
    return "\n".join(lines) + "\n"


def verb_table() -> str:
    """The text of ``verb_forms.tsv``."""
    verbs = dict.fromkeys(
        [*phrases.all_verbs(), *(n.in_place_verb for n in nouns().values() if n.in_place_verb)]
    )
    lines = ["singular\tplural\tparticiple", *("\t".join(verb_row(verb)) for verb in verbs)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes both tables beside this module, each whole or not at all."""
    folder = Path(__file__).parent
    for name, text in (("noun_forms.tsv", noun_table()), ("verb_forms.tsv", verb_table())):
        temporary = folder / (name + ".part")
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, folder / name)


if __name__ == "__main__":
    main()
