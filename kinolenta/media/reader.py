"""Reads pictures and films that nobody vouches for.

A file is opened here, as a regular file, and FFmpeg sees only its bytes and a list of the formats that it may
try: a text file cannot send it to other files or to the network. Sizes are checked as pixels are decoded;
what a header declares is never trusted.
"""

import codecs
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from kinolenta.errors import MediaError
from kinolenta.media.geometry import MAX_SIDE_PX, Frames
from kinolenta.media.orientation import ORIENTATION_TAG, from_exif, from_rotation, upright

MAX_IMAGE_BYTES = 64_000_000
MAX_VIDEO_BYTES = 2_000_000_000
MAX_FRAME_PX = MAX_SIDE_PX * MAX_SIDE_PX
MAX_FRAMES = 36_000
MAX_DURATION_S = 600.0
MAX_DECODED_BYTES = 2_000_000_000
DEFAULT_FPS = 25.0  # of a film with a single frame, whose rate nothing tells

_IMAGE_FORMATS = "png_pipe,jpeg_pipe,bmp_pipe,webp_pipe,tiff_pipe,gif"
_VIDEO_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,gif,avi,mpegts,mpeg,ogg,flv,apng"
_FOREIGN = (av.FFmpegError, OSError, UnicodeDecodeError, ValueError, MemoryError, OverflowError, EOFError)


def read_image(source: Any) -> Frames:
    """One picture as uint8 RGB ``[H, W, 3]``.

    source: a path (PNG, JPEG, BMP, WebP, TIFF, or the first frame of a GIF; at most 64 MB), a PIL image, or a
    uint8 array ``[H, W, 3]`` or ``[H, W, 4]``. Rotation tags are applied, and transparent pixels are laid
    over white. At most 4096 px a side. Raises MediaError that names the file and what it holds.
    """
    if isinstance(source, (str, Path)):
        return _read_image_file(Path(source))
    if isinstance(source, np.ndarray):
        return _check_array(source, "The image")
    if hasattr(source, "convert") and hasattr(source, "size"):  # a PIL image; Pillow itself is not required
        width, height = source.size
        _check_size(width, height, "The image")
        mode = getattr(source, "mode", "RGB")
        if mode[0] in "IF":
            raise MediaError(f"The image has the mode {mode}, more than 8 bits a value; convert it to RGB.")
        with _named_errors("The image"):
            turned = source.getexif().get(ORIENTATION_TAG, 1) if hasattr(source, "getexif") else 1
            pixels = _on_white(np.asarray(source.convert("RGBA"), dtype=np.uint8))
        return upright(pixels, turned if turned in range(1, 9) else 1)
    raise MediaError(f"An image must be a path, a PIL image or a uint8 array; got {type(source).__name__}.")


def read_video(
    path: str | Path, *, max_frames: int | None = None, max_duration_s: float | None = None
) -> tuple[Frames, float]:
    """A film as (uint8 RGB ``[T, H, W, 3]``, frames per second); a GIF too.

    max_frames, max_duration_s: read only the beginning. Without them a film above 36,000 frames or 600 s is
    refused, as are a file above 2 GB, a side above 4096 px, and more than 2 GB of decoded pixels. Frames at
    uneven times are laid on an even grid, at the median rate. Raises MediaError that names the file and what
    it holds.
    """
    path = Path(path)
    film = _Film(path)
    with _open_regular(path, MAX_VIDEO_BYTES) as file, _named_errors(path):
        for frame, time_s in _decode(file, path, _VIDEO_FORMATS):
            late = max_duration_s is not None and film.times and time_s - film.times[0] >= max_duration_s
            if late and len(film.times) >= 2:  # two tell the rate, however slow
                break
            film.add(upright(_pixels(frame), from_rotation(frame.rotation)), time_s)
            if max_frames is not None and len(film.times) >= max_frames:
                break
        return film.finish()


def _read_image_file(path: Path) -> Frames:
    with _open_regular(path, MAX_IMAGE_BYTES) as file:
        data = file.read(MAX_IMAGE_BYTES + 1)
    with _named_errors(path):
        for frame, _ in _decode(io.BytesIO(data), path, _IMAGE_FORMATS):
            return upright(_pixels(frame), from_exif(data))
    raise MediaError(f"{path} holds no picture: nothing could be decoded from it.")


@dataclass
class _Film:
    """Frames as they arrive, with the limits that hold for all of them together."""

    path: Path
    frames: list[Frames] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    decoded_bytes: int = 0

    def add(self, pixels: Frames, time_s: float) -> None:
        if self.frames and pixels.shape != self.frames[0].shape:
            old, new = self.frames[0].shape, pixels.shape
            raise MediaError(
                f"{self.path} changes its size from {old[1]}x{old[0]} to {new[1]}x{new[0]} px; "
                "convert it to one size."
            )
        self.decoded_bytes += pixels.nbytes
        if len(self.frames) >= MAX_FRAMES:
            raise MediaError(f"{self.path} has more than {MAX_FRAMES} frames; cut a shorter part of it.")
        if self.times and time_s - self.times[0] > MAX_DURATION_S:
            raise MediaError(f"{self.path} is longer than {MAX_DURATION_S:g} s; cut a shorter part of it.")
        if self.decoded_bytes > MAX_DECODED_BYTES:
            raise MediaError(f"{self.path} decodes to more than {MAX_DECODED_BYTES} bytes; cut it.")
        self.frames.append(pixels)
        self.times.append(time_s)

    def finish(self) -> tuple[Frames, float]:
        if not self.frames:
            raise MediaError(f"{self.path} has a video stream but no frames; the file may be cut off.")
        order = np.argsort(self.times, kind="stable")
        times = np.asarray(self.times)[order]
        length_s = times[-1] - times[0]
        if length_s <= 0:
            return np.stack(self.frames), DEFAULT_FPS
        fps = float((len(times) - 1) / length_s)
        grid = times[0] + np.arange(len(times)) / fps
        if np.abs(times - grid).max() >= 0.5 / fps:  # half a frame out of step: the rate varies
            gaps = np.diff(times)
            fps = float(min(120.0, 1.0 / max(1e-3, np.median(gaps[gaps > 0]))))
            count = int(length_s * fps + 1e-6) + 1
            if count > MAX_FRAMES or count * self.frames[0].nbytes > MAX_DECODED_BYTES:
                raise MediaError(f"{self.path} has very uneven times; convert it to a constant rate.")
            grid = times[0] + np.arange(count) / fps
            order = order[np.searchsorted(times, grid + 1e-6, side="right") - 1]
        return np.stack([self.frames[index] for index in order]), fps


