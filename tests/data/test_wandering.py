"""Wandering things: known drawings of which neither background nor motion has a name."""

import random
from collections import Counter

import numpy as np

from kinolenta.data.background import background
from kinolenta.data.captions import caption
from kinolenta.data.motion import track
from kinolenta.data.questions import all_questions, kinds_of
from kinolenta.data.render import render, scene_rng
from kinolenta.data.sampling import sample_wanderer
from kinolenta.data.scene import COLOURS, NOWHERE, STYLES, WANDER, Scene, nouns
from kinolenta.data.splits import unseen_nouns, unseen_styles
from tests.data.test_render import Marked


def wanderers(count: int) -> list[Scene]:
    rng = random.Random(0)
    return [sample_wanderer(rng) for _ in range(count)]


def test_they_are_things_of_training_in_styles_of_training() -> None:
    scenes = wanderers(8000)
    assert {scene.noun for scene in scenes} == nouns().keys() - unseen_nouns()
    assert not any(unseen_styles().get(scene.noun) == scene.style for scene in scenes)
    assert {scene.style for scene in scenes} == set(STYLES)
    assert {(scene.motion, scene.background, scene.speed) for scene in scenes} == {(WANDER, NOWHERE, None)}
    counts = Counter(scene.count for scene in scenes)
    assert counts[1] > counts[2] > counts[3] > 1000
    assert 0.3 < np.mean([scene.tint is not None for scene in scenes]) < 0.7


def test_only_the_thing_is_said_and_asked_about() -> None:
    rng = random.Random(1)
    for scene in wanderers(300):
        assert {"what"} <= set(kinds_of(scene)) <= {"what", "count", "colour"}
        assert {one.kind for one in all_questions(scene, rng, 2)} == set(kinds_of(scene))
    cat = next(code for code, noun in nouns().items() if noun.name == "кошка")
    scene = Scene(noun=cat, style="noto", motion=WANDER, background=NOWHERE, tint="black", count=2)
    assert "две черные кошки" in {caption(scene, rng) for _ in range(20)}


def test_their_backgrounds_are_none_of_the_named_ones() -> None:
    for seed in range(60):
        image = background(NOWHERE, np.random.default_rng(seed), 32)
        assert image.shape == (32, 32, 3) and image.min() >= 0 and image.max() <= 255
        if np.ptp(image, axis=(0, 1)).max() == 0:  # one colour
            assert min(np.linalg.norm(image[0, 0] - np.asarray(rgb)) for rgb in COLOURS.values()) > 50
        again = background(NOWHERE, np.random.default_rng(seed), 32)
        assert np.array_equal(image, again)


def test_they_move_in_every_way_at_once_and_their_clip_is_a_function_of_the_scene() -> None:
    for scene in wanderers(40):
        path = track(scene, nouns()[scene.noun], scene_rng(scene), aspect=(1.0, 0.8), num_frames=17)
        for values, least in ((path.x, 0.04), (path.y, 0.04), (path.scale, 0.01), (path.angle, 4.0)):
            assert np.ptp(values) > least
        assert (path.opacity == 1).all() and path.scale.min() > 0.15
    clip = render(scene, Marked(), size=32)
    assert clip.shape == (17, 32, 32, 3) and np.array_equal(clip, render(scene, Marked(), size=32))
    assert not np.array_equal(clip[0], clip[8])
