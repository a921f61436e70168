"""Sizes and rates: laws that hold for all of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinolenta.errors import MediaError, ShapeError
from kinolenta.media import resample, resize


def numbered(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1).repeat(3, axis=3)


@pytest.mark.parametrize(
    ("count", "fps_from", "fps_to", "wanted"),
    [
        (4, 8.0, 8.0, [0, 1, 2, 3]),
        (6, 24.0, 8.0, [0, 3]),
        (2, 8.0, 24.0, [0, 0, 0, 1, 1, 1]),
        (5, 25.0, 10.0, [0, 2]),
        (1, 25.0, 8.0, [0]),
    ],
)
def test_resampling_shows_what_is_on_the_screen(
    count: int, fps_from: float, fps_to: float, wanted: list[int]
) -> None:
    assert resample(numbered(count), fps_from, fps_to)[:, 0, 0, 0].tolist() == wanted


@given(count=st.integers(1, 60), rates=st.tuples(st.floats(0.5, 120), st.floats(0.5, 120)))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_resampling_keeps_order_and_duration(count: int, rates: tuple[float, float]) -> None:
    shown = resample(numbered(count), *rates)[:, 0, 0, 0].astype(int)
    assert shown[0] == 0 and (np.diff(shown) >= 0).all() and shown[-1] < count
    assert len(shown) == max(1, round(count * rates[1] / rates[0]))


def test_impossible_rates_are_refused() -> None:
    for rates in ((0.0, 8.0), (8.0, float("inf")), (float("nan"), 8.0)):
        with pytest.raises(MediaError, match="frame rate"):
            resample(numbered(3), *rates)


def test_cover_cuts_from_the_middle() -> None:
    frames = np.zeros((1, 8, 24, 3), np.uint8)
    frames[:, :, 8:16] = 200
    assert (resize(frames, 8) == 200).all()
    assert np.array_equal(resize(frames, 8), frames[:, :, 8:16])


def test_contain_shows_everything_between_white_bars() -> None:
    frames = np.full((2, 8, 16, 3), 77, np.uint8)
    got = resize(frames, (16, 16), "contain")
    assert (got[:, :4] == 255).all() and (got[:, 4:12] == 77).all() and (got[:, 12:] == 255).all()


def test_exact_names_the_size_wanted() -> None:
    frames = np.zeros((1, 8, 16, 3), np.uint8)
    assert resize(frames, (8, 16), "exact") is frames
    with pytest.raises(ShapeError, match=r"16x8 px; 64x64 px are wanted"):
        resize(frames, 64, "exact")


@given(
    old=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    new=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    policy=st.sampled_from(["cover", "contain"]),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_every_size_comes_out_as_asked_and_white_stays_white(
    old: tuple[int, int], new: tuple[int, int], policy: str
) -> None:
    got = resize(np.full((2, *old, 3), 255, np.uint8), new, policy)  # type: ignore[arg-type]
    assert got.shape == (2, *new, 3) and (got == 255).all()


def test_one_image_stays_one_image() -> None:
    assert resize(np.zeros((9, 7, 3), np.uint8), 4).shape == (4, 4, 3)


def test_impossible_sizes_and_arrays_are_refused() -> None:
    frames = np.zeros((1, 8, 8, 3), np.uint8)
    for size in (0, -4, 100_000, (8, 0)):
        with pytest.raises(ShapeError, match="a side may be"):
            resize(frames, size)
    with pytest.raises(ShapeError, match="must be uint8"):
        resize(frames.astype(np.float32), 4)
    with pytest.raises(ShapeError, match="Unknown resize policy"):
        resize(frames, 4, "stretch")  # type: ignore[arg-type]
