"""What a rendered clip shows is what its scene says; measured on the pixels, with sprites made here."""

import numpy as np
import pytest

from kinolenta.data import background as backdrop
from kinolenta.data.motion import stands, track
from kinolenta.data.render import render, scene_rng
from kinolenta.data.scene import BACKGROUNDS, COLOURS, IN_PLACE, MOTIONS, PLACES, Scene, nouns
from kinolenta.errors import DataError, ShapeError

SPRITE = 96


class Marked:
    """A magenta square with a bright green mark in one corner; in the animation the mark wanders."""

    def __init__(self, corner: str = "top left", animated: bool = True) -> None:
        self.corner, self.animated = corner, animated

    def sprite(self, code: str, style: str) -> np.ndarray:
        drawing = np.full((SPRITE, SPRITE, 4), (200, 0, 200, 255), np.uint8)
        rows = slice(0, 40) if "top" in self.corner else slice(56, 96)
        columns = slice(0, 40) if "left" in self.corner else slice(56, 96)
        drawing[rows, columns, :3] = (0, 255, 0)
        return drawing

    def animation(self, code: str) -> np.ndarray | None:
        if not self.animated:
            return None
        frames = np.full((11, SPRITE, SPRITE, 4), (200, 0, 200, 255), np.uint8)
        for i, frame in enumerate(frames):
            frame[:40, 5 * i : 5 * i + 40, :3] = (0, 255, 0)
        return frames


def _noun(**wanted: str) -> str:
    for code, noun in nouns().items():
        if all(getattr(noun, key) == value for key, value in wanted.items()):
            return code
    raise AssertionError(f"no noun with {wanted}")


def _scene(motion: str, background: str = "white", noun: str | None = None, **more: object) -> Scene:
    code = noun or _noun(habitat="any", faces="none")
    return Scene(noun=code, style="noto", motion=motion, background=background, **more)  # type: ignore[arg-type]


def _mask(clip: np.ndarray) -> np.ndarray:
    """Pixels that belong to the marked square, which is far from white, in either of its colours."""
    frames = clip.astype(int)
    return frames.max(axis=-1) - frames.min(axis=-1) > 60


def _square(clip: np.ndarray) -> np.ndarray:
    """The marked square before a place: magenta or its green, neither of which a meadow holds."""
    frames = clip.astype(int)
    magenta = np.minimum(frames[..., 0], frames[..., 2]) - frames[..., 1] > 60
    green = (frames[..., 1] > 225) & (frames[..., 0] < 60) & (frames[..., 2] < 60)
    return magenta | green


