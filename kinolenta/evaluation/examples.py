"""Real renderings that the judge learns from and is measured on: drawn scenes, halved to what the judge looks
at.

The scenes come from a hash of (purpose, split, seed, number), so that they share no draw with the clips that
models are trained on. Nothing here ever sees a generated clip.
"""

import hashlib
import random
import sys
from collections import Counter
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from kinolenta.data.clips import NUM_FRAMES
from kinolenta.data.render import render
from kinolenta.data.sampling import sample_scene
from kinolenta.data.scene import IN_PLACE, MOTIONS, Scene
from kinolenta.data.sprites import SpriteBank
from kinolenta.errors import ConfigError, require

if TYPE_CHECKING:
    from jaxtyping import UInt8

SIZE_PX = 64


def scene_of(index: int, *, split: str, seed: int, purpose: str) -> Scene:
    """Scene number ``index`` of a split, with one of the 13 motions: what moves on the spot is drawn
    again."""
    digest = hashlib.sha256(f"{purpose}/{split}/{seed}/{index}".encode()).digest()
    rng = random.Random(int.from_bytes(digest[:8], "big"))
    while True:
        scene = sample_scene(rng, split=split)
        if scene.motion != IN_PLACE:
            return scene


def balanced_scenes(count: int, *, split: str, seed: int) -> list[Scene]:
    """Scenes of which every motion has an equal share (one more or less where ``count`` does not divide)."""
    require(count >= len(MOTIONS), ConfigError, "count must be at least {}; got {}.", len(MOTIONS), count)
    share, over = divmod(count, len(MOTIONS))
    wanted = Counter({motion: share + (i < over) for i, motion in enumerate(MOTIONS)})
    scenes: list[Scene] = []
    index = 0
    while len(scenes) < count:
        scene = scene_of(index, split=split, seed=seed, purpose="judge")
        index += 1
        if wanted[scene.motion] > 0:
            wanted[scene.motion] -= 1
            scenes.append(scene)
    return scenes


def draw(
    scenes: list[Scene],
    cache: Path,
    *,
    workers: int = 2,
    shrink: Callable[[np.ndarray], np.ndarray] | None = None,
) -> "UInt8[np.ndarray, 'n 17 H W 3']":
    """The clips of the scenes at 64 px, or what ``shrink`` makes of each; progress on stderr."""
    clips: np.ndarray | None = None
    with get_context("fork").Pool(workers, _open, (cache, shrink)) as pool:
        drawn = pool.imap(_draw, scenes, chunksize=16)
        for number, frames in enumerate(tqdm(drawn, total=len(scenes), desc="rendering", file=sys.stderr)):
            if clips is None:
                clips = np.empty((len(scenes), *frames.shape), np.uint8)
            clips[number] = frames
    require(clips is not None, ConfigError, "there are no scenes to draw; give at least one")
    assert clips is not None
    return clips


_bank: SpriteBank
_shrink: Callable[[np.ndarray], np.ndarray] | None = None


def _open(cache: Path, shrink: Callable[[np.ndarray], np.ndarray] | None) -> None:
    global _bank, _shrink
    _bank, _shrink = SpriteBank.load(cache), shrink


def _draw(scene: Scene) -> np.ndarray:
    frames = render(scene, _bank, size=SIZE_PX, num_frames=NUM_FRAMES)
    return frames if _shrink is None else _shrink(frames)
