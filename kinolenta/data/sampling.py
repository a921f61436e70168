"""Draws scenes of the world that make sense, split by split.

A scene makes sense when the thing belongs in the place, stands out from it, and can do there what it does:
ground and water things keep to their places, what rests on ground or water does not rise from it.
"""

import csv
import random
from collections.abc import Sequence
from functools import cache
from importlib import resources

from kinolenta.data import phrases
from kinolenta.data.grammar import noun_forms
from kinolenta.data.scene import (
    COLOURS,
    GROUND_PLACES,
    IN_PLACE,
    MOTIONS,
    NOWHERE,
    PLACES,
    SPEEDS,
    STYLES,
    TINTS,
    WANDER,
    Noun,
    Scene,
    nouns,
)
from kinolenta.data.splits import SPLITS, novelties, unseen_animations, unseen_nouns, unseen_styles
from kinolenta.errors import DataError, require

TRAVELS = ("left", "right", "up", "down")
_WITH_SPEED = (*TRAVELS, "rotate_cw", "rotate_ccw")
_WEIGHTS = {"left": 2.5, "right": 2.5}  # of motions, the others 1
_ANIMATED_SHARE, _IN_PLACE_SHARE = 0.35, 0.4
_TINT_SHARE, _SPEED_SHARE, _COUNT_WEIGHTS = 0.5, 0.25, (0.88, 0.08, 0.04)  # tints: of tintable nouns
_WANDERING_COUNT_WEIGHTS, _WANDERING_TINT_SHARE = (0.55, 0.25, 0.2), 0.7
_FUR_TINTS, _FUR_SHARE = ("white", "black", "grey", "orange", "brown"), 0.8
_PLACES_OF = {
    "ground": GROUND_PLACES,
    "air": ("sky", "night"),
    "water": ("sea",),
    "any": PLACES,
}
_LOST_IN = {  # places in which a tint of about their own colour is lost
    "grass": ("green",),
    "sand": ("yellow", "orange"),
    "snow": ("white",),
    "sky": ("cyan", "white"),
    "night": ("black", "blue"),
    "sea": ("blue", "cyan"),
}
_ALIKE = 130.0  # distance in RGB under which two plain colours do not stand out from each other
_MAX_TRIES = 20_000


@cache
def clashes() -> dict[str, frozenset[str]]:
    """Plain backgrounds on which a noun in its natural colours is lost in some style, by code.

    ``noun_clash.tsv`` was measured: over half of the drawing is within 60 of the background (85 of black).
    """
    text = resources.files("kinolenta.data").joinpath("noun_clash.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return {row["code"]: frozenset(row["backgrounds"].split("|")) for row in rows}


def stands_out(scene: Scene) -> bool:
    """Whether the thing can be told from the background by its colour."""
    if scene.tint is None:
        return scene.background not in clashes().get(scene.noun, ())
    if scene.background in COLOURS:
        return scene.background != scene.tint and _distance(scene.tint, scene.background) > _ALIKE
    return scene.tint not in _LOST_IN[scene.background]


@cache
def _distance(one: str, other: str) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(COLOURS[one], COLOURS[other], strict=True)) ** 0.5)


def backgrounds_of(noun: Noun, motion: str) -> tuple[str, ...]:
    """The places in which this noun may do this, plain colours apart."""
    places = _PLACES_OF[noun.habitat]
    if motion in ("up", "down"):
        return tuple(place for place in places if place in ("sky", "night"))
    return places


def allowed(scene: Scene) -> bool:
    """Whether the scene keeps all rules of this module."""
    noun = nouns()[scene.noun]
    place_fits = scene.background in COLOURS or scene.background in backgrounds_of(noun, scene.motion)
    style_fits = scene.style != "animated" or (noun.animated and scene.motion in (*TRAVELS, IN_PLACE))
    still_fits = scene.style == "animated" or scene.motion != IN_PLACE
    tint_fits = scene.tint is None or noun.tintable
    count_fits = scene.count == 1 or noun_forms()[noun.code, noun.name].countable
    speed_fits = scene.speed is None or scene.motion in _WITH_SPEED
    return all((place_fits, style_fits, still_fits, tint_fits, count_fits, speed_fits, stands_out(scene)))


