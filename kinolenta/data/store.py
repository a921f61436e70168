"""Rendered clips on disk, so that drawing does not compete with training for the processor.

A store is a folder: ``clips.bin`` (uint8 [n, 17, size, size, 3], memory-mapped) and ``clips.json``.
"""

import json
import os
import sys
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from kinolenta.config import Config, read_json
from kinolenta.data.clips import FPS, NUM_FRAMES, ClipSet
from kinolenta.errors import ConfigError, DataError, require

CLIPS_FILE, INDEX_FILE = "clips.bin", "clips.json"


@dataclass(frozen=True, kw_only=True)
class StoreConfig(Config):
    """num_clips of a split, numbered from 0; size in pixels; film_share: part of them cut from the film."""

    num_clips: int = 10_000
    size: int = 64
    split: str = "train"
    seed: int = 0
    film_share: float = 0.06

    def __post_init__(self) -> None:
        require(self.num_clips > 0, ConfigError, "num_clips must be positive; got {}.", self.num_clips)
        require(self.size in (64, 128), ConfigError, "size must be 64 or 128; got {}.", self.size)
        require(
            0 <= self.film_share <= 1, ConfigError, "film_share must be in [0, 1]; got {}.", self.film_share
        )


def render_store(config: StoreConfig, cache: Path, out: Path, *, workers: int = 2) -> Path:
    """Draw the clips with several processes. The same config gives the same bytes."""
    _open(config, cache)  # before the processes fork: an error there would be retried for ever
    out.mkdir(parents=True, exist_ok=True)
    partial = out / f".{CLIPS_FILE}.{os.getpid()}"
    shape = (config.num_clips, NUM_FRAMES, config.size, config.size, 3)
    try:
        clips = np.memmap(partial, dtype=np.uint8, mode="w+", shape=shape)
        with get_context("fork").Pool(workers) as pool:
            drawn = pool.imap(_draw, range(config.num_clips), chunksize=16)
            for index, frames in enumerate(
                tqdm(drawn, total=config.num_clips, desc="rendering", file=sys.stderr)
            ):
                clips[index] = frames
        clips.flush()
        (out / INDEX_FILE).write_text(json.dumps(config.to_dict() | {"fps": FPS}, indent=1))
        os.replace(partial, out / CLIPS_FILE)
    finally:
        partial.unlink(missing_ok=True)
    return out


def open_store(folder: Path) -> np.ndarray:
    """uint8 [n, 17, size, size, 3], read only and memory-mapped."""
    if not (folder / CLIPS_FILE).exists():
        raise DataError(f"{folder} holds no rendered clips. Make them with: kinolenta data render {folder}")
    values = read_json(folder / INDEX_FILE)
    values.pop("fps")
    config = StoreConfig.from_dict(values)
    shape = (config.num_clips, NUM_FRAMES, config.size, config.size, 3)
    return np.memmap(folder / CLIPS_FILE, dtype=np.uint8, mode="r", shape=shape)


_clips: ClipSet


def _open(config: StoreConfig, cache: Path) -> None:
    global _clips, _size
    _clips = ClipSet(cache, split=config.split, seed=config.seed, film_share=config.film_share)
    _size = config.size


_size = 64


def _draw(index: int) -> np.ndarray:
    return _clips.frames(index, _size)
