"""Draws a scene as a clip: one sprite, one background, one affine map per frame.

A clip is a function of the scene alone: the generator is seeded by a hash of its fields, and the frame
size and the number of frames change neither the draws nor their order.
"""

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from kinolenta.data.background import background
from kinolenta.data.motion import Track, mirrored, track
from kinolenta.data.scene import COLOURS, Scene, nouns
from kinolenta.errors import DataError, ShapeError, require

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8

FPS = 8.0
_LUMA = np.asarray((0.299, 0.587, 0.114), np.float32)
_NEAR = 75.0  # distance of two RGB colours below which one hides before the other
_VISIBLE = 40  # alpha of 255 from which a pixel counts as part of the drawing


class SpriteSource(Protocol):
    """What the renderer needs of a bank of sprites."""

    def sprite(self, code: str, style: str) -> "UInt8[np.ndarray, 's s 4']":
        """The drawing of one noun as straight RGBA."""
        ...

    def animation(self, code: str) -> "UInt8[np.ndarray, 'n s s 4'] | None":
        """A loop at 8 frames a second, or None."""
        ...


def scene_rng(scene: Scene, purpose: str = "render") -> np.random.Generator:
    """A generator that depends on every field of the scene, the same on every machine."""
    text = json.dumps([purpose, asdict(scene)], sort_keys=True, ensure_ascii=True)
    digest = hashlib.sha256(text.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def render(
    scene: Scene, bank: SpriteSource, *, size: int = 64, num_frames: int = 17
) -> "UInt8[np.ndarray, 'num_frames size size 3']":
    """The clip of a scene: RGB at 8 frames a second.

    Raises ShapeError for a size under 16 px or no frames, DataError for an unknown noun, motion or colour.
    """
    require(size >= 16, ShapeError, "size is {} px; frames must be at least 16 px", size)
    require(num_frames >= 1, ShapeError, "num_frames is {}; a clip has at least 1 frame", num_frames)
    table = nouns()
    require(scene.noun in table, DataError, "unknown noun {!r}; nouns.tsv lists the codes", scene.noun)
    require(
        scene.tint is None or scene.tint in COLOURS,
        DataError,
        "unknown tint {!r}; use one of {}",
        scene.tint,
        ", ".join(COLOURS),
    )
    noun = table[scene.noun]
    rng = scene_rng(scene)
    flip = mirrored(scene, noun, rng)
    phase = rng.random()
    back = background(scene.background, rng, size)

    drawing = _frames_of(scene, bank, phase, num_frames)
    left, top, right, bottom = extent = _extent(drawing)
    longest = max(right - left, bottom - top)
    aspect = ((right - left) / longest, (bottom - top) / longest)
    path = track(scene, noun, rng, aspect=aspect, num_frames=num_frames)

    patches, corner_x, corner_y = _sample(drawing, extent, path, size, scene.tint, flip)
    if _hides(drawing, back, scene.tint):
        _outline(patches, back, reach=max(1, round(size / 64)))
    patches *= path.opacity.astype(np.float32)[:, None, None, None]
    clip = np.repeat(back.transpose(2, 0, 1)[None], num_frames, axis=0)  # planes blend faster
    for dx, dy in path.offsets:
        _paste(clip, patches, corner_x + round(dx * size), corner_y + round(dy * size))
    pixels = np.empty((num_frames, size, size, 3), np.uint8)
    for channel, plane in enumerate((clip + 0.5).astype(np.uint8).transpose(1, 0, 2, 3)):
        pixels[..., channel] = plane
    return pixels


def backdrop(scene: Scene, size: int = 64) -> "Float[np.ndarray, 'size size 3']":
    """What lies behind the thing of a scene, 0-255."""
    rng = scene_rng(scene)
    mirrored(scene, nouns()[scene.noun], rng)
    rng.random()  # the phase
    return background(scene.background, rng, size)


def _frames_of(
    scene: Scene, bank: SpriteSource, phase: float, num_frames: int
) -> "UInt8[np.ndarray, 'n s s 4']":
    """The drawings of the clip: one for a static sprite, else one per frame of the clip."""
    if scene.style != "animated":
        return bank.sprite(scene.noun, scene.style)[None]
    loop = bank.animation(scene.noun)
    if loop is None:
        raise DataError(f"noun {scene.noun!r} has no animation; use another style")
    start = int(phase * len(loop))
    if scene.motion == "still":
        return loop[start : start + 1]
    return loop[(start + np.arange(num_frames)) % len(loop)]


def _extent(drawing: np.ndarray) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of all that is visible in any frame, as fractions of the sprite's side."""
    seen = drawing[..., 3].max(axis=0) > _VISIBLE
    columns, rows = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
    require(len(rows) > 0, DataError, "a sprite is empty; build the sprite cache again")
    side = drawing.shape[1]
    return columns[0] / side, rows[0] / side, (columns[-1] + 1) / side, (rows[-1] + 1) / side


def _premultiplied(drawing: np.ndarray) -> torch.Tensor:
    """Straight RGBA to premultiplied RGBA, uint8 [n, 4, s, s], channels last in memory: reduces fastest."""
    alpha = drawing[..., 3].astype("<u4")  # each alpha becomes the four bytes alpha, alpha, alpha, 255
    weights = (alpha * 0x010101 | 0xFF000000)[..., None].astype("<u4", copy=False).view(np.uint8)
    product = weights.astype(np.uint16)
    product *= drawing
    product += 128
    product += product >> 8  # exact rounding of a division by 255, without the division
    product >>= 8
    return torch.from_numpy(product.astype(np.uint8)).permute(0, 3, 1, 2)


def _usual_luma(drawing: np.ndarray) -> float:
    """The median brightness of a drawing, 0-255, kept away from both ends."""
    luma = drawing[0, ..., :3] @ _LUMA
    body = luma[drawing[0, ..., 3] > 127]
    return float(np.clip(np.median(body), 50, 235)) if body.size else 128.0


def _tinted(colours: torch.Tensor, tint: str, usual: float) -> torch.Tensor:
    """Recolours premultiplied float [n, 4, s, s] by luminance: ``usual`` becomes the tint, darker its shades.

    Near-white parts of a drawing that is not white itself (eyes, teeth) stay white, outlines stay dark.
    """
    planes = colours.permute(1, 0, 2, 3).contiguous().numpy()
    alpha = planes[3]
    red, green, blue = straight = planes[:3] * (1 / np.maximum(alpha, 1 / 255))
    luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    levels = np.arange(256, dtype=np.float32)[:, None]
    target = np.asarray(COLOURS[tint], np.float32)
    ratio, lift = np.minimum(levels / usual, 1.0), np.clip((levels - usual) / (255 - usual), 0, 1)
    ramp = target * ratio ** (0.6 if tint == "white" else 0.85) + (255 - target) * lift * 0.45
    index = np.clip(luma, 0, 255).astype(np.uint8)
    result = np.empty_like(planes)
    for channel in range(3):
        result[channel] = ramp[:, channel].astype(np.float32)[index]
    if usual < 200:
        spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
        white = np.clip((luma - 205) / 30, 0, 1) * np.clip((60 - spread) / 20, 0, 1)
        result[:3] += (straight - result[:3]) * white
    result[:3] *= alpha
    result[3] = alpha
    return torch.from_numpy(result).permute(1, 0, 2, 3)


def _hides(drawing: np.ndarray, back: np.ndarray, tint: str | None) -> bool:
    """Whether most of the drawing has nearly the colour of what is behind it."""
    coarse = drawing[0, ::3, ::3]
    if tint is None:
        colours = coarse[..., :3].astype(np.float32)
    else:
        planes = torch.from_numpy(coarse.astype(np.float32)).permute(2, 0, 1)[None].contiguous()
        planes[:, 3] = 1
        colours = _tinted(planes, tint, _usual_luma(drawing))[0, :3].permute(1, 2, 0).numpy()
    opaque = coarse[..., 3] > 127
    if not opaque.any():
        return True
    distance = np.linalg.norm(colours[opaque] - _middle_colour(back), axis=-1)
    return float((distance < _NEAR).mean()) > 0.5


def _middle_colour(back: np.ndarray) -> np.ndarray:
    """The mean colour of the middle of a background, where drawings mostly are."""
    size = len(back)
    return back[size // 4 : size * 7 // 8 : 3, size // 4 : size * 3 // 4 : 3].mean(axis=(0, 1))


def _outline(patches: np.ndarray, back: np.ndarray, reach: int) -> None:
    """Adds a thin rim to premultiplied windows, in place: bright before dark backgrounds, else dark."""
    colour = _middle_colour(back)
    rim = colour + (255 - colour) * 0.8 if colour @ _LUMA < 110 else colour * 0.35
    alpha = torch.from_numpy(patches[:, 3:])
    wider = F.max_pool2d(alpha, 2 * reach + 1, stride=1, padding=reach).numpy()
    patches[:, :3] += (wider - patches[:, 3:]) * rim.astype(np.float32)[:, None, None]
    patches[:, 3:] = wider


def _sample(
    drawing: "UInt8[np.ndarray, 'n s s 4']",
    extent: tuple[float, float, float, float],
    path: Track,
    size: int,
    tint: str | None,
    flip: bool,
) -> tuple["Float[np.ndarray, 'n 4 h w']", np.ndarray, np.ndarray]:
    """The sprite as it looks in every frame, in windows of one size, and where their upper left corners go.

    Windows hold only what the drawing can cover. The sprite is first reduced to about the size that it will
    have, since bilinear sampling alone would alias.
    """
    left, top, right, bottom = extent
    longest = max(right - left, bottom - top)
    wide, tall = (right - left) / longest, (bottom - top) / longest
    turn = np.deg2rad(path.angle)
    cos, sin = np.cos(turn), np.sin(turn)
    half_w = (np.abs(cos) * wide + np.abs(sin) * tall) * path.scale / 2
    half_h = (np.abs(sin) * wide + np.abs(cos) * tall) * path.scale / 2
    window_w = 2 * int(np.ceil(half_w.max() * size)) + 5
    window_h = 2 * int(np.ceil(half_h.max() * size)) + 5
    corner_x = np.floor(path.x * size).astype(np.int64) - window_w // 2
    corner_y = np.floor(path.y * size).astype(np.int64) - window_h // 2

    # Pixel centres relative to the drawing's, turned back, in halves of a sprite: grid_sample's range.
    dx = (corner_x + 0.5 - path.x * size)[:, None] + np.arange(window_w)
    dy = (corner_y + 0.5 - path.y * size)[:, None] + np.arange(window_h)
    unit = (2 * longest / (path.scale * size))[:, None]
    side_x = -unit if flip else unit
    cx, cy = left + right - 1, top + bottom - 1
    grid = np.empty((len(dx), window_h, window_w, 2), np.float32)
    grid[..., 0] = (dx * side_x * cos[:, None] + cx)[:, None, :] + (dy * side_x * sin[:, None])[:, :, None]
    grid[..., 1] = (-dx * unit * sin[:, None])[:, None, :] + (dy * unit * cos[:, None] + cy)[:, :, None]

    side = drawing.shape[1]
    colours = _premultiplied(drawing)
    usual = 0.0 if tint is None else _usual_luma(drawing)
    wanted = np.array([_level(scale * size / longest, side) for scale in path.scale])
    levels = np.unique(wanted)
    pieces = []
    for level in levels:
        rows = np.flatnonzero(wanted == level)
        source = colours if len(colours) == 1 or len(levels) == 1 else colours[torch.from_numpy(rows)]
        if level < side:
            source = F.interpolate(source, size=(int(level), int(level)), mode="bilinear", antialias=True)
        source = source.float()
        source[:, 3] /= 255
        if tint is not None:
            source = _tinted(source, tint, usual)
        where = torch.from_numpy(grid if len(levels) == 1 else grid[rows])
        pieces.append(F.grid_sample(source.expand(len(rows), -1, -1, -1), where, align_corners=False))
    if len(pieces) == 1:
        return pieces[0].numpy(), corner_x, corner_y
    patches = torch.empty(len(dx), 4, window_h, window_w)
    for level, piece in zip(levels, pieces, strict=True):
        patches[torch.from_numpy(wanted == level)] = piece
    return patches.numpy(), corner_x, corner_y


def _level(target: float, side: int) -> int:
    """The size to reduce the sprite to: of side / sqrt(2)^k the smallest that is not below the target."""
    steps = max(0, int(np.floor(2 * np.log2(side / target) + 0.1)))
    return max(8, round(side / 2 ** (steps / 2)))


def _paste(clip: np.ndarray, patches: np.ndarray, corner_x: np.ndarray, corner_y: np.ndarray) -> None:
    """Lays each premultiplied window over its frame, in place; parts outside the frame are cut off."""
    size = clip.shape[-1]
    height, width = patches.shape[2:]
    for frame, patch, x, y in zip(clip, patches, corner_x.tolist(), corner_y.tolist(), strict=True):
        x0, x1, y0, y1 = max(x, 0), min(x + width, size), max(y, 0), min(y + height, size)
        if x0 < x1 and y0 < y1:
            part = patch[:, y0 - y : y1 - y, x0 - x : x1 - x]
            target = frame[:, y0:y1, x0:x1]
            target *= 1 - part[3]
            target += part[:3]
