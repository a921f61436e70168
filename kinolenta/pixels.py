"""Clips as numbers: bytes outside, floats in [-1, 1] inside."""

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from kinolenta.errors import ShapeError, require


def to_float(clips: NDArray[np.uint8]) -> Tensor:
    """uint8 [b, T, H, W, 3] to float [b, 3, T, H, W] in [-1, 1]. Raises ShapeError for anything else."""
    require(
        isinstance(clips, np.ndarray)
        and clips.ndim == 5
        and clips.shape[-1] == 3
        and clips.dtype == np.uint8,
        ShapeError,
        "clips must be a uint8 array [b, T, H, W, 3]; got {}.",
        f"{clips.dtype} {list(clips.shape)}" if isinstance(clips, np.ndarray) else type(clips).__name__,
    )
    pixels = torch.from_numpy(np.ascontiguousarray(clips))
    return rearrange(pixels, "b t h w c -> b c t h w").float() / 127.5 - 1


def to_uint8(frames: Tensor) -> NDArray[np.uint8]:
    """float [b, 3, T, H, W] to uint8 [b, T, H, W, 3]; what lies outside [-1, 1] is clipped."""
    scaled = ((frames.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return rearrange(scaled, "b c t h w -> b t h w c").contiguous().numpy()
