"""Clips longer than an act: they begin as short ones do, go on at their pace, nothing jumps in sight."""

import numpy as np
import pytest

from kinolenta.data.motion import ACT_FRAMES, Track, track
from kinolenta.data.render import render, scene_rng
from kinolenta.data.scene import IN_PLACE, MOTIONS, Scene, nouns
from tests.data.test_render import Marked, _noun

LONG = 8 * ACT_FRAMES


def path_of(motion: str, *, speed: str | None = None, seed: int = 0, num_frames: int = LONG) -> Track:
    code = _noun(habitat="any", faces="none")
    scene = Scene(noun=code, style="noto", motion=motion, background="white", speed=speed, seed=seed)
    return track(scene, nouns()[code], scene_rng(scene), aspect=(0.9, 1.0), num_frames=num_frames)


@pytest.mark.parametrize("motion", [*MOTIONS, IN_PLACE])
@pytest.mark.parametrize("speed", [None, "slow", "fast"])
def test_a_long_clip_begins_as_the_short_one_does(motion: str, speed: str | None) -> None:
    for seed in range(5):
        long, short = (
            path_of(motion, speed=speed, seed=seed),
            path_of(motion, speed=speed, seed=seed, num_frames=17),
        )
        for name in ("x", "y", "scale", "angle", "opacity"):
            assert np.array_equal(getattr(long, name)[:17], getattr(short, name))


@pytest.mark.parametrize("motion", ["left", "right", "up", "down"])
@pytest.mark.parametrize("speed", [None, "slow", "fast"])
def test_travellers_leave_on_one_side_and_come_back_on_the_other(motion: str, speed: str | None) -> None:
    path = path_of(motion, speed=speed)
    place = path.x if motion in ("left", "right") else path.y
    sense = 1 if motion in ("right", "down") else -1
    steps = sense * np.diff(place)
    extent = (0.9 if motion in ("left", "right") else 1.0) * path.scale[0] / 2
    jumps = np.flatnonzero(steps < 0)
    assert 0 < len(jumps) < 20
    for jump in jumps:  # out of sight before it and after it
        for centre in (place[jump], place[jump + 1]):
            gap = np.abs(steps).min() + 1e-9
            assert centre + extent <= 2 * gap or centre - extent >= 1 - 2 * gap
    later = np.delete(steps, jumps)[ACT_FRAMES:]
    assert np.allclose(later, later[0]) and later[0] > 0


def test_turns_and_swings_go_on_and_what_is_done_stays_done() -> None:
    assert (np.diff(path_of("rotate_cw").angle) > 0).all() and (
        np.diff(path_of("rotate_ccw").angle) < 0
    ).all()
    assert np.allclose(path_of("swing").angle[16:33], path_of("swing").angle[:17], atol=1e-9)
    assert np.allclose(path_of("bounce").y[16:33], path_of("bounce").y[:17], atol=1e-9)
    for motion, name in (
        ("grow", "scale"),
        ("shrink", "scale"),
        ("appear", "opacity"),
        ("vanish", "opacity"),
    ):
        values = getattr(path_of(motion), name)
        assert (values[16:] == values[16]).all() and values[0] != values[16]


def test_an_animation_goes_on_in_its_loop() -> None:
    scene = Scene(
        noun=_noun(habitat="any", faces="none"), style="animated", motion=IN_PLACE, background="white"
    )
    clip = render(scene, Marked(), num_frames=33)
    assert np.array_equal(clip[:17], render(scene, Marked()))
    assert np.array_equal(clip[11:22], clip[:11]) and not np.array_equal(clip[17], clip[18])
