"""What stands behind the object: plain colours and six drawn places, smooth so that few codes hold them.

Every place has a fixed set of variants, drawn once per size and kept: drawing one costs more than a clip.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from kinolenta.data.scene import BACKGROUNDS, COLOURS, NOWHERE, PLACES
from kinolenta.errors import DataError, require

if TYPE_CHECKING:
    from jaxtyping import Float

VARIANTS = 32
_UNLIKE = 50.0  # least distance in RGB of an odd colour from every named one
_HORIZON = {"grass": (0.36, 0.48), "sand": (0.36, 0.48), "snow": (0.36, 0.48), "sea": (0.3, 0.4)}


def _variant_rng(name: str, variant: int) -> np.random.Generator:
    return np.random.default_rng([PLACES.index(name), variant])


def horizon(name: str, variant: int) -> float | None:
    """Height at which ground or water begins, from 0 (top) to 1; None where there is neither."""
    if name not in _HORIZON:
        return None
    low, high = _HORIZON[name]
    return low + (high - low) * float(_variant_rng(name, variant).random())


@lru_cache(maxsize=len(PLACES) * VARIANTS * 2)
def place(name: str, variant: int, size: int) -> "Float[np.ndarray, 'size size 3']":
    """One variant of a drawn place; RGB in 0-255, read-only because it is shared between clips."""
    require(name in PLACES, DataError, "unknown place {!r}; use one of {}", name, ", ".join(PLACES))
    rng = _variant_rng(name, variant)
    level = rng.random()  # the draw that horizon() reads
    pixel = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.broadcast_to(pixel, (size, size)), np.broadcast_to(pixel[:, None], (size, size))
    if name in _HORIZON:
        low, high = _HORIZON[name]
        level = low + (high - low) * level
    image = _PAINTERS[name](x, y, float(level), rng, 1.0 / size)
    image = np.clip(image, 0, 255).astype(np.float32)
    image.flags.writeable = False
    return image


def plain(name: str, shift: float, size: int) -> "Float[np.ndarray, 'size size 3']":
    """A plain colour, a little lighter or darker by ``shift`` (of 255)."""
    require(
        name in COLOURS,
        DataError,
        "unknown background {!r}; use one of {}",
        name,
        ", ".join(BACKGROUNDS),
    )
    colour = np.clip(np.asarray(COLOURS[name], np.float32) + shift, 0, 255)
    return np.broadcast_to(colour, (size, size, 3))


def background(name: str, rng: np.random.Generator, size: int) -> "Float[np.ndarray, 'size size 3']":
    """The backdrop of one clip; takes two draws from ``rng`` for every background that has a name."""
    if name == NOWHERE:
        return nowhere(rng, size)
    variant, shift = int(rng.integers(VARIANTS)), float(rng.uniform(-4, 4))
    return place(name, variant, size) if name in PLACES else plain(name, shift, size)


def nowhere(rng: np.random.Generator, size: int) -> "Float[np.ndarray, 'size size 3']":
    """A background without a name: an odd colour, a slope between two, or that with a band and blobs."""
    kind, first, second, third = rng.random(), *(_odd_colour(rng) for _ in range(3))
    pixel = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.broadcast_to(pixel, (size, size)), np.broadcast_to(pixel[:, None], (size, size))
    turn, level, wave = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8), rng.uniform(0, 0.08)
    along = 0.5 + (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn)
    if kind < 0.4:
        return np.broadcast_to(first, (size, size, 3))
    image = first + (second - first) * np.clip(along, 0, 1)[..., None]
    if kind > 0.7:
        line = level + _wave(x, rng, wave, 1.2)
        image = _mix(image, third, _below(y if rng.random() < 0.7 else x, line, 2 / size))
        for _ in range(int(rng.integers(7))):
            cx, cy, rx, ry = *rng.uniform(0, 1, 2), *rng.uniform(0.04, 0.2, 2)
            image = _mix(image, _odd_colour(rng), _blob(x, y, cx, cy, rx, ry) * 0.7)
    return np.clip(image, 0, 255).astype(np.float32)


def _odd_colour(rng: np.random.Generator) -> np.ndarray:
    """Any RGB colour, 0-255, that is not about one of the plain backgrounds."""
    while True:
        colour = rng.uniform(0, 255, 3).astype(np.float32)
        if min(np.linalg.norm(colour - np.asarray(known)) for known in COLOURS.values()) > _UNLIKE:
            return colour


def _mix(below: np.ndarray, above: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return below + (above - below) * weight[..., None]


def _fade(top: tuple[int, int, int], bottom: tuple[int, int, int], weight: np.ndarray) -> np.ndarray:
    """A blend of two colours; weight 0 gives ``top``, 1 ``bottom``."""
    first, last = np.asarray(top, np.float32), np.asarray(bottom, np.float32)
    return first + (last - first) * np.clip(weight, 0, 1)[..., None]


def _wave(x: np.ndarray, rng: np.random.Generator, height: float, cycles: float) -> np.ndarray:
    """A gentle line around 0 made of two sines."""
    first, second = rng.uniform(0, 2 * np.pi, 2)
    turns = 2 * np.pi * cycles * x
    return height / 1.5 * (np.sin(turns + first) + 0.5 * np.sin(2.15 * turns + second))


def _below(y: np.ndarray, line: np.ndarray | float, soft: float) -> np.ndarray:
    """1 below the line, 0 above it, a straight ramp ``soft`` wide between."""
    return np.clip((y - line) / soft + 0.5, 0, 1)


def _blob(x: np.ndarray, y: np.ndarray, cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
    """A soft ellipse: 1 in the middle, 0 outside."""
    return np.clip(1.6 - 1.6 * np.hypot((x - cx) / rx, (y - cy) / ry), 0, 1)


def _grass(x: np.ndarray, y: np.ndarray, level: float, rng: np.random.Generator, pixel: float) -> np.ndarray:
    image = _fade((150, 208, 245), (205, 234, 250), y / level)
    line = level + _wave(x, rng, 0.012, 0.8)
    depth = (y - level) / (1 - level)
    image = _mix(image, _fade((118, 190, 78), (66, 148, 52), depth), _below(y, line, 1.5 * pixel))
    for _ in range(7):  # tufts, larger towards the viewer
        cx, near = rng.uniform(0, 1), rng.uniform(0.12, 1.0)
        cy = level + (1 - level) * near
        tuft = _blob(x, y, cx, cy, 0.05 + 0.09 * near, 0.02 + 0.03 * near) * 0.45
        image = _mix(image, np.asarray((44, 116, 40), np.float32), tuft)
    return image


def _sand(x: np.ndarray, y: np.ndarray, level: float, rng: np.random.Generator, pixel: float) -> np.ndarray:
    image = _fade((176, 212, 236), (240, 238, 224), y / level)
    far = level + _wave(x, rng, 0.03, 0.6)
    image = _mix(image, _fade((238, 208, 140), (228, 190, 116), (y - level) * 2), _below(y, far, 1.5 * pixel))
    near = level + (1 - level) * rng.uniform(0.35, 0.5) + _wave(x, rng, 0.05, 0.5)
    return _mix(image, _fade((246, 220, 150), (222, 180, 104), (y - near) * 2.2), _below(y, near, 3 * pixel))


def _snow(x: np.ndarray, y: np.ndarray, level: float, rng: np.random.Generator, pixel: float) -> np.ndarray:
    image = _fade((140, 160, 188), (184, 198, 216), y / level)
    hills = level - 0.05 + _wave(x, rng, 0.04, 0.9)
    image = _mix(image, np.asarray((206, 218, 234), np.float32), _below(y, hills, 2 * pixel))
    line = level + 0.01 + _wave(x, rng, 0.015, 0.7)
    image = _mix(image, _fade((238, 244, 252), (224, 234, 248), (y - level) * 2), _below(y, line, 2 * pixel))
    near = level + (1 - level) * rng.uniform(0.45, 0.6) + _wave(x, rng, 0.04, 0.6)
    return _mix(image, _fade((250, 252, 255), (226, 236, 250), (y - near) * 3), _below(y, near, 4 * pixel))


def _sky(x: np.ndarray, y: np.ndarray, level: float, rng: np.random.Generator, pixel: float) -> np.ndarray:
    image = _fade((70, 150, 230), (176, 218, 248), y)
    heights = rng.permutation([0.16, 0.5, 0.82])[: 2 + int(level < 0.6)]
    for i, height in enumerate(heights):
        cx, cy = rng.uniform(0.1, 0.4) + 0.5 * (i % 2), height + rng.uniform(-0.05, 0.05)
        cloud = np.zeros_like(x, dtype=np.float32)
        for dx, dy, radius in ((-0.11, 0.015, 0.1), (0.0, -0.02, 0.13), (0.12, 0.01, 0.11)):
            cloud = np.maximum(cloud, _blob(x, y, cx + dx, cy + dy, radius * 1.25, radius * 0.75))
        image = _mix(image, np.asarray((255, 255, 255), np.float32), np.clip(cloud * 1.2, 0, 0.85))
    return image


def _night(x: np.ndarray, y: np.ndarray, level: float, rng: np.random.Generator, pixel: float) -> np.ndarray:
    image = _fade((10, 14, 48), (38, 44, 104), y)
    radius = max(0.016, 0.9 * pixel)
    for _ in range(12):
        cx, cy, glow = rng.uniform(0.03, 0.97), rng.uniform(0.03, 0.97), rng.uniform(0.6, 1.0)
        star = np.clip(1.5 - np.hypot(x - cx, y - cy) / radius, 0, 1) * glow
        image = _mix(image, np.asarray((255, 250, 220), np.float32), star)
    if level < 0.6:  # a crescent in a corner: a disc without a shifted disc
        cx, cy = (0.14 if rng.random() < 0.5 else 0.86), rng.uniform(0.12, 0.18)
        disc = np.clip((0.085 - np.hypot(x - cx, y - cy)) / (1.5 * pixel) + 0.5, 0, 1)
        bite = np.clip((0.08 - np.hypot(x - cx - 0.045, y - cy + 0.02)) / (1.5 * pixel) + 0.5, 0, 1)
        image = _mix(image, np.asarray((250, 240, 190), np.float32), disc * (1 - bite))
    return image


def _sea(x: np.ndarray, y: np.ndarray, level: float, rng: np.random.Generator, pixel: float) -> np.ndarray:
    image = _fade((168, 220, 250), (220, 240, 252), y / level)
    bands = ((64, 146, 212), (42, 118, 194), (26, 90, 170))
    for i, colour in enumerate(bands):
        base = level + i * (1 - level) * 0.34
        height = 0.008 + 0.016 * i
        line = base + _wave(x, rng, height, 2.2 - 0.35 * i)
        image = _mix(image, np.asarray(colour, np.float32), _below(y, line, 1.5 * pixel))
        if i:  # a lighter crest
            crest = np.clip(1 - np.abs(y - line - 0.012) / 0.016, 0, 1) * 0.4
            image = _mix(image, np.asarray((200, 230, 250), np.float32), crest)
    return image


_PAINTERS = {"grass": _grass, "sand": _sand, "snow": _snow, "sky": _sky, "night": _night, "sea": _sea}
