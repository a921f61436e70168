"""What a Russian sentence says about a clip: the motion and the background that it names.

Rules over word stems, for captions that a model writes: they need not be among those that
``kinolenta.data.captions`` would make, only speak of the same motions and places. Of 13 motions and 18
backgrounds each sentence names at most one; None is a sentence that names none.
"""

import re

# In this order: the first that occurs counts. "прыгает вверх и вниз" is no way up, "растворяется" no growth.
_MOTIONS = {
    "rotate_ccw": r"против часовой",
    "rotate_cw": r"по часовой",
    "bounce": r"вверх и вниз|прыг\w+ на месте|подпрыг|подскак",
    "left": r"влево|налево|к левому|в левую",
    "right": r"вправо|направо|к правому|в правую",
    "up": r"вверх|наверх|к верхнему|взлет|всплыв|поднима",
    "down": r"вниз|книзу|к нижнему|снижа|опуска|спуска|пада(?:ет|ют|ющ)|погружа",
    "swing": r"кач[аи]",
    "vanish": r"исчеза|растворя|\bта(?:ет|ют|ющ)",
    "appear": r"появля|возника|проступа",
    "grow": r"больше|\bраст(?:ет|ут|ущ)|увелич|приближа",
    "shrink": r"меньше|уменьша|удаля",
    "still": r"\b(?:сто|вис|сид)(?:ит|ят|ящ)|\bлеж(?:ит|ат|ащ)|не дви[гж]|не шевел|неподвиж|на месте",
}
_BACKGROUNDS = {
    "night": r"\bночн|ночью|под звездами|среди звезд|плане звезды",
    "grass": r"\bтрав|\bлуг|лужайк|полян",
    "sand": r"\bпес(?:ок|к)|песчан|пляж",
    "snow": r"\bснег(?:у|а|е)?\b|снежн|заснежен",
    "sea": r"\bмор[еюя]\b|морск\w+ волн|\bволн|\bвод[еыу]\b",
    "sky": r"\bнеб[еоуа]\b|облак(?:ов|ах)\b",
}
_STEMS = {
    "white": "бел", "black": "черн", "grey": "сер", "red": "красн|ал", "orange": "оранжев", "yellow": "желт",
    "green": "зелен", "cyan": "голуб", "blue": "син", "purple": "фиолетов|лилов", "pink": "розов",
    "brown": "коричнев",
}  # fmt: skip


def said_motion(text: str) -> str | None:
    """The motion that a sentence names, of MOTIONS, or None."""
    return _first(_MOTIONS, _plain(text))


def said_background(text: str) -> str | None:
    """The background that a sentence names, of BACKGROUNDS, or None."""
    plain = _plain(text)
    found = _first(_BACKGROUNDS, plain)
    for around in ("{} фон", "фоне {} цвета", r"\bфон {}\b"):  # colours elsewhere are those of things
        rules = {
            name: around.format(rf"\b(?:{stem})(?:[ыио]й|[ое]го|[ое]м)") for name, stem in _STEMS.items()
        }
        found = found or _first(rules, plain)
    return found


def _first(rules: dict[str, str], plain: str) -> str | None:
    return next((name for name, rule in rules.items() if re.search(rule, plain)), None)


def _plain(text: str) -> str:
    return text.lower().replace("ё", "е")
