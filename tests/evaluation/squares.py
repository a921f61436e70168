"""Clips drawn here, without the sprite cache: a two-coloured square on a plain or a striped ground."""

import numpy as np

from kinolenta.data.scene import COLOURS


def square_clip(motion: str, background: str = "white", *, size: int = 64) -> np.ndarray:
    """uint8 [17, size, size, 3] of a square that moves as its name says, 8 frames a second."""
    frames = np.empty((17, size, size, 3), np.uint8)
    frames[:] = COLOURS[background]
    for t, share in enumerate(np.linspace(0, 1, 17)):
        x = y = 0.5
        side = 0.5
        if motion in ("left", "right"):
            x = 0.22 + 0.56 * (share if motion == "right" else 1 - share)
        elif motion in ("up", "down"):
            y = 0.22 + 0.56 * (share if motion == "down" else 1 - share)
        elif motion in ("grow", "shrink"):
            side = 0.25 + 0.55 * (share if motion == "grow" else 1 - share)
        left, top = round((x - side / 2) * size), round((y - side / 2) * size)
        right, bottom = left + round(side * size), top + round(side * size)
        frames[t, max(0, top) : bottom, max(0, left) : right] = (200, 60, 40)
        middle = (top + bottom) // 2
        frames[t, max(0, middle) : bottom, max(0, left) : right] = (60, 40, 30)
        eye = max(2, (bottom - top) // 5)
        frames[t, max(0, top + eye) : top + 2 * eye, max(0, left + eye) : left + 2 * eye] = (250, 240, 90)
    return frames
