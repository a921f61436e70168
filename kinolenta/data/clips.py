"""An endless, numbered set of training clips: the compositional world, with some shots of the film among
them.

Clip number i is a function of (split, seed, i) alone, in any process and any order.
"""

import hashlib
import random
from pathlib import Path

import numpy as np

from kinolenta.data.captions import caption
from kinolenta.data.film import FilmBank, Window
from kinolenta.data.questions import Question, all_questions
from kinolenta.data.render import render
from kinolenta.data.sampling import sample_scene, sample_wanderer
from kinolenta.data.scene import Scene
from kinolenta.data.sprites import SpriteBank
from kinolenta.errors import ShapeError, require

NUM_FRAMES = 17
FPS = 8.0


class ClipSet:
    """Clips of a split. film_share: part of the clips that come from the film (its own train or dev shots).
    wandering: draw ``sample_wanderer`` and not scenes of the split.
    """

    def __init__(
        self,
        cache: Path,
        *,
        split: str = "train",
        seed: int = 0,
        film_share: float = 0.0,
        wandering: bool = False,
    ) -> None:
        self.bank = SpriteBank.load(cache)
        self.film = FilmBank.load(cache) if film_share > 0 else None
        self.split, self.seed, self.film_share, self.wandering = split, seed, film_share, wandering
        self._windows = self.film.windows("train" if split == "train" else "dev") if self.film else []

    def item(self, index: int) -> Scene | Window:
        """What clip number ``index`` shows."""
        rng = self._rng(index)
        if self._windows and rng.random() < self.film_share:
            return rng.choice(self._windows)
        return sample_wanderer(rng) if self.wandering else sample_scene(rng, split=self.split)

    def frames(self, index: int, size: int = 64, num_frames: int = NUM_FRAMES) -> np.ndarray:
        """uint8 [num_frames, size, size, 3] of clip number ``index``, 8 frames a second; a film has 17."""
        item = self.item(index)
        if isinstance(item, Window):
            assert self.film is not None
            require(num_frames == NUM_FRAMES, ShapeError, "clips of the film have {} frames.", NUM_FRAMES)
            return self.film.clip(item, size, np.random.default_rng(self._digest(index)))
        return render(item, self.bank, size=size, num_frames=num_frames)

    def caption(self, index: int, variant: int = 0) -> str:
        """One of the wordings of clip number ``index``; another variant may be worded otherwise."""
        item = self.item(index)
        if isinstance(item, Window):
            return item.caption
        return caption(item, random.Random(self._digest(index) + variant))

    def questions(self, index: int, wordings: int) -> list[Question]:
        """Questions that clip number ``index`` answers, each in some wordings; none about the film."""
        item, rng = self.item(index), random.Random(self._digest(index) - 1)
        return [] if isinstance(item, Window) else all_questions(item, rng, wordings)

    def _rng(self, index: int) -> random.Random:
        return random.Random(self._digest(index))

    def _digest(self, index: int) -> int:
        key = f"{self.split}/{self.seed}/{index}".encode()
        return int.from_bytes(hashlib.sha256(key).digest()[:8], "big")
