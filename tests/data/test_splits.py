"""Splits and sampling: nothing withheld leaks into training, and scenes make sense."""

import random
from collections import Counter
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from kinolenta.data import sampling
from kinolenta.data.sampling import allowed, sample_scene, stands_out
from kinolenta.data.scene import BACKGROUNDS, COLOURS, GROUND_PLACES, IN_PLACE, MOTIONS, PLACES, Scene, nouns
from kinolenta.data.splits import (
    SPLITS,
    background_withheld,
    held_synonyms,
    motion_withheld,
    novelties,
    split_of,
    splits_table,
    unseen_animations,
    unseen_nouns,
    unseen_styles,
    write_splits,
)
from kinolenta.errors import DataError


@pytest.fixture(scope="module")
def train() -> list[Scene]:
    rng = random.Random(0)
    return [sample_scene(rng) for _ in range(20_000)]


def test_training_scenes_hold_nothing_withheld(train: list[Scene]) -> None:
    assert {split_of(scene) for scene in train} == {"train"}
    assert not any(
        motion_withheld(s.noun, s.motion) or background_withheld(s.noun, s.background) for s in train
    )
    assert not {s.noun for s in train} & unseen_nouns()
    assert not {s.noun for s in train if s.style == "animated"} & unseen_animations()
    assert not {(s.noun, s.style) for s in train} & set(unseen_styles().items())


def test_every_other_noun_is_trained_in_every_motion(train: list[Scene]) -> None:
    assert {s.noun for s in train} == set(nouns()) - unseen_nouns()
    assert {s.motion for s in train} == {*MOTIONS, IN_PLACE}
    assert {s.background for s in train} == set(BACKGROUNDS)


@pytest.mark.parametrize("split", [s for s in SPLITS if s != "train"])
def test_test_scenes_have_one_novelty(split: str) -> None:
    rng = random.Random(1)
    scenes = [sample_scene(rng, split) for _ in range(20 if split == "dev" else 100)]
    assert {split_of(scene) for scene in scenes} == {split}
    assert all(allowed(scene) for scene in scenes)
    if split != "T4":
        assert {len(novelties(scene)) for scene in scenes} == {1}


def test_t1_scenes_are_new_in_one_pair_only() -> None:
    rng = random.Random(2)
    for _ in range(300):
        scene = sample_scene(rng, "T1")
        pairs = [motion_withheld(scene.noun, scene.motion), background_withheld(scene.noun, scene.background)]
        assert sum(pairs) == 1


def test_shares_of_what_is_withheld() -> None:
    pairs = [(code, motion) for code in nouns() for motion in MOTIONS]
    assert sum(motion_withheld(*p) for p in pairs) / len(pairs) == pytest.approx(0.10, abs=0.02)
    places = [(code, background) for code in nouns() for background in BACKGROUNDS]
    assert sum(background_withheld(*p) for p in places) / len(places) == pytest.approx(0.10, abs=0.02)
    assert len(unseen_nouns()) == pytest.approx(0.1 * len(nouns()), abs=4)
    assert len(unseen_styles()) == pytest.approx(0.15 * 0.9 * len(nouns()), abs=4)
    synonyms = {word for noun in nouns().values() for word in noun.synonyms}
    assert len(held_synonyms()) == pytest.approx(0.2 * len(synonyms), abs=1)
    by_kind = Counter(nouns()[code].kind for code in unseen_nouns())
    assert by_kind["walk"] >= 3 and by_kind["thing"] >= 8 and len(by_kind) >= 8


def test_committed_splits_are_what_the_code_says(tmp_path: Path) -> None:
    text = resources.files("kinolenta.data").joinpath("splits.tsv").read_text(encoding="utf-8")
    assert text == splits_table()
    write_splits(tmp_path / "splits.tsv")
    assert (tmp_path / "splits.tsv").read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["splits.tsv"]


