"""What one clip of the demo world shows, said in a few words: the contract of renderer, captions, splits and
judge.

A ``Scene`` holds everything a caption may mention; ``seed`` decides all that it does not (place, size,
phase).
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

STYLES = ("fluent-3d", "fluent-flat", "noto", "twemoji")
MOTIONS = (
    "left",
    "right",
    "up",
    "down",
    "rotate_cw",
    "rotate_ccw",
    "grow",
    "shrink",
    "bounce",
    "swing",
    "appear",
    "vanish",
    "still",
)
COLOURS = {  # plain backgrounds and tints: name -> RGB
    "white": (255, 255, 255),
    "black": (20, 20, 20),
    "grey": (128, 128, 128),
    "red": (214, 48, 49),
    "orange": (240, 140, 30),
    "yellow": (250, 215, 60),
    "green": (60, 170, 75),
    "cyan": (120, 205, 245),
    "blue": (45, 85, 210),
    "purple": (130, 65, 180),
    "pink": (250, 150, 190),
    "brown": (125, 80, 45),
}
PLACES = ("grass", "sand", "snow", "sky", "night", "sea")
BACKGROUNDS = (*COLOURS, *PLACES)
GROUND_PLACES = ("grass", "sand", "snow")
TINTS = (
    "white",
    "black",
    "grey",
    "red",
    "orange",
    "yellow",
    "green",
    "cyan",
    "blue",
    "purple",
    "pink",
    "brown",
)
SPEEDS = ("slow", "fast")
IN_PLACE = "in_place"  # motion of an animated sprite that does not travel
WANDER, NOWHERE = "wander", "nowhere"  # a motion and a background that no word of the captions names


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One clip of the compositional world.

    noun: emoji code, a key of ``nouns()``; style: of STYLES, or "animated" for a really animated sprite;
    motion: of MOTIONS, IN_PLACE (animated sprites only) or WANDER; background: of BACKGROUNDS or NOWHERE;
    tint: of TINTS or None for natural colours; count: 1-3 copies; speed: of SPEEDS or None, only with left,
    right, up, down and rotations.
    """

    noun: str
    style: str
    motion: str
    background: str
    tint: str | None = None
    count: int = 1
    speed: str | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Noun:
    """A thing that can be shown.

    code: emoji code without fe0f; name: Russian nominative, singular unless plural only;
    kind: how it moves, which picks the verbs (walk, jump, crawl, fly, float, swim, ride, sail, thing, face);
    habitat: ground, air, water or any, which picks the places it may stand in;
    faces: side that the drawing looks to (left, right, none); a mirrored sprite looks the other way, and
    a drawing that bears text or has no side is never mirrored (none); tintable: other colours look right;
    animated: an animated clip exists; in_place_verb: Russian verb phrase, 3rd person singular, for the
    animation playing on the spot ("скачет", "машет крыльями"), empty if not animated; synonyms: other
    nominatives.
    """

    code: str
    name: str
    kind: str
    habitat: str
    faces: str
    tintable: bool
    animated: bool
    in_place_verb: str
    synonyms: tuple[str, ...]


@cache
def nouns() -> dict[str, Noun]:
    """The nouns of the world by emoji code, in the order of ``nouns.tsv``."""
    text = resources.files("kinolenta.data").joinpath("nouns.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    table = {}
    for row in rows:
        table[row["code"]] = Noun(
            code=row["code"],
            name=row["name"],
            kind=row["kind"],
            habitat=row["habitat"],
            faces=row["faces"],
            tintable=row["tintable"] == "1",
            animated=row["animated"] == "1",
            in_place_verb=row["in_place_verb"],
            synonyms=tuple(word for word in row["synonyms"].split("|") if word),
        )
    return table