class _Bytes:
    """What FFmpeg may see of a file: its bytes, not its name, which also steers the guess of a format."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


@contextmanager
def _open_regular(path: Path, max_bytes: int) -> Iterator[BinaryIO]:
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer before its kind can be seen.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise MediaError(f"{path} does not exist. Check the path.") from error
    except (OSError, ValueError) as error:
        raise MediaError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}.") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise MediaError(f"{path} is not a regular file (a folder, a pipe or a device).")
        if status.st_size == 0:
            raise MediaError(f"{path} is empty (0 bytes). Pass a picture or a film.")
        if status.st_size > max_bytes:
            raise MediaError(f"{path} is {status.st_size} bytes; at most {max_bytes} are read.")
    except MediaError:
        os.close(descriptor)
        raise
    with os.fdopen(descriptor, "rb") as file:
        yield file


@contextmanager
def _named_errors(path: Path | str) -> Iterator[None]:
    try:
        yield
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaError(f"{path} needs more memory than there is; cut or scale it down.") from error
    except _FOREIGN as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise MediaError(f"{path} cannot be decoded: {reason}. Is the file whole?") from error


def _decode(file: Any, path: Path, formats: str) -> Iterator[tuple[av.VideoFrame, float]]:
    """Decoded frames and their times in seconds; nothing of the container is touched after it is closed."""
    try:
        container = av.open(_Bytes(file), "r", options={"format_whitelist": formats})
    except _FOREIGN as error:
        picture = formats == _IMAGE_FORMATS
        kind, wanted = ("a picture", "PNG or JPEG") if picture else ("a film", "mp4 or webm")
        raise MediaError(
            f"{path} is not {kind} that can be read{_found_instead(path, formats)}. "
            f"Pass a file such as {wanted}."
        ) from error
    with container:
        if not container.streams.video:
            kinds = sorted({stream.type or "unknown" for stream in container.streams})
            found = ", ".join(f"{sum(s.type == kind for s in container.streams)} {kind}" for kind in kinds)
            raise MediaError(f"{path} has no video stream (found: {found or 'nothing'}). Pass a film.")
        stream: Any = container.streams.video[0]
        if stream.codec_context is None:
            raise MediaError(f"{path} holds pictures in a coding that is unknown here; convert it to H.264.")
        _check_size(stream.codec_context.width, stream.codec_context.height, str(path), declared=True)
        options = {"max_pixels": str(MAX_FRAME_PX)}
        if formats == _IMAGE_FORMATS:  # or the missing part of a cut-off JPEG would be filled with one colour
            options["err_detect"] = "explode"
        stream.codec_context.options = options
        stream.codec_context.thread_count = 1
        time_s, step_s = 0.0, 1.0 / float(stream.average_rate or DEFAULT_FPS)
        for frame in container.decode(stream):
            _check_size(frame.width, frame.height, str(path))
            time_s = float(frame.time) if frame.time is not None else time_s + step_s
            yield frame, time_s


def _found_instead(path: Path, formats: str) -> str:
    """What the first bytes look like, for the message; says nothing where it is not clear."""
    with open(path, "rb") as file:
        head = file.read(4096)
    if formats == _IMAGE_FORMATS and (head[4:8] == b"ftyp" or head[:4] == b"\x1aE\xdf\xa3"):
        return " (it looks like a film)"
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"BM")) and formats == _VIDEO_FORMATS:
        return " (it looks like a picture)"
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last letter may be cut in two
    except UnicodeDecodeError:
        return ""
    return " (it looks like text)" if text and "\0" not in text else ""


def _pixels(frame: Any) -> Frames:
    if frame.format.has_palette or any(component.is_alpha for component in frame.format.components):
        return _on_white(frame.to_ndarray(format="rgba"))
    return frame.to_ndarray(format="rgb24")


def _on_white(rgba: NDArray[np.uint8]) -> Frames:
    """Lay RGBA pixels over white, rounded to the nearest value."""
    alpha = rgba[..., 3:].astype(np.uint16)
    colour = rgba[..., :3].astype(np.uint16)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _check_array(array: NDArray[Any], name: str) -> Frames:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] not in (3, 4):
        raise MediaError(f"{name} must be uint8 [H, W, 3 or 4]; got {array.dtype} {list(array.shape)}.")
    _check_size(array.shape[1], array.shape[0], name)
    return np.ascontiguousarray(array) if array.shape[-1] == 3 else _on_white(array)


def _check_size(width: int, height: int, name: str, *, declared: bool = False) -> None:
    """A header may declare 0x0 (PNG before its first frame); decoded pixels may not."""
    if width > MAX_SIDE_PX or height > MAX_SIDE_PX:
        raise MediaError(
            f"{name} is {width}x{height} px; at most {MAX_SIDE_PX} px a side are read. Scale it down."
        )
    if not declared and (width < 1 or height < 1):
        raise MediaError(f"{name} has no pixels ({width}x{height}).")