def test_examples_of_the_readme_are_trained() -> None:
    codes = {noun.name: noun.code for noun in nouns().values()}
    cat = Scene(noun=codes["кошка"], style="animated", motion="right", background="grass", tint="orange")
    assert "dev" not in split_of(cat) and split_of(cat) == "train"
    assert split_of(replace(cat, noun=codes["лошадь"], tint=None)) == "train"


def test_scenes_keep_the_habitat_rules(train: list[Scene]) -> None:
    for scene in train:
        noun = nouns()[scene.noun]
        if scene.background in PLACES:
            if noun.habitat == "ground":
                assert scene.background in GROUND_PLACES
            elif noun.habitat == "air":
                assert scene.background in ("sky", "night")
            elif noun.habitat == "water":
                assert scene.background == "sea"
        if scene.motion in ("up", "down"):
            assert scene.background in (*COLOURS, "sky", "night")
            if noun.habitat in ("ground", "water"):
                assert scene.background in COLOURS


def test_scenes_are_sound(train: list[Scene]) -> None:
    assert all(allowed(scene) for scene in train)
    for scene in train:
        noun = nouns()[scene.noun]
        assert scene.tint is None or (noun.tintable and scene.tint != scene.background)
        assert scene.style != "animated" or (
            noun.animated and scene.motion in ("left", "right", "up", "down", IN_PLACE)
        )
        assert scene.motion != IN_PLACE or scene.style == "animated"
        assert scene.speed is None or scene.motion in (
            "left",
            "right",
            "up",
            "down",
            "rotate_cw",
            "rotate_ccw",
        )
        assert 1 <= scene.count <= 3


def test_shares_of_training_scenes(train: list[Scene]) -> None:
    counts = Counter(scene.count for scene in train)
    assert counts[1] > 0.86 * len(train) and counts[2] > counts[3] > 0
    motions = Counter(scene.motion for scene in train)
    assert {motion for motion, _ in motions.most_common(2)} == {"left", "right"}
    moving = [s for s in train if nouns()[s.noun].animated and s.noun not in unseen_animations()]
    animated = [s for s in moving if s.style == "animated"]
    assert len(animated) / len(moving) == pytest.approx(0.35, abs=0.03)
    assert sum(s.motion == IN_PLACE for s in animated) / len(animated) == pytest.approx(0.42, abs=0.05)


def test_a_red_tomato_is_never_lost_on_red() -> None:
    codes = {noun.name: noun.code for noun in nouns().values()}
    tomato = Scene(noun=codes["помидор"], style="noto", motion="left", background="red")
    assert not stands_out(tomato) and stands_out(replace(tomato, background="white"))
    car = Scene(noun=codes["машина"], style="noto", motion="left", background="blue", tint="blue")
    assert not stands_out(car) and stands_out(replace(car, tint="white"))


def test_sampling_is_a_function_of_the_seed() -> None:
    first = [sample_scene(random.Random(i)) for i in range(30)]
    assert first == [sample_scene(random.Random(i)) for i in range(30)]
    one = sample_scene(random.Random(3))
    assert one == replace(one) and one.seed != sample_scene(random.Random(4)).seed


def test_given_nouns_are_kept_to_and_bad_requests_are_named() -> None:
    rng = random.Random(0)
    some = [code for code in nouns() if code not in unseen_nouns()][:3]
    assert {sample_scene(rng, nouns=some).noun for _ in range(100)} == set(some)
    with pytest.raises(DataError, match="unknown split 'test'"):
        sample_scene(rng, "test")
    with pytest.raises(DataError, match="none of the given nouns"):
        sample_scene(rng, nouns=sorted(unseen_nouns()))


def test_clash_table_names_known_nouns_and_colours() -> None:
    table = sampling.clashes()
    assert set(table) <= set(nouns()) and all(value <= set(COLOURS) for value in table.values())
    assert max(len(value) for value in table.values()) <= 4
