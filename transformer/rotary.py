"""Rotary positions on four axes: text order, time, row, column.

After Su et al. 2021, arXiv:2104.09864. A head's pairs are dealt to the axes in equal shares, and every axis
spans its own full range of frequencies (Lumos-1, arXiv:2507.08801, finds that an axis given only high or only
low ones learns badly).
"""

from functools import cache

import torch
from torch import Tensor

AXES = 4  # s, t, h, w


@cache
def rotary_frequencies(head_dim: int, theta_text: float, theta_grid: float) -> Tensor:
    """Radians per unit of position, float32 [4, head_dim / 2]: a row per axis, zero at the others' pairs."""
    share = head_dim // 2 // AXES
    frequencies = torch.zeros(AXES, head_dim // 2, dtype=torch.float64)
    for axis, theta in enumerate((theta_text, theta_grid, theta_grid, theta_grid)):
        exponents = torch.arange(share, dtype=torch.float64) / share
        frequencies[axis, axis * share : (axis + 1) * share] = theta**-exponents
    return frequencies.float()


def rotary_tables(positions: Tensor, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """(cos, sin) for ``rotate``, each float32 [..., head_dim], from int64 positions [..., 4].

    The first half of sin is negated, so that a rotation is x * cos + swap_halves(x) * sin.
    """
    angles = (positions[..., None] * frequencies).sum(-2)  # not a matrix product: autocast would round it
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + d/2]) of the heads x [b, n, h, d] by its angle; cos and sin broadcast."""
    return (x * cos).addcmul_(x.roll(x.shape[-1] // 2, -1), sin)
