"""Whether a long clip keeps what it began with: its thing and its background, act by act.

No comparison of pixels with a true continuation, for there are many: a thing that comes back a second later
is as good. A thing counts as kept if as much of the frame differs from the bare background as in a real
rendering of the same scene at about that time, in about the same colour; the background is the judge's word.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kinolenta.data.motion import ACT_FRAMES
from kinolenta.data.render import backdrop
from kinolenta.data.scene import Scene
from kinolenta.errors import ShapeError, require

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, UInt8

DISTANCE = 60.0  # in RGB, from which a pixel is not background: sprites are told from theirs so too
MOST_TIMES = 2.5  # of what it should cover, or so many times less
LEAST_SHARE = 0.02  # of the frame: less is nothing
COLOUR_DISTANCE = 60.0


@dataclass(frozen=True)
class Thing:
    """What stands before the background of an act: the share of the frame that it covers when it is best in
    view, and its mean colour there (0-255, zeros if there is none).
    """

    share: float
    colour: "Float[np.ndarray, ' 3']"


def acts(frames: "UInt8[np.ndarray, 't h w 3']") -> list["UInt8[np.ndarray, '17 h w 3']"]:
    """The clip in pieces as long as a motion takes, each beginning with the last frame of the one before.

    Raises ShapeError unless there are 1 + a multiple of 16 frames, and at least 17.
    """
    step = ACT_FRAMES - 1
    require(
        len(frames) >= ACT_FRAMES and (len(frames) - 1) % step == 0,
        ShapeError,
        "clip has {} frames; acts are counted in 1 + a multiple of {}.",
        len(frames),
        step,
    )
    return [frames[start : start + ACT_FRAMES] for start in range(0, len(frames) - 1, step)]


def foreground(
    frames: "UInt8[np.ndarray, 't h w 3']", behind: "Float[np.ndarray, 'h w 3']"
) -> "Bool[np.ndarray, 't h w']":
    """Pixels that are not of the background's colour."""
    return np.linalg.norm(frames.astype(np.float32) - behind, axis=-1) > DISTANCE


def thing(frames: "UInt8[np.ndarray, 't h w 3']", scene: Scene) -> Thing:
    """What stands before the background of the scene in these frames."""
    mask = foreground(frames, backdrop(scene, frames.shape[1]))
    shares = mask.mean((1, 2))
    best = shares >= np.quantile(shares, 0.75)
    seen = mask & best[:, None, None]
    share = float(shares[best].mean())
    colour = frames[seen].mean(0) if seen.any() else np.zeros(3)
    return Thing(share, np.asarray(colour, np.float64))


def kept(found: Thing, wanted: Thing) -> bool:
    """Whether the thing that was found may be the one that was wanted, or is gone where it should be."""
    if wanted.share < LEAST_SHARE:
        return found.share < 2 * LEAST_SHARE
    alike = float(np.linalg.norm(found.colour - wanted.colour)) < COLOUR_DISTANCE
    most = min(wanted.share * MOST_TIMES, (1 + wanted.share) / 2)  # half of the background at the most
    return alike and wanted.share / MOST_TIMES < found.share < most
