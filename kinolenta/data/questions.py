"""Questions about a scene and their answers, in natural Russian: what a reader of clips learns from.

A question asks for one thing that the clip shows; its answer is a word or a few. Held wordings are kept out
of training, as those of captions are.
"""

import random
from dataclasses import dataclass

from kinolenta.data import phrases
from kinolenta.data.grammar import NounForms, adjective, noun_forms, noun_phrase, verb_with
from kinolenta.data.phrases import SELF_DIRECTED, Wording
from kinolenta.data.scene import COLOURS, NOWHERE, WANDER, Scene, nouns
from kinolenta.errors import DataError, require

KINDS = ("what", "motion", "where to", "background", "count", "colour")

# {noun}: the thing, with its numeral; {many}: genitive plural; {do}: делает or делают; {move}: likewise;
# {is_}: находится or находятся.
_WHAT = {
    True: Wording(
        (
            "кто это?", "кто на видео?", "кого ты видишь?", "кто тут?", "кто в кадре?", "кто виден на видео?",
            "кто тут у нас?", "скажи, кто это?", "кто изображен?", "что это?", "что на видео?",
            "кто на переднем плане?",
        ),
        ("кто здесь?", "кто показан на видео?"),
    ),
    False: Wording(
        (
            "что это?", "что на видео?", "что ты видишь?", "что тут?", "что в кадре?", "что видно на видео?",
            "что тут у нас?", "скажи, что это?", "что изображено?", "что это такое?",
            "какой предмет в кадре?", "что на переднем плане?",
        ),
        ("что здесь?", "что показано на видео?"),
    ),
}  # fmt: skip
_MOTION = Wording(
    (
        "что {do} {noun}?", "что тут {do} {noun}?", "что происходит?", "что {do} {noun} в кадре?",
        "что сейчас {do} {noun}?", "что здесь происходит?", "скажи, что {do} {noun}?",
    ),
    ("что на видео {do} {noun}?",),
)  # fmt: skip
_WHERE_TO = Wording(
    (
        "куда {move} {noun}?", "в какую сторону {move} {noun}?", "куда тут {move} {noun}?",
        "куда {move} {noun} в кадре?", "{noun} {move} в какую сторону?", "скажи, куда {move} {noun}?",
    ),
    ("в каком направлении {move} {noun}?",),
)  # fmt: skip
_GROUND = {
    "colour": Wording(
        (
            "какого цвета фон?", "какой фон?", "на каком фоне это?", "какой тут фон?", "какой здесь фон?",
            "фон какого цвета?", "какой цвет фона?", "какого цвета задний план?", "какой задний план?",
            "скажи, какого цвета фон?", "на каком фоне {noun}?", "что за фон?", "фон какой?",
            "задний план какого цвета?", "какой здесь задний план?", "какого цвета все вокруг?",
        ),
        ("какой цвет у фона?",),
    ),
    "place": Wording(
        (
            "какой фон?", "что вокруг?", "где это?", "что на фоне?", "на каком фоне это?", "какой тут фон?",
            "какой здесь фон?", "какой задний план?", "что сзади?", "что позади?", "где это происходит?",
            "где {is_} {noun}?", "что видно на фоне?", "скажи, какой фон?", "на каком фоне {noun}?",
            "что за фон?", "фон какой?", "что видно позади?", "какой здесь задний план?", "что там вдали?",
            "что за место на заднем плане?", "где тут {noun}?", "что на втором плане?",
        ),
        ("что на заднем плане?",),
    ),
}  # fmt: skip
_COUNT = Wording(
    (
        "сколько {many}?", "сколько здесь {many}?", "сколько тут {many}?", "сколько {many} в кадре?",
        "сколько всего {many}?", "сколько {many} ты видишь?", "скажи, сколько тут {many}?",
    ),
    ("сколько {many} на видео?",),
)  # fmt: skip
_COLOUR = Wording(
    (
        "какого цвета {noun}?", "какого {noun} цвета?", "{noun} какого цвета?", "какого цвета тут {noun}?",
        "скажи, какого цвета {noun}?",
    ),
    ("а какого цвета {noun}?",),
)  # fmt: skip

