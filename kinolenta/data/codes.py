"""Clips as codes with their captions: what the transformer learns from, so that it never runs the VQGAN.

A shard is a folder: ``codes.safetensors`` (int32 [n, t, h, w]), ``captions.jsonl`` (a list of wordings per
clip) and ``codes.json`` (what was encoded).
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from kinolenta.config import Config
from kinolenta.data.clips import ClipSet
from kinolenta.errors import ConfigError, DataError, require

CODES_FILE, CAPTIONS_FILE, INDEX_FILE = "codes.safetensors", "captions.jsonl", "codes.json"
CHUNK = 16  # clips that a process draws and encodes at a time


@dataclass(frozen=True, kw_only=True)
class CodesConfig(Config):
    """num_clips of a split from number first on; wordings: captions kept per clip; film_share as in
    StoreConfig.
    """

    num_clips: int = 14_000
    first: int = 0
    size: int = 64
    split: str = "train"
    seed: int = 1
    film_share: float = 0.02
    wordings: int = 3

    def __post_init__(self) -> None:
        require(self.num_clips > 0, ConfigError, "num_clips must be positive; got {}.", self.num_clips)
        require(self.first >= 0, ConfigError, "first must not be negative; got {}.", self.first)
        require(1 <= self.wordings <= 64, ConfigError, "wordings must be 1 to 64; got {}.", self.wordings)
        require(
            0 <= self.film_share <= 1, ConfigError, "film_share must be in [0, 1]; got {}.", self.film_share
        )


@dataclass(frozen=True)
class Shard:
    """codes int64 [n, t, h, w] and, for each clip, one or more wordings of its caption."""

    codes: Tensor
    captions: list[list[str]]

    def __len__(self) -> int:
        return len(self.captions)


def encode_codes(
    config: CodesConfig,
    encode: Callable[[np.ndarray], Tensor],
    cache: Path,
    out: Path,
    *,
    workers: int = 2,
) -> Path:
    """Draw and encode the clips with several processes of one thread each, which keeps every core busy.

    encode: uint8 frames [b, 17, size, size, 3] to codes [b, t, h, w].
    """
    out.mkdir(parents=True, exist_ok=True)
    codes, captions = [], []
    last = config.first + config.num_clips
    chunks = [range(start, min(start + CHUNK, last)) for start in range(config.first, last, CHUNK)]
    with get_context("fork").Pool(workers, _open, (config, cache, encode)) as pool:
        bar = tqdm(total=config.num_clips, desc="encoding", file=sys.stderr)
        for chunk_codes, chunk_captions in pool.imap(_draw, chunks):
            codes.append(torch.from_numpy(chunk_codes))
            captions += chunk_captions
            bar.update(len(chunk_captions))
        bar.close()
    lines = "".join(json.dumps(wordings, ensure_ascii=False) + "\n" for wordings in captions)
    _replace(out / CAPTIONS_FILE, lambda path: path.write_text(lines, encoding="utf-8"))
    _replace(out / INDEX_FILE, lambda path: path.write_text(json.dumps(config.to_dict(), indent=1)))
    _replace(out / CODES_FILE, lambda path: save_file({"codes": torch.cat(codes).contiguous()}, path))
    return out


def open_shard(folder: Path) -> Shard:
    """Read a shard. Raises DataError if it is missing or its parts differ in length."""
    if not (folder / CODES_FILE).exists():
        raise DataError(f"{folder} holds no codes. Make them with: kinolenta data encode {folder}")
    codes = load_file(folder / CODES_FILE)["codes"].long()
    captions = [
        json.loads(line) for line in (folder / CAPTIONS_FILE).read_text(encoding="utf-8").splitlines()
    ]
    require(
        len(captions) == len(codes),
        DataError,
        "{} has codes of {} clips but captions of {}. Encode it again.",
        folder,
        len(codes),
        len(captions),
    )
    return Shard(codes, captions)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


_clips: ClipSet
_config: CodesConfig
_encode: Callable[[np.ndarray], Tensor]


def _open(config: CodesConfig, cache: Path, encode: Callable[[np.ndarray], Tensor]) -> None:
    global _clips, _config, _encode
    torch.set_num_threads(1)
    _clips = ClipSet(cache, split=config.split, seed=config.seed, film_share=config.film_share)
    _config, _encode = config, encode


def _draw(numbers: range) -> tuple[np.ndarray, list[list[str]]]:
    frames = np.stack([_clips.frames(number, _config.size) for number in numbers])
    captions = [[_clips.caption(number, n) for n in range(_config.wordings)] for number in numbers]
    return _encode(frames).to(torch.int32).numpy(), captions
