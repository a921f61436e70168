"""The drawings of the demo world as RGBA pixels: every noun in every style, and the animated ones as loops.

The invariant: the visible part of a sprite touches the border of its square and is centred along its
shorter side, so a renderer that places the square has placed the drawing. The frames of an animation share
one square.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from importlib.util import find_spec
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from kinolenta.data.fetch import FETCH_FIRST, archive_path, cache_dir, members, read_member
from kinolenta.data.scene import STYLES, nouns
from kinolenta.errors import DataError, require

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from PIL.Image import Image

SPRITE_PX = 96
FRAME_STEP = 3  # source frames of 42 ms -> 8 frames a second
ANIMATION_SOURCES = tuple(f"fluent-emoji-anim-{part}" for part in (1, 2, 3, 4))
_ICON_SOURCES = {"fluent-flat": "fluent-emoji-flat", "noto": "noto", "twemoji": "twemoji"}
_SOURCE_PX = 384  # drawings are rastered this large, then cropped and reduced
_VISIBLE = (
    12  # alpha of 255 from which a pixel belongs to the drawing: soft edges of lossy files are noise below
)
_FORMAT = "1"  # raised when the packed pixels change for the same nouns


def build_sprites(cache: str | Path | None = None, progress: bool = True, processes: int = 2) -> Path:
    """Pack the drawings of every noun into ``sprites.safetensors`` in the cache; returns its path.

    A pack that fits the noun table is kept. Takes about a minute else. ``processes`` decode the animations.
    Raises DataError if a source is missing or has no drawing of a noun.
    """
    from safetensors.numpy import save_file

    target = cache_dir(cache) / "sprites.safetensors"
    if target.is_file() and _manifest_of(target) == _manifest():
        return target
    for module in ("PIL", "resvg_py"):
        found = find_spec(module) is not None
        require(found, DataError, "Drawing sprites needs {}. Run: pip install 'kinolenta[data]'.", module)
    pack: dict[str, np.ndarray] = {}
    codes = tuple(nouns())
    for style in STYLES:
        drawings = _raster_3d(cache, codes) if style == "fluent-3d" else _raster_icons(cache, style, codes)
        for code, drawing in _counted(drawings, style, len(codes), progress):
            pack[f"{style}/{code}"] = _squared([drawing])[0]
    moving = [code for code, noun in nouns().items() if noun.animated]
    for code, frames in _counted(_animations(cache, moving, processes), "animated", len(moving), progress):
        pack[f"animated/{code}"] = frames
    wanted = [f"{style}/{code}" for style in STYLES for code in codes] + [
        f"animated/{code}" for code in moving
    ]
    missing = [key for key in wanted if key not in pack]
    require(
        not missing, DataError, "The sources have no drawing for {}. Take them out of nouns.tsv.", missing
    )
    part = target.with_name(f".{target.name}.{os.getpid()}")
    save_file(pack, part, metadata=_manifest())
    os.replace(part, target)
    return target


class SpriteBank:
    """The packed drawings, read once into memory (about 150 MB for 260 nouns)."""

    def __init__(self, tensors: Mapping[str, "UInt8[np.ndarray, '...']"]) -> None:
        self._tensors = dict(tensors)
        self.codes = tuple(dict.fromkeys(key.split("/")[1] for key in self._tensors))

    @classmethod
    def load(cls, cache: str | Path | None = None) -> "SpriteBank":
        """Read what ``build_sprites`` wrote. Raises DataError if it is missing or of another noun table."""
        from safetensors.numpy import load_file

        path = cache_dir(cache) / "sprites.safetensors"
        require(path.is_file(), DataError, "{} is missing. {}", path, FETCH_FIRST)
        fits = _manifest_of(path) == _manifest()
        require(fits, DataError, "{} was packed for other nouns. Run 'kinolenta data fetch' again.", path)
        bank = cls(load_file(path))
        bank.codes = tuple(nouns())
        return bank

    def sprite(self, code: str, style: str) -> "UInt8[np.ndarray, 's s 4']":
        """One drawing, straight (not premultiplied) RGBA, s = 96. Raises DataError if there is none."""
        return self._tensor(f"{style}/{code}", "{} has no drawing in style {}.", code, style)

    def styles(self, code: str) -> tuple[str, ...]:
        """The still styles that a noun is drawn in."""
        return tuple(style for style in STYLES if f"{style}/{code}" in self._tensors)

    def animation(self, code: str) -> "UInt8[np.ndarray, 'n s s 4'] | None":
        """The loop of a noun at 8 frames a second, or None if it is not animated."""
        return self._tensors.get(f"animated/{code}")

    def _tensor(self, key: str, message: str, *values: object) -> np.ndarray:
        require(key in self._tensors, DataError, message, *values)
        return self._tensors[key]


def _manifest() -> dict[str, str]:
    drawn = [[code, noun.animated] for code, noun in nouns().items()]
    content = json.dumps([drawn, STYLES, SPRITE_PX, FRAME_STEP])
    return {"format": _FORMAT, "nouns": hashlib.sha256(content.encode()).hexdigest()}


def _manifest_of(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return dict(file.metadata() or {})
    except SafetensorError:
        return {}  # a damaged pack is one that does not fit


def _counted(
    drawings: Iterable[tuple[str, Any]], name: str, total: int, progress: bool
) -> Iterable[tuple[str, Any]]:
    from tqdm import tqdm

    bar: Iterable[tuple[str, Any]] = tqdm(
        drawings, desc=f"sprites {name}", total=total, disable=not progress, file=sys.stderr
    )
    return bar


def _raster_3d(cache: str | Path | None, codes: Iterable[str]) -> Iterator[tuple[str, "Image"]]:
    from PIL import Image

    wanted = set(codes)
    archive = archive_path(cache, "fluent-emoji-3d")
    for path, content in members(archive, lambda path: path.endswith(".webp") and _code_of(path) in wanted):
        with Image.open(BytesIO(content)) as image:
            yield _code_of(path), image.convert("RGBA")


def _raster_icons(
    cache: str | Path | None, style: str, codes: Iterable[str]
) -> Iterator[tuple[str, "Image"]]:
    """Draw the SVGs of an iconify package; a code that the set has no icon for is passed over."""
    import resvg_py
    from PIL import Image

    archive = archive_path(cache, _ICON_SOURCES[style])
    icons = json.loads(read_member(archive, "package/icons.json"))
    names = {
        _bare(code): name for code, name in json.loads(read_member(archive, "package/chars.json")).items()
    }
    for code in codes:
        icon = icons["icons"].get(names.get(code, ""))
        if icon is None:
            continue
        sides = {key: icon.get(key, icons.get(key, 0)) for key in ("left", "top", "width", "height")}
        svg = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{sides["left"]} {sides["top"]} {sides["width"]} {sides["height"]}" '
            f'width="{sides["width"]}" height="{sides["height"]}">{icon["body"]}</svg>'
        )
        zoom = _SOURCE_PX / max(sides["width"], sides["height"])
        png = resvg_py.svg_to_bytes(svg_string=svg, zoom=zoom, skip_system_fonts=True)
        with Image.open(BytesIO(bytes(png))) as image:
            yield code, image.convert("RGBA")


def _animations(
    cache: str | Path | None, codes: Iterable[str], processes: int
) -> Iterator[tuple[str, "UInt8[np.ndarray, 'n s s 4']"]]:
    """Decode the animated webp files of the codes; the files of one frame are stills, and passed over."""
    wanted = set(codes)
    # A fresh interpreter for each worker: forking a process that has torch threads can hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting: list[tuple[str, Future[np.ndarray | None]]] = []
        for name in ANIMATION_SOURCES if wanted else ():
            archive = archive_path(cache, name)
            for path, content in members(
                archive, lambda path: path.endswith(".webp") and _code_of(path) in wanted
            ):
                waiting.append((_code_of(path), pool.submit(decode_loop, content)))
        for code, future in waiting:
            frames = future.result()
            if frames is not None:
                yield code, frames


def decode_loop(webp: bytes) -> "UInt8[np.ndarray, 'n s s 4'] | None":
    """Every third frame of an animated webp, cropped with one box and reduced to s = 96; None for a still."""
    from PIL import Image, ImageSequence

    with Image.open(BytesIO(webp)) as image:
        if getattr(image, "n_frames", 1) == 1:
            return None
        frames = [
            frame.convert("RGBA")
            for number, frame in enumerate(ImageSequence.Iterator(image))
            if number % FRAME_STEP == 0
        ]
    return _squared(frames)


def _squared(drawings: list["Image"]) -> "UInt8[np.ndarray, 'n s s 4']":
    """Crop all to the box of what is visible in any of them, scale its longer side to s = 96, centre, pad."""
    from PIL import Image

    boxes = [box for drawing in drawings if (box := _visible_box(drawing)) is not None]
    require(bool(boxes), DataError, "A drawing in the sources is fully transparent. Fetch the sources again.")
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[2] for box in boxes), max(box[3] for box in boxes)
    scale = SPRITE_PX / max(right - left, bottom - top)
    width, height = (max(1, round(side * scale)) for side in (right - left, bottom - top))
    squares = np.zeros((len(drawings), SPRITE_PX, SPRITE_PX, 4), np.uint8)
    x, y = (SPRITE_PX - width) // 2, (SPRITE_PX - height) // 2
    for square, drawing in zip(squares, drawings, strict=True):
        # Pillow premultiplies RGBA before it filters, so colours do not bleed from transparent pixels.
        reduced = drawing.resize((width, height), Image.Resampling.LANCZOS, box=(left, top, right, bottom))
        square[y : y + height, x : x + width] = np.asarray(reduced)
    return squares


def _visible_box(drawing: "Image") -> tuple[int, int, int, int] | None:
    lookup: Callable[[int], int] = lambda alpha: 255 if alpha >= _VISIBLE else 0  # noqa: E731
    return drawing.getchannel("A").point(lookup).getbbox()


def _code_of(path: str) -> str:
    return _bare(PurePosixPath(path).stem)


def _bare(code: str) -> str:
    """An emoji code as the noun table has it: code points in lower-case hex, joined by '-', without fe0f."""
    return "-".join(point for point in re.split("[-_]", code.lower()) if point != "fe0f")
