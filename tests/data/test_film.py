"""The film: its table of takes, windows inside takes, and square crops of a made-up film."""

import io
import tarfile
import zipfile
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from kinolenta.data import film
from kinolenta.data.film import SPLITS, FilmBank, Take, Window, build_film, names_a_side, takes
from kinolenta.data.sources import by_name
from kinolenta.errors import DataError, ShapeError


def take(start_f: int, end_f: int, shot: int = 0, split: str = "train", caption: str = "кролик") -> Take:
    return Take(shot=shot, start_f=start_f, end_f=end_f, split=split, focus=50, caption=caption)


def window(focus: int = 50, caption: str = "кролик", num_frames: int = 2) -> Window:
    return Window(shot=0, start=0, num_frames=num_frames, focus=focus, caption=caption)


@pytest.fixture
def ramp() -> np.ndarray:
    """A film whose red is the column and whose green is the frame number."""
    frames = np.zeros((20, film.HEIGHT_PX, film.WIDTH_PX, 3), np.uint8)
    frames[..., 0] = np.arange(film.WIDTH_PX)
    frames[..., 1] = np.arange(20)[:, None, None]
    return frames


def test_takes_are_in_order_apart_and_inside_the_film() -> None:
    table = takes()
    assert all(left.end_f <= right.start_f for left, right in pairwise(table))
    assert all(0 <= item.start_f < item.end_f <= film.NUM_SOURCE_FRAMES for item in table)
    assert all(item.split in SPLITS and 0 <= item.focus <= 100 for item in table)


def test_dev_is_twelve_whole_shots_spread_over_the_film() -> None:
    splits: dict[int, set[str]] = {}
    for item in takes():
        splits.setdefault(item.shot, set()).add(item.split)
    dev = [shot for shot, names in splits.items() if "dev" in names]
    assert len(dev) == 12 and all(len(names) == 1 for names in splits.values())
    assert min(dev) < 20 and max(dev) > 120
    windows = FilmBank(None, takes()).windows("dev")
    assert {item.shot for item in windows} == set(dev)


def test_captions_are_clean_russian_lines() -> None:
    captions = [item.caption for item in takes() if item.caption]
    assert len(captions) >= 110
    allowed = set("абвгдеёжзийклмнопрстуфхцчшщъыьэюя ,-")
    assert all(set(caption) <= allowed and caption == caption.strip() for caption in captions)
    assert all("  " not in caption and 2 <= len(caption.split()) <= 14 for caption in captions)


def test_no_dev_caption_is_a_training_caption() -> None:
    captions = {split: {item.caption for item in takes() if item.split == split} for split in SPLITS}
    assert not captions["dev"] & captions["train"]


@pytest.mark.parametrize("num_frames, stride", [(1, 1), (5, 2), (17, 3)])
def test_windows_stay_inside_their_take(num_frames: int, stride: int) -> None:
    table = (take(0, 100), take(100, 157, shot=1), take(157, 170, shot=2))
    windows = FilmBank(None, table).windows("train", num_frames=num_frames, stride=stride)
    assert len(windows) > 0
    for item in windows:
        [owner] = [one for one in table if one.shot == item.shot]
        assert owner.start_f < 3 * item.start and 3 * (item.start + num_frames - 1) < owner.end_f - 1
    starts = [item.start for item in windows if item.shot == 0]
    assert set(np.diff(starts)) <= {stride}


def test_take_that_is_too_short_has_no_window() -> None:
    bank = FilmBank(None, (take(0, 54),))  # rows 1 to 17: source frames 3 to 51
    assert len(bank.windows("train", num_frames=17)) == 1
    assert bank.windows("train", num_frames=18) == []


def test_takes_without_a_caption_are_only_for_the_decoder() -> None:
    bank = FilmBank(None, (take(0, 90, caption=""), take(90, 180, shot=1)))
    assert {item.shot for item in bank.windows("train")} == {1}
    assert {item.shot for item in bank.windows("train", captioned=False)} == {0, 1}
    with pytest.raises(DataError, match="no split 'test'"):
        bank.windows("test")


def test_clip_without_rng_is_centred_on_the_focus(ramp: np.ndarray) -> None:
    bank = FilmBank(ramp, ())
    clip = bank.clip(window(focus=50), 128)
    assert clip.shape == (2, 128, 128, 3) and clip.dtype == np.uint8
    assert clip[0, 0, 0, 0] == 50 and clip[0, 0, -1, 0] == 177 and clip[1, 0, 0, 1] == 1
    assert bank.clip(window(focus=0), 128)[0, 0, 0, 0] == 0
    assert bank.clip(window(focus=100), 128)[0, 0, -1, 0] == film.WIDTH_PX - 1


