"""What is kept out of training, so that tests can ask for what was never seen.

Every choice is a hash of names, the same on any machine: nothing depends on the order of sampling. The
committed ``splits.tsv`` lists the choices for readers and for tools in other languages.

T1: pairs (noun, motion) and (noun, background) never trained. T2: some nouns lack one drawing style.
T3: wordings withheld (here the synonyms of nouns, in ``phrases`` those of verbs, places and word orders).
T4: nouns never shown. T5: animations never shown, of nouns that are known as still drawings.
dev: whole scenes, of which every part and every pair was trained.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from kinolenta.data.scene import BACKGROUNDS, IN_PLACE, MOTIONS, STYLES, Noun, Scene, nouns

SPLITS = ("train", "dev", "T1", "T2", "T4", "T5")
_SALT = "kinolenta-167"  # picked so that the examples of the README are combinations that training shows
_PAIR_SHARE, _STYLE_SHARE, _NOUN_SHARE, _ANIMATION_SHARE, _WORD_SHARE = 0.10, 0.15, 0.10, 0.10, 0.20
_DEV_SHARE = 0.02


@cache
def _draw(*parts: str) -> float:
    """A number in [0, 1) that depends on nothing but the words given."""
    digest = hashlib.sha256("|".join((_SALT, *parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def _first(codes: list[str], share: float, purpose: str) -> list[str]:
    """The given share of the codes, in the order of their hashes."""
    return sorted(codes, key=lambda code: _draw(purpose, code))[: round(share * len(codes))]


@cache
def unseen_nouns() -> frozenset[str]:
    """T4: codes of the nouns that training never shows, a tenth of every kind."""
    by_kind: dict[str, list[str]] = {}
    for code, noun in nouns().items():
        by_kind.setdefault(noun.kind, []).append(code)
    return frozenset(code for codes in by_kind.values() for code in _first(codes, _NOUN_SHARE, "T4"))


@cache
def unseen_animations() -> frozenset[str]:
    """T5: codes of nouns that training shows, but never animated."""
    moving = [code for code, noun in nouns().items() if noun.animated and code not in unseen_nouns()]
    return frozenset(_first(moving, _ANIMATION_SHARE, "T5"))


@cache
def unseen_styles() -> dict[str, str]:
    """T2: the style that is withheld, for those nouns that lack one in training."""
    seen = [code for code in nouns() if code not in unseen_nouns()]
    chosen = set(_first(seen, _STYLE_SHARE, "T2"))
    return {code: STYLES[int(len(STYLES) * _draw("T2 style", code))] for code in seen if code in chosen}


@cache
def held_synonyms() -> frozenset[str]:
    """T3: the synonyms of nouns that no training caption uses."""
    words = sorted({word for noun in nouns().values() for word in noun.synonyms})
    return frozenset(_first(words, _WORD_SHARE, "T3"))


def motion_withheld(code: str, motion: str) -> bool:
    """T1: whether training never shows this noun in this motion."""
    return motion != IN_PLACE and _draw("T1 motion", code, motion) < _PAIR_SHARE


def background_withheld(code: str, background: str) -> bool:
    """T1: whether training never shows this noun before this background."""
    return _draw("T1 background", code, background) < _PAIR_SHARE


def novelties(scene: Scene) -> list[str]:
    """All that training never shows in this scene, most telling first: some of T4, T5, T2, T1, T1, dev."""
    checks: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("T4", lambda: scene.noun in unseen_nouns()),
        ("T5", lambda: scene.style == "animated" and scene.noun in unseen_animations()),
        ("T2", lambda: unseen_styles().get(scene.noun) == scene.style),
        ("T1", lambda: motion_withheld(scene.noun, scene.motion)),
        ("T1", lambda: background_withheld(scene.noun, scene.background)),
        ("dev", lambda: _is_dev(scene)),
    )
    return [name for name, holds in checks if holds()]


def split_of(scene: Scene) -> str:
    """The split that a scene belongs to, one of SPLITS; of several novelties the first counts."""
    found = novelties(scene)
    return found[0] if found else "train"


def _is_dev(scene: Scene) -> bool:
    parts = (scene.noun, scene.style, scene.motion, scene.background, str(scene.tint), str(scene.count))
    # Not cached: there are millions of scenes.
    digest = hashlib.sha256("|".join((_SALT, "dev", *parts)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56 < _DEV_SHARE


def _rows() -> Iterator[tuple[str, Noun, str, str]]:
    for code, noun in nouns().items():
        if code in unseen_nouns():
            yield "T4", noun, "noun", noun.name
            continue
        for motion in MOTIONS:
            if motion_withheld(code, motion):
                yield "T1", noun, "motion", motion
        for background in BACKGROUNDS:
            if background_withheld(code, background):
                yield "T1", noun, "background", background
        if code in unseen_styles():
            yield "T2", noun, "style", unseen_styles()[code]
        for word in noun.synonyms:
            if word in held_synonyms():
                yield "T3", noun, "synonym", word
        if code in unseen_animations():
            yield "T5", noun, "animation", "animated"


def splits_table() -> str:
    """The text of ``splits.tsv``: split, code, noun, what is withheld and its value."""
    lines = ["split\tcode\tnoun\twithheld\tvalue"]
    lines += [f"{split}\t{noun.code}\t{noun.name}\t{what}\t{value}" for split, noun, what, value in _rows()]
    return "\n".join(lines) + "\n"


def write_splits(path: str | os.PathLike[str]) -> None:
    """Writes ``splits_table()`` to a file, whole or not at all."""
    target = Path(path)
    temporary = target.with_name(target.name + ".part")
    temporary.write_text(splits_table(), encoding="utf-8")
    os.replace(temporary, target)
