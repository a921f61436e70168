"""Films written: what a reader finds again, and that a file is whole or absent."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from kinolenta.errors import MediaError, ShapeError
from kinolenta.media import read_image, read_video, write, writer


def film(num_frames: int = 5, height: int = 16, width: int = 24) -> np.ndarray:
    """Smooth colours that move, as clips have and codecs like."""
    t, y, x = np.meshgrid(np.arange(num_frames), np.arange(height), np.arange(width), indexing="ij")
    channels = [120 + 100 * np.sin((x + 2 * t) / 8), 120 + 100 * np.cos(y / 8), 60 + 20 * t]
    return np.stack(channels, axis=-1).astype(np.uint8)


@pytest.mark.parametrize(("suffix", "error"), [("mp4", 4.0), ("webm", 4.0), ("gif", 8.0)])
def test_film_comes_back_nearly_the_same(tmp_path: Path, suffix: str, error: float) -> None:
    frames = film()
    path = write(frames, tmp_path / f"a.{suffix}", 8.0, scale=4)
    got, fps = read_video(path)
    assert got.shape == (5, 64, 96, 3) and fps == pytest.approx(8.0, rel=0.05)
    assert np.abs(got[:, 2::4, 2::4].astype(int) - frames).mean() < error


def test_strip_holds_the_frames_side_by_side(tmp_path: Path) -> None:
    frames = film()
    strip = read_image(write(frames, tmp_path / "a.png", 8.0, scale=2))
    assert strip.shape == (32, 5 * 48, 3)
    assert np.array_equal(strip[::2, ::2], np.concatenate(list(frames), axis=1))


def test_odd_sizes_are_filled_up_for_film_codecs(tmp_path: Path) -> None:
    assert read_video(write(film(2, 15, 17), tmp_path / "a.mp4", 8.0))[0].shape == (2, 16, 18, 3)


def test_single_frame_is_a_film(tmp_path: Path) -> None:
    assert read_video(write(film(1), tmp_path / "a.mp4", 8.0))[0].shape == (1, 16, 24, 3)


def test_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    for suffix in writer.SUFFIXES:
        one, two = (write(film(), tmp_path / f"{name}{suffix}", 8.0).read_bytes() for name in "ab")
        differing = [place for place, (a, b) in enumerate(zip(one, two, strict=False)) if a != b]
        assert one == two, f"{suffix} of {len(one)} and {len(two)} bytes; {differing[:20]}"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"scale": 1.5}, "scale is 1.5"), ({"scale": True}, "scale is True"), ({"scale": "a"}, "scale is 'a'"),
     ({"scale": 0}, "1 or more"), ({"overwrite": "no"}, "must be True or False")],
)  # fmt: skip
def test_options_of_other_types_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MediaError, match=message):
        write(film(), tmp_path / "a.gif", 8.0, **options)
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_kept_unless_overwriting_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    path.write_bytes(b"old")
    with pytest.raises(MediaError, match="exists already"):
        write(film(), path, 8.0)
    assert path.read_bytes() == b"old"
    write(film(), path, 8.0, overwrite=True)
    assert path.read_bytes()[:3] == b"GIF" and list(tmp_path.iterdir()) == [path]


def test_failure_while_encoding_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    to_av = writer._to_av

    def fail_late(image: np.ndarray, index: int, rate: object) -> av.VideoFrame:
        if index == 3:
            raise OSError(28, "No space left on device")
        return to_av(image, index, rate)  # type: ignore[arg-type]

    monkeypatch.setattr(writer, "_to_av", fail_late)
    with pytest.raises(MediaError, match=r"a\.mp4 cannot be written: No space left"):
        write(film(), path, 8.0, overwrite=True)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.txt", "known film suffix"),
        ("no/a.mp4", "no folder"),
        ("a.mp4\0", "known film"),
        ("a.mp4/", "names a folder"),
    ],
)
def test_impossible_outputs_are_refused_by_name(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(MediaError, match=words):
        write(film(), f"{tmp_path}/{name}", 8.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), 1e9])
def test_impossible_rates_are_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(MediaError, match="frame rate"):
        write(film(), tmp_path / "a.mp4", fps)


def test_frames_of_other_kinds_are_refused(tmp_path: Path) -> None:
    for bad in (film()[0], film().astype(np.float32), film()[:0]):
        with pytest.raises(ShapeError, match="uint8"):
            write(bad, tmp_path / "a.mp4", 8.0)
    with pytest.raises(MediaError, match="too wide"):
        write(np.zeros((700, 8, 100, 3), np.uint8), tmp_path / "a.png", 8.0)
    assert list(tmp_path.iterdir()) == []