def test_clip_is_reduced_by_averaging_areas(ramp: np.ndarray) -> None:
    ramp[..., 2] = 255 * (np.indices((film.HEIGHT_PX, film.WIDTH_PX)).sum(0) % 2)
    clip = FilmBank(ramp, ()).clip(window(num_frames=17), 64)
    assert clip.shape == (17, 64, 64, 3)
    assert set(np.unique(clip[..., 2])) <= {127, 128}, "a checkerboard of single pixels averages to grey"


def test_random_clips_vary_but_stay_near_the_focus(ramp: np.ndarray) -> None:
    bank = FilmBank(ramp, ())
    middles = [
        float(bank.clip(window(), 64, np.random.default_rng(seed))[0, 32, 32, 0]) for seed in range(40)
    ]
    assert np.ptp(middles) > 20 and all(abs(middle - 114) < 32 for middle in middles)
    again = bank.clip(window(), 64, np.random.default_rng(3))
    assert np.array_equal(again, bank.clip(window(), 64, np.random.default_rng(3)))


def test_clip_is_mirrored_unless_the_caption_names_a_side(ramp: np.ndarray) -> None:
    bank = FilmBank(ramp, ())

    def mirrored(caption: str) -> set[bool]:
        clips = [bank.clip(window(caption=caption), 64, np.random.default_rng(seed)) for seed in range(20)]
        return {bool(clip[0, 0, 0, 0] > clip[0, 0, -1, 0]) for clip in clips}

    assert mirrored("кролик идёт") == {True, False}
    assert mirrored("кролик идёт влево") == {False}


@pytest.mark.parametrize(
    "caption, named",
    [
        ("белка бежит налево", True),
        ("Справа стоит дерево", True),
        ("в левом углу камень", True),
        ("правая лапа", True),
        ("белка прыгает, расправив лапы", False),
        ("кролик правит лодкой", False),
        ("лев спит", False),
    ],
)
def test_sides_are_found_as_words(caption: str, named: bool) -> None:
    assert names_a_side(caption) is named


@pytest.mark.parametrize("size", [0, 129])
def test_clip_larger_than_the_film_is_refused(ramp: np.ndarray, size: int) -> None:
    with pytest.raises(ShapeError, match="128"):
        FilmBank(ramp, ()).clip(window(), size)


def film_archive(cache: Path, num_frames: int, rate: int = 24) -> None:
    """A package like the real one: a zip in a sdist, with a film of flat pictures that grow brighter."""
    av = pytest.importorskip("av")
    path = cache / "bbb.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(rate))
        stream.width, stream.height, stream.pix_fmt = 64, 36, "yuv420p"
        for number in range(num_frames):
            picture = np.full((36, 64, 3), 15 * number, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w") as inner:
        inner.write(path, "moviepy_10_minutes/resources/bbb.mp4")
    path.unlink()
    (cache / "archives").mkdir()
    with tarfile.open(cache / "archives" / by_name("moviepy").archive, "w:gz") as tar:
        info = tarfile.TarInfo("moviepy-2.2.1/docs/moviepy_10_minutes.zip")
        info.size = len(bundle.getvalue())
        tar.addfile(info, io.BytesIO(bundle.getvalue()))


def test_film_is_packed_at_every_third_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "NUM_SOURCE_FRAMES", 10)
    film_archive(tmp_path, 10)
    path = build_film(tmp_path, progress=False)
    assert [item.name for item in tmp_path.glob("*film*")] == ["film.safetensors"]
    clip = FilmBank.load(tmp_path).clip(window(num_frames=4), 16)
    assert clip.mean(axis=(1, 2, 3)) == pytest.approx([0, 45, 90, 135], abs=8)
    (tmp_path / "archives" / by_name("moviepy").archive).unlink()
    assert build_film(tmp_path, progress=False) == path


@pytest.mark.parametrize(
    "num_frames, rate, said", [(7, 24, "3 of 4"), (14, 24, "longer"), (10, 25, "25 fps")]
)
def test_other_film_than_expected_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_frames: int, rate: int, said: str
) -> None:
    monkeypatch.setattr(film, "NUM_SOURCE_FRAMES", 10)
    film_archive(tmp_path, num_frames, rate)
    with pytest.raises(DataError, match=said):
        build_film(tmp_path, progress=False)
    assert [item.name for item in tmp_path.iterdir()] == ["archives"]


def test_missing_or_damaged_film_says_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="kinolenta data fetch"):
        FilmBank.load(tmp_path)
    (tmp_path / "film.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match="damaged or old"):
        FilmBank.load(tmp_path)