def _centre(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return columns.mean() / mask.shape[1], rows.mean() / mask.shape[0]


def _mark(frame: np.ndarray) -> tuple[float, float]:
    """Where the green mark is relative to the whole square; y grows downwards."""
    green = (frame[..., 1] > 180) & (frame[..., 0] < 90)
    whole_x, whole_y = _centre(_mask(frame))
    mark_x, mark_y = _centre(green)
    return mark_x - whole_x, mark_y - whole_y


def test_a_clip_is_a_function_of_its_scene() -> None:
    scene = _scene("left", "grass", seed=3)
    again = render(scene, Marked())
    assert np.array_equal(render(scene, Marked()), again)
    assert not np.array_equal(render(_scene("left", "grass", seed=4), Marked()), again)


def test_the_generator_is_the_same_on_every_machine() -> None:
    scene = Scene(noun="1f408", style="noto", motion="left", background="grass", seed=7)
    assert scene_rng(scene).integers(1 << 30, size=3).tolist() == [230166650, 579996590, 101841015]


@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("background", BACKGROUNDS)
def test_every_background_has_its_own_look(background: str, size: int) -> None:
    clip = render(_scene("appear", background), Marked(), size=size, num_frames=3)
    assert clip.shape == (3, size, size, 3) and clip.dtype == np.uint8
    empty = clip[0].astype(float)
    if background in COLOURS:
        assert np.abs(empty - COLOURS[background]).max() <= 5
    for other in PLACES:
        if other != background:
            distances = [np.abs(backdrop.place(other, v, size) - empty).mean() for v in range(4)]
            assert min(distances) > 6


@pytest.mark.parametrize("speed", [None, "slow", "fast"])
@pytest.mark.parametrize(
    ("motion", "dx", "dy"), [("left", -1, 0), ("right", 1, 0), ("up", 0, -1), ("down", 0, 1)]
)
@pytest.mark.parametrize("background", ["white", "grass"])
def test_travel_goes_where_it_says(motion: str, dx: int, dy: int, speed: str | None, background: str) -> None:
    wanted = {None: 0.25, "slow": 0.15, "fast": 0.4}[speed]
    for seed in range(4):
        clip = render(_scene(motion, background, seed=seed, speed=speed), Marked())
        mask = _mask(clip) if background == "white" else _square(clip)
        (x0, y0), (x1, y1) = _centre(mask[1]), _centre(mask[-2])
        along, across = (x1 - x0) * dx + (y1 - y0) * dy, abs((x1 - x0) * dy) + abs((y1 - y0) * dx)
        assert along > wanted and across < 0.05


@pytest.mark.parametrize("motion", ["left", "up", "down"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_standing_groups_stay_in_view_on_the_way(motion: str, count: int) -> None:
    noun = nouns()[_noun(habitat="ground")]
    for seed in range(6):
        scene = _scene(motion, "snow", noun=noun.code, seed=seed, count=count)
        path = track(scene, noun, scene_rng(scene), aspect=(0.9, 1.0), num_frames=17)
        rows = np.array([dy for _, dy in path.offsets])
        assert (path.y[:, None] + rows > 0.15).all() and (path.y < 0.8).all()
        assert np.hypot(np.ptp(path.x), np.ptp(path.y)) > 0.3


def test_slow_is_slower_and_fast_is_faster() -> None:
    way = {}
    for speed in ("slow", None, "fast"):
        mask = _mask(render(_scene("right", speed=speed), Marked()))
        way[speed] = _centre(mask[9])[0] - _centre(mask[7])[0]
    assert 0 < 1.5 * way["slow"] < way[None] < way["fast"] / 1.5


@pytest.mark.parametrize(("motion", "sense"), [("rotate_cw", 1), ("rotate_ccw", -1)])
@pytest.mark.parametrize(
    ("speed", "least", "most"), [(None, 270, 370), ("slow", 110, 200), ("fast", 500, 560)]
)
def test_rotation_turns_as_seen_on_the_screen(
    motion: str, sense: int, speed: str | None, least: float, most: float
) -> None:
    clip = render(_scene(motion, speed=speed, seed=2), Marked())
    marks = np.array([_mark(frame) for frame in clip])
    # With y downwards, atan2(y, x) grows clockwise.
    angles = np.unwrap(np.arctan2(marks[:, 1], marks[:, 0]))
    assert least < sense * np.rad2deg(angles[-1] - angles[0]) < most


def test_grow_and_shrink_change_the_area_all_the_time() -> None:
    grown = _mask(render(_scene("grow"), Marked())).sum(axis=(1, 2))
    assert (np.diff(grown) > 0).all() and grown[-1] > 7 * grown[0]
    shrunk = _mask(render(_scene("shrink"), Marked())).sum(axis=(1, 2))
    assert (np.diff(shrunk) < 0).all() and shrunk[0] > 7 * shrunk[-1]


def test_appear_starts_empty_and_vanish_ends_empty() -> None:
    appearing, vanishing = (render(_scene(motion, "red"), Marked()) for motion in ("appear", "vanish"))
    assert (appearing[0] == appearing[0, 0, 0]).all() and (vanishing[-1] == vanishing[-1, 0, 0]).all()
    assert not (appearing[-1] == appearing[-1, 0, 0]).all()
    assert np.array_equal(appearing[-1], appearing[-3])
    assert np.array_equal(vanishing[0], vanishing[2])


def test_bounce_and_swing_come_back_and_still_stays() -> None:
    height = [_centre(mask)[1] for mask in _mask(render(_scene("bounce"), Marked()))]
    assert height[0] - min(height) > 0.2 and abs(height[0] - height[-1]) < 0.02
    sway = [_centre(mask)[0] for mask in _mask(render(_scene("swing"), Marked()))]
    assert max(sway) - min(sway) > 0.15 and abs(sway[0] - sway[-1]) < 0.02
    turns = np.flatnonzero(np.diff(np.sign(np.asarray(sway[1:-1]) - sway[0])))
    assert len(turns) >= 3  # two periods
    still = render(_scene("still"), Marked())
    assert (still == still[0]).all()


@pytest.mark.parametrize(
    ("faces", "motion", "flips"),
    [("left", "left", 0), ("left", "right", 1), ("right", "right", 0), ("right", "left", 1),
     ("none", "left", 0), ("none", "right", 0)],
)  # fmt: skip
def test_it_looks_where_it_goes(faces: str, motion: str, flips: int) -> None:
    clip = render(_scene(motion, noun=_noun(faces=faces)), Marked("top left"))
    x, _ = _mark(clip[8])
    assert x > 0.03 if flips else x < -0.03


def test_what_stays_looks_either_way_unless_it_has_no_side() -> None:
    sides = {
        faces: {
            _mark(render(_scene("still", noun=_noun(faces=faces), seed=seed), Marked(), num_frames=1)[0])[0]
            > 0
            for seed in range(12)
        }
        for faces in ("left", "none")
    }
    assert sides == {"left": {True, False}, "none": {False}}


@pytest.mark.parametrize("background", ["grass", "sand", "snow", "sea"])
@pytest.mark.parametrize("motion", ["left", "grow", "still", "appear", IN_PLACE])
def test_feet_are_below_the_horizon(background: str, motion: str) -> None:
    lowest = max(backdrop.horizon(background, variant) or 0 for variant in range(backdrop.VARIANTS))
    noun = nouns()[_noun(habitat="water" if background == "sea" else "ground")]
    assert stands(noun, background)
    for seed in range(6):
        for count in (1, 2, 3):
            scene = _scene(motion, background, noun=noun.code, seed=seed, count=count)
            path = track(scene, noun, scene_rng(scene), aspect=(1.0, 0.9), num_frames=17)
            feet = path.y + 0.9 * path.scale / 2
            assert np.ptp(feet) < 1e-9
            for _, dy in path.offsets:
                assert lowest < feet[0] + dy < 0.96


def test_what_flies_keeps_clear_of_the_ground() -> None:
    noun = nouns()[_noun(habitat="air")]
    for seed in range(8):
        scene = _scene("left", "grass", noun=noun.code, seed=seed)
        path = track(scene, noun, scene_rng(scene), aspect=(1.0, 0.8), num_frames=17)
        assert (path.y < 0.45).all() and (path.y - 0.4 * path.scale >= 0).all()


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("count", [2, 3])
def test_copies_are_counted_and_apart(motion: str, count: int) -> None:
    noun = nouns()[_noun(habitat="any", faces="none")]
    for seed in range(5):
        scene = _scene(motion, count=count, seed=seed)
        path = track(scene, noun, scene_rng(scene), aspect=(1.0, 0.95), num_frames=17)
        assert len(path.offsets) == count
        gap = (
            1.2 if motion.startswith("rotate") else 1.04
        )  # of the side; a drawing that turns needs more room
        for i, here in enumerate(path.offsets):
            for other in path.offsets[:i]:
                assert max(abs(here[0] - other[0]), abs(here[1] - other[1]) / 0.95) > path.scale.max()
                assert np.hypot(here[0] - other[0], here[1] - other[1]) > gap * path.scale.max()
    clip = render(_scene("still", "white", count=count), Marked())
    assert _pieces(_mask(clip[0])) == count


def _pieces(mask: np.ndarray) -> int:
    """Connected pieces of a mask, by letting the largest label spread."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        padded = np.pad(labels, 1)
        spread = np.max(
            [padded[1:-1, 1:-1], padded[2:, 1:-1], padded[:-2, 1:-1], padded[1:-1, 2:], padded[1:-1, :-2]], 0
        )
        spread = np.where(mask, spread, 0)
        if np.array_equal(spread, labels):
            return len(np.unique(labels[mask]))
        labels = spread


@pytest.mark.parametrize("motion", ["left", "still", "swing"])
def test_one_object_fills_half_of_the_frame(motion: str) -> None:
    mask = _mask(render(_scene(motion), Marked()))[8]
    assert 0.2 < mask.mean() < 0.7


def test_animation_plays_in_place_and_stands_still_when_told() -> None:
    code = _noun(habitat="any", faces="none")
    moving = Scene(noun=code, style="animated", motion=IN_PLACE, background="white")
    clip = render(moving, Marked())
    assert np.array_equal(clip[0], clip[11]) and not np.array_equal(clip[0], clip[3])
    assert len({tuple(np.flatnonzero(m.any(axis=0))[[0, -1]]) for m in _mask(clip)}) == 1
    frozen = render(Scene(noun=code, style="animated", motion="still", background="white"), Marked())
    assert (frozen == frozen[0]).all()


@pytest.mark.parametrize("tint", [name for name in COLOURS if name != "white"])
def test_tint_recolours_and_keeps_eyes_and_outlines(tint: str) -> None:
    class Face:
        def sprite(self, code: str, style: str) -> np.ndarray:
            drawing = np.full((SPRITE, SPRITE, 4), (120, 170, 90, 255), np.uint8)
            drawing[10:30, 10:30, :3] = 255
            drawing[60:90, 60:90, :3] = 5
            return drawing

        def animation(self, code: str) -> None:
            return None

    frame = render(_scene("still", "white", tint=tint), Face(), size=128, num_frames=1)[0].astype(int)
    rows, columns = np.nonzero(frame.min(axis=-1) < 240)
    face = frame[rows.min() : rows.max(), columns.min() : columns.max()]
    at = [int(face.shape[0] * share) for share in (0.2, 0.5, 0.78)]
    eye, cheek, outline = (face[i, i] for i in at)
    assert np.abs(cheek - COLOURS[tint]).max() < 12
    assert eye.min() > 235 and outline.max() < 45


def test_an_outline_parts_a_drawing_from_a_like_background() -> None:
    class Plain:
        def sprite(self, code: str, style: str) -> np.ndarray:
            return np.full((SPRITE, SPRITE, 4), (255, 255, 255, 255), np.uint8)

        def animation(self, code: str) -> None:
            return None

    like = render(_scene("still", "white"), Plain(), num_frames=1)[0]
    unlike = render(_scene("still", "blue"), Plain(), num_frames=1)[0]
    assert like.min() < 130
    assert unlike.min() >= 40 and unlike[32, 32].min() > 250
    assert set(unlike.reshape(-1, 3).argmax(axis=1)[unlike.reshape(-1, 3).min(axis=1) < 200]) == {2}


def test_size_changes_only_the_resolution() -> None:
    scene = _scene("rotate_cw", "sand", seed=5)
    small, large = (render(scene, Marked(), size=size).astype(float) for size in (64, 128))
    halved = large.reshape(17, 64, 2, 64, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - small).mean() < 3
    few = render(scene, Marked(), num_frames=5).astype(float)
    assert np.array_equal(few, small[:5])


def test_bad_scenes_are_refused_in_words() -> None:
    with pytest.raises(DataError, match="unknown motion 'sideways'"):
        render(_scene("sideways"), Marked())
    with pytest.raises(DataError, match="unknown background 'moon'"):
        render(_scene("left", "moon"), Marked())
    with pytest.raises(DataError, match="unknown tint 'beige'"):
        render(_scene("left", tint="beige"), Marked())
    with pytest.raises(DataError, match="unknown noun 'xyz'"):
        render(_scene("left", noun="xyz"), Marked())
    with pytest.raises(DataError, match="unknown speed 'warp'"):
        render(_scene("rotate_cw", speed="warp"), Marked())
    with pytest.raises(DataError, match="1 to 3"):
        render(_scene("left", count=4), Marked())
    with pytest.raises(DataError, match="no animation"):
        still = Scene(noun=_noun(faces="none"), style="animated", motion="left", background="white")
        render(still, Marked(animated=False))
    with pytest.raises(ShapeError, match="16 px"):
        render(_scene("left"), Marked(), size=8)
    with pytest.raises(ShapeError, match="at least 1 frame"):
        render(_scene("left"), Marked(), num_frames=0)
