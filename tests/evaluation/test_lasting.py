"""A thing is kept if it is there as it should be, and not if it is another, gone, or everywhere."""

import numpy as np
import pytest

from kinolenta.data.render import backdrop, render
from kinolenta.data.scene import Scene
from kinolenta.errors import ShapeError
from kinolenta.evaluation.lasting import acts, foreground, kept, thing
from tests.data.test_render import Marked, _noun

SCENES = [
    Scene(noun=_noun(habitat="any", faces="none"), style="noto", motion=motion, background=background)
    for motion in ("right", "still", "rotate_cw", "vanish", "grow")
    for background in ("white", "grass", "night")
]


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: f"{scene.motion}-{scene.background}")
def test_a_real_continuation_keeps_its_thing(scene: Scene) -> None:
    clip = render(scene, Marked(), num_frames=65)
    noisy = np.clip(clip + np.random.default_rng(0).normal(0, 8, clip.shape), 0, 255).astype(np.uint8)
    for found, wanted in zip(acts(noisy), acts(clip), strict=True):
        assert kept(thing(found, scene), thing(wanted, scene))


@pytest.mark.parametrize("background", ["white", "grass", "night"])
def test_another_thing_none_or_too_much_of_it_is_not_kept(background: str) -> None:
    scene = SCENES[3 + ["white", "grass", "night"].index(background)]
    clip = render(scene, Marked())
    wanted, behind = thing(clip, scene), backdrop(scene)
    empty = np.repeat(behind[None].astype(np.uint8), 17, axis=0)
    assert wanted.share > 0.2 and not kept(thing(empty, scene), wanted)
    mask = foreground(clip, behind)
    other, all_over = clip.copy(), clip.copy()
    other[mask] = (250, 120, 0)
    all_over[:] = (150, 60, 150)
    assert not kept(thing(other, scene), wanted)
    assert not kept(thing(all_over, scene), wanted)
    small = empty.copy()
    small[:, 20:26, 20:26] = clip[mask].mean(0)
    assert not kept(thing(small, scene), wanted)


def test_what_has_gone_must_stay_gone() -> None:
    scene = next(scene for scene in SCENES if scene.motion == "vanish")
    last = acts(render(scene, Marked(), num_frames=33))[1]
    there = render(Scene(**{**scene.__dict__, "motion": "still"}), Marked())
    assert kept(thing(last, scene), thing(last, scene)) and not kept(thing(there, scene), thing(last, scene))


@pytest.mark.parametrize("count", [1, 16, 18, 34])
def test_acts_are_whole(count: int) -> None:
    with pytest.raises(ShapeError, match=f"clip has {count} frames"):
        acts(np.zeros((count, 8, 8, 3), np.uint8))
    assert [len(act) for act in acts(np.zeros((49, 8, 8, 3), np.uint8))] == [17, 17, 17]