def _draw(rng: random.Random, noun: Noun, animated_share: float) -> Scene:
    """One scene of this noun, without a look at splits and contrast."""
    animated = noun.animated and rng.random() < animated_share
    style = "animated" if animated else rng.choice(STYLES)
    if animated:
        motion = IN_PLACE if rng.random() < _IN_PLACE_SHARE else rng.choice(TRAVELS)
    else:
        motion = rng.choices(MOTIONS, [_WEIGHTS.get(name, 1.0) for name in MOTIONS])[0]
    places = backgrounds_of(noun, motion)
    background = rng.choice(places) if places and rng.random() < 0.5 else rng.choice(tuple(COLOURS))
    count = _count(rng, noun, _COUNT_WEIGHTS)
    speed = rng.choice(SPEEDS) if motion in _WITH_SPEED and rng.random() < _SPEED_SHARE else None
    return Scene(
        noun=noun.code,
        style=style,
        motion=motion,
        background=background,
        tint=_tint(rng, noun, _TINT_SHARE),
        count=count,
        speed=speed,
        seed=rng.getrandbits(32),
    )


def _count(rng: random.Random, noun: Noun, weights: tuple[float, float, float]) -> int:
    count = rng.choices((1, 2, 3), weights)[0]
    return count if noun_forms()[noun.code, noun.name].countable else 1


def _tint(rng: random.Random, noun: Noun, share: float) -> str | None:
    if not noun.tintable or rng.random() >= share:
        return None
    fur = phrases.furry(noun.code) and rng.random() < _FUR_SHARE
    return rng.choice(_FUR_TINTS if fur else TINTS)


def sample_wanderer(rng: random.Random) -> Scene:
    """A thing of training in a style of training, where neither background nor motion has a name.

    Such a scene teaches no pair of thing and background or motion, and shows none that is withheld: all that
    tells the thing is its looks. Tints and several copies, which hide them, are frequent.
    """
    noun = _table()[rng.choice(_nouns_of("train"))]
    style = rng.choice([name for name in STYLES if unseen_styles().get(noun.code) != name])
    return Scene(
        noun=noun.code,
        style=style,
        motion=WANDER,
        background=NOWHERE,
        tint=_tint(rng, noun, _WANDERING_TINT_SHARE),
        count=_count(rng, noun, _WANDERING_COUNT_WEIGHTS),
        seed=rng.getrandbits(32),
    )


@cache
def _nouns_of(split: str) -> tuple[str, ...]:
    unseen = unseen_nouns()
    if split == "T4":
        return tuple(code for code in nouns() if code in unseen)
    if split == "T2":
        return tuple(unseen_styles())
    if split == "T5":
        return tuple(code for code in nouns() if code in unseen_animations())
    return tuple(code for code in nouns() if code not in unseen)


def sample_scene(rng: random.Random, split: str = "train", nouns: Sequence[str] | None = None) -> Scene:
    """A scene of the split: "train" has nothing withheld, a test split its one novelty and no other.

    Only T4, unseen nouns, may have further novelties: all that they do is new.
    nouns: codes to draw from, all of the split if None.
    Raises DataError for an unknown split, or if none of the nouns has scenes in it.
    """
    require(split in SPLITS, DataError, "unknown split {!r}; use one of {}", split, ", ".join(SPLITS))
    own = _nouns_of(split)
    codes = own if nouns is None else tuple(code for code in nouns if code in own)
    require(bool(codes), DataError, "none of the given nouns belongs to split {!r}", split)
    wanted = [] if split == "train" else [split]
    share = 1.0 if split == "T5" else _ANIMATED_SHARE
    for _ in range(_MAX_TRIES):
        scene = _draw(rng, _table()[rng.choice(codes)], share)
        if not stands_out(scene):
            continue
        found = novelties(scene)
        if found == wanted or (split == "T4" and found[:1] == wanted):
            return scene
    raise DataError(f"the given nouns have no scenes in split {split!r}; give other nouns")


def _table() -> dict[str, Noun]:
    return nouns()
