"""Shards of codes: what is written is what is read, whole or not at all, in order whoever drew it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kinolenta.data import codes
from kinolenta.data.codes import CHUNK, CodesConfig, encode_codes, open_shard
from kinolenta.data.questions import Question
from kinolenta.errors import ConfigError, DataError


class NumberedClips:
    """Clip number i is a flat picture of colour i, and says so."""

    def __init__(self, cache: Path, *, split: str, seed: int, film_share: float, wandering: bool) -> None:
        if cache.name == "empty":
            raise DataError("there are no sprites")

    def frames(self, index: int, size: int, num_frames: int) -> np.ndarray:
        return np.full((num_frames, size, size, 3), index % 256, np.uint8)

    def caption(self, index: int, variant: int) -> str:
        return f"ролик {index}, {variant}"

    def questions(self, index: int, wordings: int) -> list[Question]:
        asked = ["что это?", "что тут?", "что там?"][:wordings]
        return [] if index % 5 == 0 else [Question("what", text, f"цвет {index}") for text in asked]


def first_pixels(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(frames[:, ::4, ::8, ::8, 0].astype(np.int64))


@pytest.fixture(autouse=True)
def numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "ClipSet", NumberedClips)


@pytest.mark.parametrize("num_frames", [17, 33])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_shard_holds_every_clip_in_order(tmp_path: Path, num_frames: int, workers: int) -> None:
    count = 2 * CHUNK + 3
    config = CodesConfig(num_clips=count, first=7, size=16, num_frames=num_frames, film_share=0.0, wordings=2)
    folder = encode_codes(config, first_pixels, tmp_path, tmp_path / "out", workers=workers)
    shard = open_shard(folder)
    assert len(shard) == count and shard.codes.shape == (count, 1 + num_frames // 4, 2, 2)
    assert shard.codes[:, 0, 0, 0].tolist() == list(range(7, 7 + count))
    assert shard.captions[3] == ["ролик 10, 0", "ролик 10, 1"]
    assert shard.questions[3] == []
    assert shard.questions[4] == [Question("what", f"что {place}?", "цвет 11") for place in ("это", "тут")]
    assert json.loads((folder / "codes.json").read_text()) == config.to_dict()
    assert not list(folder.glob(".*"))


def test_clips_that_cannot_be_drawn_are_an_error_and_not_a_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CodesConfig(num_clips=3, size=16, film_share=0.0)
    monkeypatch.setattr(codes, "get_context", None)  # a pool would try again for ever
    with pytest.raises(DataError, match="no sprites"):
        encode_codes(config, first_pixels, tmp_path / "empty", tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["codes.safetensors", "captions.jsonl", "questions.jsonl"])
def test_a_part_that_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    config = CodesConfig(num_clips=3, size=16, film_share=0.0)
    folder = encode_codes(config, first_pixels, tmp_path, tmp_path / "out", workers=1)
    (folder / missing).unlink()
    with pytest.raises(DataError, match=r"kinolenta data encode|is missing"):
        open_shard(folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_frames": 33}, "num_frames must be 17 with a film_share above 0"),
        ({"num_frames": 0, "film_share": 0.0}, "1 to 4096 without"),
        ({"num_clips": 0}, "num_clips must be positive"),
        ({"wordings": 0}, "wordings must be 1 to 64"),
        ({"wandering": True}, "no film among them; got train and film_share 0.02"),
        ({"wandering": True, "film_share": 0.0, "split": "dev"}, "are of the split train"),
    ],
)
def test_what_cannot_be_encoded_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        CodesConfig(**options)  # type: ignore[arg-type]
