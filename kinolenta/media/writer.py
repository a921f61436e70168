"""Writes frames as a film (mp4, webm, gif) or as a contact strip (png), whole or not at all.

The same frames give the same bytes with the same FFmpeg libraries: the encoders run on one thread.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from kinolenta.errors import MediaError, ShapeError
from kinolenta.files import atomic_path, check_writable
from kinolenta.media.geometry import MAX_FPS, MAX_SIDE_PX, Frames

SUFFIXES = (".mp4", ".webm", ".gif", ".png")
MAX_STRIP_PX = 65_535
_FOREIGN = (av.FFmpegError, ValueError, MemoryError, OverflowError)


def check_output(path: str | Path, *, overwrite: bool = False) -> Path:
    """Refuse what ``write`` would refuse, before the work is done."""
    if not isinstance(overwrite, bool):
        raise MediaError(f"overwrite is {overwrite!r}; it must be True or False.")
    if str(path).endswith("/"):  # which Path would drop
        raise MediaError(f"{path} names a folder; name a file.")
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise MediaError(f"{path} has no known film suffix; use one of {', '.join(SUFFIXES)}.")
    return check_writable(path, MediaError, overwrite=overwrite)


def write(frames: Frames, path: str | Path, fps: float, *, overwrite: bool = False, scale: int = 1) -> Path:
    """Write uint8 RGB frames ``[T, H, W, 3]`` in the format that the suffix names; returns the path.

    .mp4: H.264, near lossless; .webm: VP9; .gif: with a palette made for this film; .png: all frames side by
    side. scale: every pixel becomes scale x scale pixels. Film codecs need even sides, so an odd last row or
    column is doubled. An existing file is kept unless ``overwrite``. Raises MediaError, ShapeError.
    """
    path = check_output(path, overwrite=overwrite)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise ShapeError(
            f"Frames must be uint8 [T, H, W, 3] and not empty; got {frames.dtype} {list(frames.shape)}."
        )
    if not 0 < fps <= MAX_FPS:
        raise MediaError(f"A frame rate must be above 0 and at most {MAX_FPS:g} per second; got {fps}.")
    scale = int(scale) if isinstance(scale, np.integer) else scale
    if not isinstance(scale, int) or isinstance(scale, bool) or scale < 1:
        raise MediaError(f"scale is {scale!r}; it must be a whole number, 1 or more.")
    height, width = frames.shape[1] * scale, frames.shape[2] * scale
    if max(height, width) > MAX_SIDE_PX:
        raise MediaError(f"{path} would have {width}x{height} px; a side may have 1 to {MAX_SIDE_PX} px.")
    with atomic_path(path, MediaError, overwrite=overwrite) as partial:
        try:
            _write(frames, partial, path.suffix.lower(), fps, scale)
        except MediaError:
            raise
        except _FOREIGN as error:
            reason = getattr(error, "strerror", None) or error
            raise MediaError(f"{path} cannot be written: {reason}.") from error
    return path


def _write(frames: Frames, partial: Path, suffix: str, fps: float, scale: int) -> None:
    if suffix == ".png":
        partial.write_bytes(_encode_png(np.concatenate([_enlarge(frame, scale) for frame in frames], axis=1)))
        return
    # crf 12 and 15 look lossless at these sizes; film players need 4:2:0. Unasked, x264 chooses by processor,
    # and the formats write random names and versions of their own (bitexact forbids it).
    name, codec, pixels, options = {
        ".mp4": (
            "mp4",
            "libx264",
            "yuv420p",
            {"crf": "12", "preset": "medium", "x264-params": "cpu-independent=1"},
        ),
        ".webm": ("webm", "libvpx-vp9", "yuv420p", {"crf": "15", "b": "0"}),
        ".gif": ("gif", "gif", "pal8", {}),
    }[suffix]
    rate = Fraction(fps).limit_denominator(1001)
    images = (_enlarge(frame, scale) for frame in frames)
    # FFmpeg gets an open file, not a name, because it reads names as addresses.
    exact = {"fflags": "+bitexact"}
    with open(partial, "wb") as file, av.open(file, "w", format=name, options=exact) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options)
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        source = _with_palette(images, rate) if suffix == ".gif" else _even(images, rate)
        for index, frame in enumerate(source):
            if index == 0:
                stream.width, stream.height = frame.width, frame.height
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _even(images: Iterator[Frames], rate: Fraction) -> Iterator[av.VideoFrame]:
    for index, image in enumerate(images):
        height, width = image.shape[:2]
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        yield _to_av(image, index, rate)


def _with_palette(images: Iterator[Frames], rate: Fraction) -> Iterator[Any]:
    """Quantise to the 256 colours that this film uses most, in FFmpeg's two-pass palette filters."""
    frames = [_to_av(image, index, rate) for index, image in enumerate(images)]
    graph: Any = av.filter.Graph()
    buffer = graph.add_buffer(
        width=frames[0].width, height=frames[0].height, format="rgb24", time_base=1 / rate
    )
    split, palette = graph.add("split"), graph.add("palettegen", "stats_mode=full:reserve_transparent=0")
    use, sink = graph.add("paletteuse", "dither=sierra2_4a"), graph.add("buffersink")
    buffer.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    for frame in frames:
        buffer.push(frame)
    buffer.push(None)
    for _ in frames:
        yield sink.pull()


def _to_av(image: Frames, index: int, rate: Fraction) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    frame.pts, frame.time_base = index, 1 / rate
    return frame


def _enlarge(image: Frames, scale: int) -> Frames:
    return image.repeat(scale, axis=0).repeat(scale, axis=1) if scale > 1 else image


def _encode_png(image: Frames) -> bytes:
    height, width = image.shape[:2]
    if width > MAX_STRIP_PX:
        raise MediaError(
            f"A strip of {width} px would be too wide for a png (at most {MAX_STRIP_PX}); write a film."
        )
    codec: Any = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = width, height, "rgb24", Fraction(1, 1)
    codec.thread_count = 1
    packets = codec.encode(_to_av(image, 0, Fraction(1, 1))) + codec.encode(None)
    return b"".join(bytes(packet) for packet in packets)
