"""Clips as codes with their captions: what the transformer learns from, so that it never runs the VQGAN.

A shard is a folder: ``codes.safetensors`` (int32 [n, t, h, w]), ``captions.jsonl`` (a list of wordings per
clip), ``questions.jsonl`` (a list of questions with their answers per clip) and ``codes.json`` (what was
encoded).
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from kinolenta.config import Config
from kinolenta.data.clips import NUM_FRAMES, ClipSet
from kinolenta.data.questions import Question
from kinolenta.errors import ConfigError, DataError, require

CODES_FILE, INDEX_FILE = "codes.safetensors", "codes.json"
CAPTIONS_FILE, QUESTIONS_FILE = "captions.jsonl", "questions.jsonl"
MAX_FRAMES = 4096
CHUNK = 16  # clips that a process draws and encodes at a time


@dataclass(frozen=True, kw_only=True)
class CodesConfig(Config):
    """num_clips of a split from number first on; wordings: captions kept per clip; film_share as in
    StoreConfig. num_frames: 17, or more where the film has no share. wandering: as in ClipSet; such clips are
    for glances alone.
    """

    num_clips: int = 14_000
    first: int = 0
    num_frames: int = NUM_FRAMES
    size: int = 64
    split: str = "train"
    seed: int = 1
    film_share: float = 0.02
    wordings: int = 3
    wandering: bool = False

    def __post_init__(self) -> None:
        require(self.num_clips > 0, ConfigError, "num_clips must be positive; got {}.", self.num_clips)
        require(self.first >= 0, ConfigError, "first must not be negative; got {}.", self.first)
        require(1 <= self.wordings <= 64, ConfigError, "wordings must be 1 to 64; got {}.", self.wordings)
        require(
            0 <= self.film_share <= 1, ConfigError, "film_share must be in [0, 1]; got {}.", self.film_share
        )
        require(
            1 <= self.num_frames <= MAX_FRAMES and (self.num_frames == NUM_FRAMES or self.film_share == 0),
            ConfigError,
            "num_frames must be {} with a film_share above 0, and 1 to {} without; got {}.",
            NUM_FRAMES,
            MAX_FRAMES,
            self.num_frames,
        )
        require(
            not self.wandering or (self.split == "train" and self.film_share == 0),
            ConfigError,
            "wandering clips are of the split train and have no film among them; got {} and film_share {}.",
            self.split,
            self.film_share,
        )


@dataclass(frozen=True)
class Shard:
    """codes int64 [n, t, h, w] and, for each clip, one or more wordings of its caption, and questions (none
    about the film).
    """

    codes: Tensor
    captions: list[list[str]]
    questions: list[list[Question]]

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

    encode: uint8 frames [b, num_frames, size, size, 3] to codes [b, t, h, w].
    """
    _open(config, cache, encode)  # before the processes fork: an error there would be retried for ever
    out.mkdir(parents=True, exist_ok=True)
    codes, captions, questions = [], [], []
    last = config.first + config.num_clips
    chunks = [range(start, min(start + CHUNK, last)) for start in range(config.first, last, CHUNK)]
    with get_context("fork").Pool(workers, torch.set_num_threads, (1,)) as pool:
        bar = tqdm(total=config.num_clips, desc="encoding", file=sys.stderr)
        for chunk_codes, chunk_captions, chunk_questions in pool.imap(_draw, chunks):
            codes.append(torch.from_numpy(chunk_codes))
            captions += chunk_captions
            questions += [[asdict(one) for one in about] for about in chunk_questions]
            bar.update(len(chunk_captions))
        bar.close()
    for name, rows in ((CAPTIONS_FILE, captions), (QUESTIONS_FILE, questions)):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        _replace(out / name, partial(Path.write_text, data=lines, encoding="utf-8"))
    _replace(out / INDEX_FILE, lambda path: path.write_text(json.dumps(config.to_dict(), indent=1)))
    _replace(out / CODES_FILE, lambda path: save_file({"codes": torch.cat(codes).contiguous()}, path))
    return out


def open_shard(folder: Path) -> Shard:
    """Read a shard. Raises DataError if it is missing or its parts differ in length."""
    if not (folder / CODES_FILE).exists():
        raise DataError(f"{folder} holds no codes. Make them with: kinolenta data encode {folder}")
    codes = load_file(folder / CODES_FILE)["codes"].long()
    captions, questions = _lines(folder / CAPTIONS_FILE), _lines(folder / QUESTIONS_FILE)
    require(
        len(captions) == len(questions) == len(codes),
        DataError,
        "{} has codes of {} clips, captions of {} and questions about {}. Encode it again.",
        folder,
        len(codes),
        len(captions),
        len(questions),
    )
    return Shard(codes, captions, [[Question(**one) for one in about] for about in questions])


def _lines(path: Path) -> list[Any]:
    if not path.exists():
        raise DataError(f"{path} is missing. Encode the folder again.")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


_clips: ClipSet
_config: CodesConfig
_encode: Callable[[np.ndarray], Tensor]


def _open(config: CodesConfig, cache: Path, encode: Callable[[np.ndarray], Tensor]) -> None:
    global _clips, _config, _encode
    _clips = ClipSet(
        cache,
        split=config.split,
        seed=config.seed,
        film_share=config.film_share,
        wandering=config.wandering,
    )
    _config, _encode = config, encode


def _draw(numbers: range) -> tuple[np.ndarray, list[list[str]], list[list[Question]]]:
    frames = np.stack([_clips.frames(number, _config.size, _config.num_frames) for number in numbers])
    captions = [[_clips.caption(number, n) for n in range(_config.wordings)] for number in numbers]
    questions = [_clips.questions(number, _config.wordings) for number in numbers]
    return _encode(frames).to(torch.int32).numpy(), captions, questions
