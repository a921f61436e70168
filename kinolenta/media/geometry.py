"""Frames in other sizes and at other rates."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kinolenta.errors import MediaError, ShapeError

Frames = NDArray[np.uint8]
Policy = Literal["cover", "contain", "exact"]

MAX_FPS = 1000.0
MAX_SIDE_PX = 4096
_CHUNK_BYTES = 64_000_000  # float copies made at a time while resizing
_PADDING = 255  # white, as under transparent pixels


def resample(frames: Frames, fps_from: float, fps_to: float) -> Frames:
    """Show the same seconds of film at another rate: at each new time, the frame that is on the screen then.

    frames: ``[T, ...]``; both rates in frames per second, above 0 and at most 1000. At least one frame comes
    out.
    """
    for fps in (fps_from, fps_to):
        if not 0 < fps <= MAX_FPS:
            raise MediaError(f"A frame rate must be above 0 and at most {MAX_FPS:g} per second; got {fps}.")
    if len(frames) == 0:
        raise ShapeError("There are no frames to resample.")
    count = max(1, round(len(frames) * fps_to / fps_from))
    # A small step forward keeps 2.9999... from falling back to frame 2 where the rates divide evenly.
    index = np.floor(np.arange(count) * (fps_from / fps_to) + 1e-6).astype(np.int64)
    return frames[np.minimum(index, len(frames) - 1)]


def resize(frames: Frames, size: int | tuple[int, int], policy: Policy = "cover") -> Frames:
    """Bring frames ``[T, H, W, 3]`` (or an image ``[H, W, 3]``) to ``size``: a side of a square, or (H, W).

    cover: fills the whole size, and what sticks out on either side is cut off. contain: shows everything,
    with white bars. exact: changes nothing, and raises ShapeError that names the size wanted. Bicubic with
    antialiasing.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if not (0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX):
        raise ShapeError(f"Frames of {width}x{height} px are wanted; a side may be 1 to {MAX_SIDE_PX} px.")
    check_policy(policy)
    if frames.ndim not in (3, 4) or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise ShapeError(
            f"Frames must be uint8 [T, H, W, 3] and not empty; got {frames.dtype} {list(frames.shape)}."
        )
    if frames.ndim == 3:
        return resize(frames[None], size, policy)[0]
    old_height, old_width = frames.shape[1:3]
    if (old_height, old_width) == (height, width):
        return frames
    if policy == "exact":
        raise ShapeError(
            f"Frames are {old_width}x{old_height} px; {width}x{height} px are wanted. "
            "Resize them first, or use the policy 'cover' or 'contain'."
        )
    if policy == "cover":
        return _cover(frames, height, width)
    return _contain(frames, height, width)


def check_policy(policy: object) -> None:
    """Raise ShapeError unless it is the name of a policy."""
    if not isinstance(policy, str) or policy not in get_args(Policy):
        raise ShapeError(f"Unknown resize policy {policy!r}; use 'cover', 'contain' or 'exact'.")


def _cover(frames: Frames, height: int, width: int) -> Frames:
    """Cut the largest middle part of the wanted aspect, then scale it."""
    old_height, old_width = frames.shape[1:3]
    scale = max(height / old_height, width / old_width)
    cut_height = min(old_height, max(1, round(height / scale)))
    cut_width = min(old_width, max(1, round(width / scale)))
    top, left = (old_height - cut_height) // 2, (old_width - cut_width) // 2
    return _scale(frames[:, top : top + cut_height, left : left + cut_width], height, width)


def _contain(frames: Frames, height: int, width: int) -> Frames:
    old_height, old_width = frames.shape[1:3]
    scale = min(height / old_height, width / old_width)
    new_height = min(height, max(1, round(old_height * scale)))
    new_width = min(width, max(1, round(old_width * scale)))
    canvas = np.full((len(frames), height, width, 3), _PADDING, dtype=np.uint8)
    top, left = (height - new_height) // 2, (width - new_width) // 2
    canvas[:, top : top + new_height, left : left + new_width] = _scale(frames, new_height, new_width)
    return canvas


def _scale(frames: Frames, height: int, width: int) -> Frames:
    if frames.shape[1:3] == (height, width):
        return frames
    import torch
    from torch.nn.functional import interpolate

    scaled = np.empty((len(frames), height, width, 3), dtype=np.uint8)
    pixels = max(frames.shape[1] * frames.shape[2], height * width)
    step = max(1, _CHUNK_BYTES // (pixels * 3 * 4))
    for start in range(0, len(frames), step):
        # A copy: torch warns about read-only arrays, and a cut-out is not contiguous.
        part = torch.from_numpy(frames[start : start + step].copy()).permute(0, 3, 1, 2).float()
        part = interpolate(part, size=(height, width), mode="bicubic", align_corners=False, antialias=True)
        scaled[start : start + step] = part.round_().clamp_(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return scaled
