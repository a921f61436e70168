"""A clip: its facts, its files, its face in a notebook."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest

from kinolenta.clip import Clip
from kinolenta.errors import ShapeError
from kinolenta.media import read_image, read_video


def clip(size: int = 64, **changes: object) -> Clip:
    frames = np.zeros((17, size, size, 3), dtype=np.uint8)
    frames[:, size // 2 :] = np.arange(0, 170, 10, dtype=np.uint8)[:, None, None, None]
    facts = {"fps": 8.0, "codes": np.zeros((5, 8, 8), np.int64), "prompt": "кот <b>", "seed": 3}
    return Clip(frames=frames, **(facts | changes))  # type: ignore[arg-type]


def test_length_and_duration() -> None:
    assert len(clip()) == 17 and clip().duration_s == 17 / 8


@pytest.mark.parametrize(
    ("size", "suffix", "wanted"), [(64, "mp4", 256), (128, "gif", 256), (260, "mp4", 260)]
)
def test_small_films_are_enlarged_when_saved(tmp_path: Path, size: int, suffix: str, wanted: int) -> None:
    frames, fps = read_video(clip(size).save(tmp_path / f"a.{suffix}"))
    assert frames.shape == (17, wanted, wanted, 3) and fps == pytest.approx(8.0, rel=0.05)


def test_strips_are_not_enlarged_unless_asked(tmp_path: Path) -> None:
    assert read_image(clip().save(tmp_path / "a.png")).shape == (64, 17 * 64, 3)
    assert read_image(clip().save(tmp_path / "b.png", scale=2)).shape == (128, 17 * 128, 3)


def test_facts_cannot_be_changed_and_are_short_to_print() -> None:
    with pytest.raises(AttributeError):
        clip().seed = 4  # type: ignore[misc]
    assert len(repr(clip())) < 200


def test_frames_of_another_kind_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"uint8 \[T, H, W, 3\]"):
        Clip(frames=np.zeros((2, 8, 8)), fps=8.0, codes=np.zeros(1, int), prompt="", seed=0)  # type: ignore[arg-type]


def test_notebook_shows_a_film_and_escapes_the_prompt(tmp_path: Path) -> None:
    page = clip()._repr_html_()
    found = re.search(r"base64,([^\"]+)\"", page)
    assert found is not None and "<b>" not in page and "кот &lt;b&gt;" in page
    (tmp_path / "a.mp4").write_bytes(base64.b64decode(found[1]))
    assert len(read_video(tmp_path / "a.mp4")[0]) == 17
