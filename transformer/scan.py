"""The order in which the codes of a latent frame are drawn.

Codes drawn one after the other depend on one another, and so a draft of the second is worth little before the
first is final. In raster order every code follows its left neighbour, the one it depends on most. The other
scans put places that are far apart one after the other and those between them later, when most of what is
around them is known: drafts come true sooner, and parallel decoding needs fewer passes (docs/decoding.md).
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Turn: TypeAlias = tuple[int, int, int]  # places are drawn in the order of these


def _raster(h: int, w: int) -> Turn:
    return 0, h, w


def _checkerboard(h: int, w: int) -> Turn:
    return (h + w) % 2, h, w


def _quarters(h: int, w: int) -> Turn:
    return (0, 2, 3, 1)[2 * (h % 2) + w % 2], h, w


def _quarters_back(h: int, w: int) -> Turn:
    return _quarters(h, w)[0], -h, -w


_TURNS: dict[str, Callable[[int, int], Turn]] = {
    "raster": _raster,
    "checkerboard": _checkerboard,
    "quarters": _quarters,
    "quarters_back": _quarters_back,
}
SCANS = tuple(_TURNS)


def frame_scan(scan: str, height: int, width: int) -> Tensor:
    """Raster indices of a latent frame's places in the order of a scan, [height * width] int64.

    Places have a turn each, and those of a turn follow in raster order. "checkerboard": the dark squares,
    then the light ones. "quarters": of every two by two places the upper left, then the lower right, then
    the upper right, then the lower left. "quarters_back": the same, those of a turn from the last one to the
    first; then a code that does not look at the quarter of a frame before it (``GPTConfig.gap``) still sees
    the four upper left places around a lower right one.
    """
    places = [(h, w) for h in range(height) for w in range(width)]
    places.sort(key=lambda place: _TURNS[scan](*place))
    return torch.tensor([h * width + w for h, w in places])


def given_first(order: Tensor, given: Tensor) -> Tensor:
    """An order [n] of raster indices with those first that are given, bool [t, h, w]; else as it was."""
    first = given.flatten()[order]
    return torch.cat((order[first], order[~first]))
