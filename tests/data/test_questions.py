"""Questions about scenes: agreement on chosen cases, and an answer to every question that is asked."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from kinolenta.data.questions import KINDS, Question, all_questions, kinds_of, question
from kinolenta.data.sampling import sample_scene
from kinolenta.data.scene import Scene, nouns
from kinolenta.errors import DataError

CODES = {noun.name: noun.code for noun in nouns().values()}
CAT = Scene(noun=CODES["кошка"], style="noto", motion="right", background="grass", tint="orange")
BALL = Scene(noun=CODES["футбольный мяч"], style="noto", motion="rotate_cw", background="red")


def asked(scene: Scene, kind: str, held: bool = False) -> set[Question]:
    rng = random.Random(0)
    return {question(scene, rng, kind, held=held) for _ in range(100)}


@pytest.mark.parametrize(
    ("scene", "kind", "text", "answer"),
    [
        (CAT, "what", "кто это?", "кошка"),
        (CAT, "motion", "что делает кошка?", "бежит вправо"),
        (CAT, "where to", "куда движется кошка?", "вправо"),
        (CAT, "background", "какой фон?", "трава"),
        (CAT, "count", "сколько кошек?", "одна"),
        (CAT, "colour", "какого цвета кошка?", "рыжая"),
        (replace(CAT, count=2), "what", "кто на видео?", "две кошки"),
        (replace(CAT, count=2), "motion", "что делают две кошки?", "бегут вправо"),
        (replace(CAT, count=3), "count", "сколько здесь кошек?", "три"),
        (BALL, "what", "что это?", "футбольный мяч"),
        (BALL, "where to", "в какую сторону вращается футбольный мяч?", "по часовой стрелке"),
        (BALL, "motion", "что делает футбольный мяч?", "вращается по часовой стрелке"),
        (BALL, "background", "какого цвета фон?", "красный"),
        (replace(BALL, count=2), "count", "сколько футбольных мячей?", "два"),
        (replace(BALL, motion="grow"), "motion", "что происходит?", "становится больше"),
    ],
)
def test_questions_and_answers_agree(scene: Scene, kind: str, text: str, answer: str) -> None:
    assert Question(kind, text, answer) in asked(scene, kind)


def test_only_what_can_be_answered_is_asked() -> None:
    assert kinds_of(CAT) == KINDS
    assert "colour" not in kinds_of(replace(CAT, tint=None))
    assert "colour" not in kinds_of(replace(CAT, count=2))
    assert "where to" not in kinds_of(replace(CAT, motion="bounce"))
    with pytest.raises(DataError, match="no answer to 'colour'; ask one of what, motion"):
        question(BALL, random.Random(0), "colour")


def test_all_questions_are_of_every_kind_in_some_wordings_and_none_twice() -> None:
    found = all_questions(CAT, random.Random(3), 4)
    assert found == all_questions(CAT, random.Random(3), 4) and len(found) == len(set(found))
    counts = Counter(one.kind for one in found)
    assert counts.keys() == set(KINDS) and max(counts.values()) <= 4 and len(found) > 2 * len(KINDS)
    assert {one.kind for one in all_questions(BALL, random.Random(3), 1)} == set(kinds_of(BALL))


def test_every_scene_has_well_formed_questions_and_training_never_says_a_held_one() -> None:
    rng = random.Random(1)
    seen: dict[bool, set[str]] = {False: set(), True: set()}
    kinds = set()
    for _ in range(400):
        scene = sample_scene(rng)
        for held in (False, True):
            found = question(scene, rng, held=held)
            kinds.add(found.kind)
            seen[held].add(found.text)
            assert found.text.endswith("?") and "{" not in found.text and "  " not in found.text
            assert found.answer and found.answer == found.answer.strip() and "  " not in found.answer
    assert kinds == set(KINDS)
    assert not seen[False] & seen[True] and len(seen[False]) > 100