_PLACES = {
    "grass": "трава", "sand": "песок", "snow": "снег", "sky": "небо", "night": "ночное небо", "sea": "море",
}  # fmt: skip
_ONE = {"m": "один", "f": "одна", "n": "одно"}
_SIDES = {
    "left": "влево", "right": "вправо", "up": "вверх", "down": "вниз",
    "rotate_cw": "по часовой стрелке", "rotate_ccw": "против часовой стрелки",
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """kind: of KINDS. text: with its question mark. answer: without a full stop."""

    kind: str
    text: str
    answer: str


def kinds_of(scene: Scene) -> tuple[str, ...]:
    """The kinds of question that the scene has an answer to."""
    forms = noun_forms()[scene.noun, nouns()[scene.noun].name]
    fits = {
        "what": True,
        "motion": scene.motion != WANDER,
        "where to": scene.motion in _SIDES,
        "background": scene.background != NOWHERE,
        "count": forms.countable,
        "colour": scene.tint is not None and scene.count == 1,
    }
    return tuple(kind for kind in KINDS if fits[kind])


def question(scene: Scene, rng: random.Random, kind: str | None = None, *, held: bool = False) -> Question:
    """A question of a kind (one that fits, drawn with rng, unless given) in one of its wordings.

    held: in a wording that training never uses. Raises DataError if the scene has no answer to the kind.
    """
    fitting = kinds_of(scene)
    kind = rng.choice(fitting) if kind is None else kind
    require(
        kind in fitting, DataError, "the scene has no answer to {!r}; ask one of {}", kind, ", ".join(fitting)
    )
    noun = nouns()[scene.noun]
    forms = noun_forms()[scene.noun, noun.name]
    wording, answer = _wording_and_answer(scene, forms, kind)
    several = scene.count > 1 or forms.gender == "pl"
    turns = scene.motion in ("rotate_cw", "rotate_ccw")
    moves = ("вращается", "вращаются") if turns else ("движется", "движутся")
    is_ = ("находится", "находятся")
    text = rng.choice(wording.held if held else wording.common).format(
        noun=noun_phrase(forms, None, count=scene.count),
        many=forms.many,
        do="делают" if several else "делает",
        move=moves[several],
        is_=is_[several],
    )
    return Question(kind, text, answer)


def all_questions(scene: Scene, rng: random.Random, wordings: int) -> list[Question]:
    """Questions of every kind that fits, each kind in up to ``wordings`` wordings of training."""
    drawn = (question(scene, rng, kind) for kind in kinds_of(scene) for _ in range(wordings))
    return list(dict.fromkeys(drawn))


def _wording_and_answer(scene: Scene, forms: NounForms, kind: str) -> tuple[Wording, str]:
    if kind == "what":
        return _WHAT[forms.animate], noun_phrase(forms, None, count=scene.count)
    if kind == "motion":
        return _MOTION, _doing(scene, forms)
    if kind == "where to":
        return _WHERE_TO, _SIDES[scene.motion]
    if kind == "background":
        if scene.background in COLOURS:
            return _GROUND["colour"], phrases.TINTS[scene.background].common[0]
        return _GROUND["place"], _PLACES[scene.background]
    if kind == "count":
        one = _ONE[forms.gender]
        two = "две" if forms.gender == "f" else "два"
        return _COUNT, (one, two, "три")[scene.count - 1]
    tint = phrases.tint(scene)
    assert tint is not None
    return _COLOUR, adjective(tint.common[0], forms.gender)


def _doing(scene: Scene, forms: NounForms) -> str:
    """The usual verb in its number, with the direction if there is one: "бежит вправо"."""
    verb = phrases.verb(scene, nouns()[scene.noun]).common[0]
    said = verb_with(verb, forms, count=scene.count)
    directed = scene.motion in _SIDES and verb not in SELF_DIRECTED
    return f"{said} {_SIDES[scene.motion]}" if directed else said
