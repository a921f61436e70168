"""Pictures and films read back: pixels, orientation, transparency, rate, limits."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageOps

from kinolenta.errors import MediaError
from kinolenta.media import read_image, read_video, reader, write


def picture(height: int = 32, width: int = 64, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def lossless_film(path: Path, frames: np.ndarray, times_ms: list[int]) -> Path:
    """A film whose frames come back bit for bit, at the given times."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        for image, time_ms in zip(frames, times_ms, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff"])
def test_lossless_picture_comes_back_exactly(tmp_path: Path, suffix: str) -> None:
    pixels = picture()
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(read_image(tmp_path / f"a.{suffix}"), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(picture()).save(path, exif=exif)
    with Image.open(path) as image:
        assert np.array_equal(read_image(path), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_is_cut_off_is_refused(tmp_path: Path, progressive: bool) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(picture(64, 64)).save(path, progressive=progressive)
    whole = path.read_bytes()
    assert read_image(path).shape == (64, 64, 3)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match="Is the file whole"):
        read_image(path)


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), dtype=np.uint8)
    pixels[..., 0] = 200
    pixels[:, 0, 3], pixels[:, 1, 3], pixels[:, 2:, 3] = 0, 128, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    got = read_image(tmp_path / "a.png")
    assert got[0].tolist() == [[255, 255, 255], [227, 127, 127], [200, 0, 0], [200, 0, 0]]
    assert np.array_equal(got, read_image(pixels))
    assert np.array_equal(got, read_image(Image.fromarray(pixels)))


@pytest.mark.parametrize("mode", ["P", "L", "LA", "1"])
def test_other_pixel_formats_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(picture()).convert(mode)
    image.save(tmp_path / "a.png")
    wanted = np.asarray(image.convert("RGBA"))[..., :4]
    assert np.abs(read_image(tmp_path / "a.png").astype(int) - read_image(wanted)).max() <= 1


def test_film_comes_back_exactly_with_its_rate(tmp_path: Path) -> None:
    frames = np.stack([picture(seed=seed) for seed in range(5)])
    path = lossless_film(tmp_path / "a.mkv", frames, [0, 125, 250, 375, 500])
    got, fps = read_video(path)
    assert np.array_equal(got, frames) and fps == pytest.approx(8.0)


def test_frames_at_uneven_times_are_laid_on_an_even_grid(tmp_path: Path) -> None:
    frames = np.stack([picture(seed=seed) for seed in range(5)])
    path = lossless_film(tmp_path / "a.mkv", frames, [0, 100, 200, 700, 800])
    got, fps = read_video(path)
    assert fps == pytest.approx(10.0)
    assert np.array_equal(got, frames[[0, 1, 2, 2, 2, 2, 2, 3, 4]])


def test_only_the_beginning_is_read_on_request(tmp_path: Path) -> None:
    frames = np.stack([picture(seed=seed) for seed in range(5)])
    path = lossless_film(tmp_path / "a.mkv", frames, [0, 125, 250, 375, 500])
    assert np.array_equal(read_video(path, max_frames=3)[0], frames[:3])
    assert np.array_equal(read_video(path, max_duration_s=0.25)[0], frames[:2])


def test_file_is_read_under_any_name(tmp_path: Path) -> None:
    frames = np.zeros((2, 16, 16, 3), dtype=np.uint8)
    path = write(frames, tmp_path / "a.mp4", 8.0).rename(tmp_path / "фильм %03d.txt")
    assert read_video(path)[0].shape == (2, 16, 16, 3)


def test_oversized_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    )
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    with pytest.raises(MediaError, match=r"bomb\.png"):
        read_image(tmp_path / "bomb.png")


def test_limits_on_frames_time_and_bytes_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.stack([picture(seed=seed) for seed in range(5)])
    path = lossless_film(tmp_path / "a.mkv", frames, [0, 125, 250, 375, 500])
    for name, limit, words in (
        ("MAX_FRAMES", 4, "more than 4 frames"),
        ("MAX_DURATION_S", 0.3, "longer than 0.3 s"),
        ("MAX_DECODED_BYTES", frames.nbytes - 1, "decodes to more than"),
        ("MAX_VIDEO_BYTES", 10, "at most 10 are read"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(reader, name, limit)
            with pytest.raises(MediaError, match=words):
                read_video(path)
    assert len(read_video(path)[0]) == 5


def test_size_change_inside_a_film_is_refused(tmp_path: Path) -> None:
    small, large = tmp_path / "s.ts", tmp_path / "l.ts"
    for path, side in ((small, 32), (large, 64)):
        with av.open(str(path), "w", format="mpegts") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.height = stream.width = side
            stream.pix_fmt = "yuv420p"
            for index in range(3):
                frame = av.VideoFrame.from_ndarray(np.zeros((side, side, 3), np.uint8), format="rgb24")
                frame.pts = index
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    (tmp_path / "a.ts").write_bytes(small.read_bytes() + large.read_bytes())
    with pytest.raises(MediaError, match="changes its size from 32x32 to 64x64"):
        read_video(tmp_path / "a.ts")


@pytest.mark.parametrize("bad", [picture(4, 4, 2), picture(4, 4).astype(np.float32), picture(4, 4)[0]])
def test_arrays_of_other_kinds_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(MediaError, match="must be uint8"):
        read_image(bad)


def test_other_objects_are_refused() -> None:
    with pytest.raises(MediaError, match="got int"):
        read_image(7)
