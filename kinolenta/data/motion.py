"""How the object of a scene moves: centre, size, angle and opacity for each frame.

The one place that knows what a motion word looks like. All lengths are fractions of the frame's side, x grows
to the right and y downwards, so that one track serves every frame size. A motion takes ACT_FRAMES frames; in
longer clips it goes on: what travels comes back from the other side, what turns, jumps or swings keeps doing
so, and what has grown, shrunk, appeared or gone stays as it is.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kinolenta.data.scene import GROUND_PLACES, IN_PLACE, MOTIONS, PLACES, SPEEDS, WANDER
from kinolenta.errors import DataError, require

if TYPE_CHECKING:
    from jaxtyping import Float

    from kinolenta.data.scene import Noun, Scene

ACT_FRAMES = 17
TRAVELS = ("left", "right", "up", "down")
ROW = ("up", "down", "bounce")  # three stand in a row: a triangle would leave no height to move in
ROW_STEP = 0.33
FRAME_MARGIN = 0.01
GAP = 0.04  # between copies: more than two pixels of the smallest frames, so that they can be counted


@dataclass(frozen=True, kw_only=True)
class Track:
    """Where one drawing is in each frame.

    x, y: centre of the drawing; scale: its longer side; angle: degrees, clockwise on the screen;
    opacity: 0 is invisible. Offsets: shift of every copy from (x, y).
    """

    x: "Float[np.ndarray, ' n']"
    y: "Float[np.ndarray, ' n']"
    scale: "Float[np.ndarray, ' n']"
    angle: "Float[np.ndarray, ' n']"
    opacity: "Float[np.ndarray, ' n']"
    offsets: tuple[tuple[float, float], ...] = ((0.0, 0.0),)


def stands(noun: "Noun", background: str) -> bool:
    """Whether the drawing rests on the ground or the water instead of floating in the frame."""
    if background in GROUND_PLACES:
        return noun.habitat in ("ground", "any", "water")
    return background == "sea" and noun.habitat != "air"


def mirrored(scene: "Scene", noun: "Noun", rng: np.random.Generator) -> bool:
    """Whether to flip the drawing: so that it looks where it goes; by coin where it goes nowhere."""
    coin = bool(rng.integers(2))  # drawn always, so that later draws do not depend on the noun
    if noun.faces == "none":
        return False
    if scene.motion in ("left", "right"):
        return noun.faces != scene.motion
    return coin


def track(
    scene: "Scene", noun: "Noun", rng: np.random.Generator, *, aspect: tuple[float, float], num_frames: int
) -> Track:
    """The track of a scene; ``aspect`` is (width, height) of the drawing, the longer one being 1.

    Raises DataError for a motion, speed or count that is not in the vocabulary.
    """
    known = (*MOTIONS, IN_PLACE, WANDER)
    require(
        scene.motion in known, DataError, "unknown motion {!r}; use one of {}", scene.motion, ", ".join(known)
    )
    require(1 <= scene.count <= 3, DataError, "count is {}; a scene holds 1 to 3 objects", scene.count)
    speeds = (None, *SPEEDS)
    require(scene.speed in speeds, DataError, "unknown speed {!r}; use one of {}", scene.speed, speeds)
    wide, tall = aspect
    time = np.arange(num_frames) / (ACT_FRAMES - 1)
    draw = rng.random(6)  # side, place across, height, amplitude, sense, cycles: always as many
    side = _side(scene, draw[0], wide)
    offsets, back = _formation(scene, side, wide, tall)
    group_wide = wide * side + 2 * max(abs(dx) for dx, _ in offsets)
    group_tall = tall * side + back

    on_ground = stands(noun, scene.background)
    contact = 0.78 + 0.14 * draw[2]
    if back or scene.motion in ("up", "down"):  # the back row must stand too, the way up must be long
        contact = 0.92 + 0.03 * draw[2]
    centre_x = 0.5 + _room(group_wide, 0.1) * (2 * draw[1] - 1)
    if on_ground:
        centre_y = contact - tall * side / 2
    else:
        centre_y = _float_height(scene, noun, draw[2], group_tall) + back / 2
    x = np.full(num_frames, centre_x)
    y = np.full(num_frames, centre_y)
    scale = np.full(num_frames, side)
    angle = np.zeros(num_frames)
    opacity = np.ones(num_frames)
    once = np.minimum(time, 1.0)
    act = 0.75 * once + 0.25 * once * once * (3 - 2 * once)
    eased = act + 0.75 * (time - once)  # goes on as fast as the act ends

    if scene.motion in TRAVELS:
        reach = _reach(scene, draw[3])
        along = reach * (1 - 2 * eased)
        if scene.motion == "right":
            x = 0.5 - along
        elif scene.motion == "left":
            x = 0.5 + along
        else:
            middle = 0.5
            if on_ground and scene.speed != "fast":  # between standing and the top of the frame
                middle = (centre_y + max(0.2, centre_y - 2 * reach)) / 2
                along *= (centre_y - middle) / reach
            y = middle + along if scene.motion == "up" else middle - along
        x, y = _around(x, group_wide), _around(y, group_tall)
    elif scene.motion in ("rotate_cw", "rotate_ccw"):
        turn = {None: 290 + 70 * draw[3], "slow": 130 + 50 * draw[3], "fast": 540.0}[scene.speed]
        angle = turn * eased * (1 if scene.motion == "rotate_cw" else -1)
    elif scene.motion in ("grow", "shrink"):
        smallest = 0.3 * side
        grown = act if scene.motion == "grow" else 1 - act
        scale = smallest + (side - smallest) * grown
        if on_ground:  # the feet stay where they are
            y = contact - tall * scale / 2
    elif scene.motion == "bounce":
        jumps = 2 + int(draw[5] < 0.5)
        room = max(0.22, min(0.3, centre_y - tall * side / 2))
        height = min(0.22 + 0.08 * draw[3], room)
        rest = centre_y if on_ground else 0.5 + height / 2
        y = rest - height * np.abs(np.sin(np.pi * jumps * time))
    elif scene.motion == "swing":
        sense = 1 if draw[4] < 0.5 else -1
        if on_ground:  # rocks on its feet
            angle = sense * (17 + 6 * draw[3]) * np.sin(4 * np.pi * time)
            x, y = _about(x, y, angle, tall * side / 2)
        else:  # hangs by its top
            angle = sense * (26 + 9 * draw[3]) * np.sin(4 * np.pi * time)
            x, y = _about(x, y, angle, -tall * side / 2)
    elif scene.motion in ("appear", "vanish"):
        shown = time if scene.motion == "appear" else 1 - time
        opacity = np.clip(shown / 0.7, 0.0, 1.0)
    elif scene.motion == WANDER:  # all at once, each with a rhythm of its own, so that no word fits
        sines = np.sin(2 * np.pi * (rng.uniform(0.6, 1.7, 4)[:, None] * time + rng.random(4)[:, None]))
        far = rng.uniform(0.5, 1.0, 4) * (0.16, 0.16, 0.35, 28.0)
        x, y = 0.5 + far[0] * sines[0], 0.5 + back / 2 + far[1] * sines[1]
        scale = side * (1 - far[2] * (1 + sines[2]) / 2)
        angle = far[3] * sines[3]

    return Track(x=x, y=y, scale=scale, angle=angle, opacity=opacity, offsets=offsets)


def _side(scene: "Scene", share: float, wide: float) -> float:
    """Longer side of the drawing at its largest: half of the frame and more, so that its shape shows."""
    if scene.count > 1:
        if scene.count == 3 and scene.motion in ROW:
            return min(0.36 + 0.04 * share, (ROW_STEP - GAP / 2) / wide)
        smallest = 0.33 if scene.motion in ("rotate_cw", "rotate_ccw") else 0.36
        return smallest + (0.06 if scene.count == 2 else 0.04) * share
    if scene.motion in ("grow", "shrink"):
        return 0.8 + 0.08 * share
    if scene.motion in (*TRAVELS, "bounce", "swing"):
        return 0.5 + 0.12 * share
    if scene.motion in ("rotate_cw", "rotate_ccw"):
        return 0.55 + 0.15 * share
    return 0.58 + 0.2 * share


def _formation(
    scene: "Scene", side: float, wide: float, tall: float
) -> tuple[tuple[tuple[float, float], ...], float]:
    """Offsets of the copies, which never overlap, and the height of the back row over the front one.

    Two stand side by side; three in a triangle with one behind, or in a row where they go up or down.
    """
    if scene.count == 1:
        return ((0.0, 0.0),), 0.0
    step, back = side * wide + GAP, side * tall + GAP
    if scene.motion in ("rotate_cw", "rotate_ccw"):  # room for corners that pass each other
        step = 1.25 * side + GAP
        back = 0.87 * step  # three stand equally far apart
    elif scene.motion in ("swing", WANDER):
        step = 1.22 * side * wide + GAP
    if scene.count == 2:
        return ((-step / 2, 0.0), (step / 2, 0.0)), 0.0
    if scene.motion in ROW:
        step = min(step, ROW_STEP)
        return ((-step, 0.0), (0.0, 0.0), (step, 0.0)), 0.0
    return ((0.0, -back), (-step / 2, 0.0), (step / 2, 0.0)), back


def _room(extent: float, wish: float) -> float:
    """How far from the middle something of this extent may stand without leaving the frame."""
    return max(0.0, min(wish, 0.5 - FRAME_MARGIN - extent / 2))


def _float_height(scene: "Scene", noun: "Noun", share: float, extent: float) -> float:
    """Height of the centre of what floats: the middle, or the upper half above a ground."""
    low, high = 0.46, 0.54
    if scene.background in PLACES and noun.habitat == "air":
        low, high = (0.3, 0.42) if scene.background in (*GROUND_PLACES, "sea") else (0.4, 0.52)
    middle = low + (high - low) * share
    return max(middle, min(0.5, extent / 2 + FRAME_MARGIN))


def _reach(scene: "Scene", share: float) -> float:
    """Half of the way that a travelling group goes."""
    if scene.speed == "slow":
        return 0.12 + 0.02 * share
    if scene.speed == "fast":
        return 0.6
    return (0.26 if scene.count == 1 else 0.2) + 0.05 * share


def _around(centre: np.ndarray, extent: float) -> np.ndarray:
    """Centres of what leaves the frame on one side and comes back on the other; never within an act."""
    outside = max(extent / 2, 0.12)
    return (centre + outside) % (1 + 2 * outside) - outside


def _about(x: np.ndarray, y: np.ndarray, angle: np.ndarray, below: float) -> tuple[np.ndarray, np.ndarray]:
    """Centres after turning about the point that lies ``below`` under the centre (negative: above it)."""
    turn = np.deg2rad(angle)
    return x + below * np.sin(turn), y + below * (1 - np.cos(turn))
