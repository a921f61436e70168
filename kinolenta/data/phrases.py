"""The Russian words of captions, as data: what may be said about each part of a scene.

Every slot has common wordings, the first of them the usual one, and held ones, which no training caption uses
(split T3). Verbs stand in the 3rd person singular; ``verb_forms.tsv`` has their other forms.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kinolenta.data.scene import COLOURS, GROUND_PLACES, IN_PLACE, Noun, Scene, nouns


@dataclass(frozen=True)
class Wording:
    """Ways to say one thing. common: used in training, the first half of the time; held: kept for T3."""

    common: tuple[str, ...]
    held: tuple[str, ...] = ()


def _w(common: str, held: str = "") -> Wording:
    return Wording(tuple(common.split(" | ")), tuple(held.split(" | ")) if held else ())


def _names(listed: str) -> frozenset[str]:
    return frozenset(listed.split(" | "))


DIRECTIONS = {
    "left": _w("влево | налево | справа налево | к левому краю | к левому краю кадра", "в левую сторону"),
    "right": _w(
        "вправо | направо | слева направо | к правому краю | к правому краю кадра", "в правую сторону"
    ),
    "up": _w("вверх | снизу вверх | к верхнему краю | к верхнему краю кадра", "наверх"),
    "down": _w("вниз | сверху вниз | к нижнему краю | к нижнему краю кадра", "книзу"),
    "rotate_cw": _w("по часовой стрелке"),
    "rotate_ccw": _w("против часовой стрелки"),
}
SPEEDS = {
    "slow": _w("медленно | неспешно | не спеша", "потихоньку"),
    "fast": _w("быстро | стремительно | очень быстро", "на большой скорости"),
}

_MOVES = {  # kind -> verbs for a way to the left or right, by speed
    "walk": {None: _w("бежит | идет | шагает", "топает"), "slow": _w("идет | шагает"), "fast": _w("бежит")},
    "jump": {
        None: _w("прыгает | скачет | бежит", "движется прыжками"),
        "slow": _w("прыгает"),
        "fast": _w("скачет | прыгает"),
    },
    "crawl": {None: _w("ползет | движется", "перемещается"), "slow": _w("ползет"), "fast": _w("ползет")},
    "fly": {None: _w("летит | пролетает", "движется"), "slow": _w("летит"), "fast": _w("летит")},
    "float": {
        None: _w("движется | летит | плывет", "перемещается"),
        "slow": _w("плывет | движется"),
        "fast": _w("летит | движется"),
    },
    "swim": {None: _w("плывет | проплывает", "движется"), "slow": _w("плывет"), "fast": _w("плывет")},
    "sail": {None: _w("плывет | проплывает", "движется"), "slow": _w("плывет"), "fast": _w("плывет")},
    "ride": {
        None: _w("едет | катится", "движется"),
        "slow": _w("едет | катится"),
        "fast": _w("едет | катится"),
    },
    "thing": {
        None: _w("движется | скользит", "перемещается"),
        "slow": _w("движется | скользит"),
        "fast": _w("движется | летит"),
    },
}
_MARKED = {  # verbs that say the speed themselves
    ("walk", "slow"): _w("бредет"),
    ("walk", "fast"): _w("мчится | несется"),
    ("jump", "fast"): _w("мчится"),
    ("fly", "fast"): _w("мчится | несется"),
    ("fly", "slow"): _w("парит"),
    ("ride", "fast"): _w("мчится | несется"),
    ("swim", "fast"): _w("мчится"),
    ("sail", "fast"): _w("мчится"),
    ("thing", "fast"): _w("проносится"),
    ("float", "fast"): _w("проносится"),
}
_RISES = {
    "fly": _w("летит | поднимается | взлетает"),
    "float": _w("поднимается | летит | взлетает", "движется"),
    "swim": _w("плывет | поднимается | всплывает"),
    "crawl": _w("ползет | поднимается", "движется"),
    "ride": _w("движется | поднимается"),
    "thing": _w("поднимается | движется | летит", "перемещается"),
}
_SINKS = {
    "fly": _w("летит | опускается | снижается"),
    "float": _w("опускается | движется", "спускается"),
    "swim": _w("плывет | опускается", "погружается"),
    "crawl": _w("ползет | спускается", "движется"),
    "ride": _w("движется | опускается"),
    "walk": _w("опускается | движется", "спускается"),
    "thing": _w("падает | опускается | движется"),
}
SELF_DIRECTED = frozenset(("взлетает", "всплывает", "снижается", "погружается"))  # no "вверх" after
NO_PARTICIPLE = frozenset(("растет",))  # "растущая корова" is another cow
MAYBE_DIRECTED = frozenset(("поднимается", "опускается", "спускается", "падает"))
_OTHERS = {
    "rotate_cw": _w("вращается | крутится", "вертится"),
    "rotate_ccw": _w("вращается | крутится", "вертится"),
    "grow": _w(
        "становится больше | растет | увеличивается | приближается | становится все больше",
        "увеличивается в размерах",
    ),
    "shrink": _w(
        "становится меньше | уменьшается | удаляется | становится все меньше", "уменьшается в размерах"
    ),
    "bounce": _w("прыгает на месте | подпрыгивает | прыгает вверх и вниз", "подскакивает"),
    "swing": _w(
        "качается из стороны в сторону | раскачивается | качается", "покачивается из стороны в сторону"
    ),
    "appear": _w("появляется | постепенно появляется | возникает | медленно появляется", "проступает"),
    "vanish": _w("исчезает | постепенно исчезает | растворяется | медленно исчезает", "тает"),
}
_STANDS = _w("стоит | неподвижно стоит | не двигается | стоит на месте", "не шевелится")
_LIES = _w("лежит | неподвижно лежит | не двигается", "остается на месте")
_HANGS = _w("висит | неподвижно висит | не двигается", "остается на месте")
_STAYS = _w("не двигается | остается на месте", "не шевелится")
_HOVERS = _w("парит на месте | не двигается", "остается на месте")

_STANDING = _names(
    "цветок | роза | подсолнух | тюльпан | елка | дерево | пальма | кактус | гриб | гамбургер | блины | "
    "попкорн | мороженое | торт | кекс | чашка кофе | чайник | снеговик | новогодняя елка | кубок | "
    "матрешка | сапог | барабан | телефон | телевизор | свеча | лампочка | стул | метла | ведро | "
    "будильник | песочные часы | чемодан | дом | замок | палатка | фонтан | колесо обозрения | светофор | "
    "вулкан | рюкзак"
)
_SITTING = _names("плюшевый мишка")
_SHAPELESS = _names("огонь | капля")  # neither lie nor stand
_FURRY = _names(  # an orange one is called рыжий, a brown one sometimes бурый
    "обезьяна | собака | пудель | волк | кошка | осел | лошадь | олень | корова | коза | овца | лама | "
    "верблюд | мышь | хомяк | кролик | медведь | кенгуру | курица | плюшевый мишка"
)

_AT = {
    "grass": _w("на траве | на лугу | на зеленой траве | на лужайке", "на поляне"),
    "sand": _w("на песке | на пляже | на желтом песке", "на песчаном берегу"),
    "snow": _w("на снегу | на белом снегу | на снежном поле", "на заснеженном поле"),
    "sky": _w("в небе | в голубом небе | на фоне неба | среди облаков", "в облаках"),
    "night": _w("в ночном небе | ночью под звездами | под звездами | на фоне ночного неба", "среди звезд"),
    "sea": _w("в море | на волнах | в синем море | на воде", "посреди моря"),
}
_ALONG = {
    "grass": _w("по траве | по лугу | по зеленой траве | по лужайке", "по поляне"),
    "sand": _w("по песку | по пляжу | по желтому песку", "по песчаному берегу"),
    "snow": _w("по снегу | по белому снегу | по снежному полю", "по заснеженному полю"),
    "sky": _w("по небу | в небе | по голубому небу | среди облаков", "в облаках"),
    "night": _w("по ночному небу | в ночном небе | под звездами | ночью под звездами", "среди звезд"),
    "sea": _w("по морю | по волнам | в море | по воде", "по морским волнам"),
}
_BEFORE_COLOUR = _w("на {at} фоне | на {at} фоне | на фоне {of} цвета", "на однотонном {at} фоне")
_AROUND = {
    "grass": _w("вокруг трава | вокруг зеленая трава"),
    "sand": _w("вокруг песок"),
    "snow": _w("вокруг снег"),
    "sky": _w("вокруг небо и облака | на заднем плане небо"),
    "night": _w("вокруг ночное небо | на заднем плане звезды"),
    "sea": _w("вокруг море"),
}
_AROUND_COLOUR = _w("фон {is} | {is} фон")

TINTS = {
    "white": _w("белый"),
    "black": _w("черный"),
    "grey": _w("серый"),
    "red": _w("красный", "алый"),
    "orange": _w("оранжевый"),
    "yellow": _w("желтый"),
    "green": _w("зеленый"),
    "cyan": _w("голубой"),
    "blue": _w("синий"),
    "purple": _w("фиолетовый", "лиловый"),
    "pink": _w("розовый"),
    "brown": _w("коричневый"),
}
_FUR_TINTS = {"orange": _w("рыжий"), "brown": _w("коричневый | бурый")}

STYLES = {
    "fluent-3d": _w("в объемном стиле | объемная графика", "объемный рисунок"),
    "fluent-flat": _w("в плоском стиле | плоская графика", "плоский рисунок"),
    "noto": _w("в мультяшном стиле | мультяшная графика", "мультяшный рисунок"),
    "twemoji": _w("в простом стиле | простая графика", "простой рисунок"),
    "animated": _w("в объемном стиле | объемная графика", "объемный рисунок"),
}
CLAUSE_PREFIXES = _w(
    "видео: | на видео | анимация, где | короткое видео: | анимация: | ролик, где", "мультик, где"
)
REQUESTS = _w("покажи | нарисуй | покажи мне | хочу увидеть", "изобрази")


def verb(scene: Scene, noun: Noun) -> Wording:
    """What the thing does, direction and speed apart."""
    if scene.motion == IN_PLACE:
        return Wording((noun.in_place_verb,))
    if scene.motion in _OTHERS:
        return _OTHERS[scene.motion]
    if scene.motion == "still":
        return _still(scene, noun)
    kind = "thing" if noun.kind == "face" else noun.kind
    if scene.motion == "up":
        return _RISES.get(kind, _w("движется | поднимается"))
    if scene.motion == "down":
        return _SINKS.get(kind, _SINKS["walk"])
    if kind in ("thing", "float") and scene.background == "sea":
        return _w("плывет | движется")
    if kind == "thing" and scene.background in ("sky", "night"):
        return _w("летит | движется")
    if kind == "float" and scene.background in GROUND_PLACES:
        return _w("движется | скользит")
    return _MOVES[kind][scene.speed]


def marked_verb(scene: Scene, noun: Noun) -> Wording | None:
    """A verb that says both motion and speed, where there is one."""
    if scene.motion not in ("left", "right") or scene.speed is None:
        return None
    kind = "thing" if noun.kind == "face" else noun.kind
    return _MARKED.get((kind, scene.speed))


def _still(scene: Scene, noun: Noun) -> Wording:
    if noun.kind in ("walk", "jump", "ride", "sail"):
        return _STANDS
    if noun.kind == "fly":
        return _HOVERS
    if noun.kind == "float":
        return _HANGS if scene.background not in (*GROUND_PLACES, "sea") else _STAYS
    if noun.kind != "thing" or noun.name in _SHAPELESS or scene.background == "sea":
        return _STAYS
    if scene.background in ("sky", "night") or noun.habitat == "air":
        return _HANGS
    if noun.name in _SITTING:
        return _w("сидит | не двигается")
    return _STANDS if noun.name in _STANDING else _LIES


def place(scene: Scene) -> Wording:
    """Where it happens: along the place if the thing travels there, else at it. Colours: {at}, {of}."""
    if scene.background in COLOURS:
        return _BEFORE_COLOUR
    return (_ALONG if scene.motion in ("left", "right") else _AT)[scene.background]


def surroundings(background: str) -> Wording:
    """The background as a clause of its own. Colours have {is}."""
    return _AROUND_COLOUR if background in COLOURS else _AROUND[background]


def tint(scene: Scene) -> Wording | None:
    """The adjective of the tint, masculine nominative."""
    if scene.tint is None:
        return None
    return (_FUR_TINTS if furry(scene.noun) else {}).get(scene.tint, TINTS[scene.tint])


def furry(code: str) -> bool:
    """Whether the noun has fur or feathers that come in the colours of cats and horses."""
    return nouns()[code].name in _FURRY


def _all_wordings() -> Iterator[Wording]:
    for by_speed in _MOVES.values():
        yield from by_speed.values()
    for table in (_MARKED, _RISES, _SINKS, _OTHERS):
        yield from table.values()
    yield from (_STANDS, _LIES, _HANGS, _STAYS, _HOVERS, _w("сидит | движется | поднимается | скользит"))


def all_verbs() -> list[str]:
    """Every verb phrase that a caption may use, for the table of forms."""
    return list(dict.fromkeys(phrase for w in _all_wordings() for phrase in (*w.common, *w.held)))


def slots() -> list[Wording]:
    """All wordings of closed slots, for the count of what is held."""
    tables = (DIRECTIONS, SPEEDS, _AT, _ALONG, _RISES, _SINKS, _OTHERS, TINTS, STYLES)
    found = [w for table in tables for w in table.values()]
    return [*found, *(m[None] for m in _MOVES.values()), _STANDS, _LIES, _HANGS, _STAYS, _HOVERS, REQUESTS]
