"""Contact sheets: many clips on one picture, each as a strip of frames under a title."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kinolenta.errors import MediaError, ShapeError, require
from kinolenta.files import atomic_path

if TYPE_CHECKING:
    from jaxtyping import UInt8

_COLUMNS, _FRAMES, _GAP_PX, _TITLE_PX, _SCALE = 2, 5, 8, 18, 2


def contact_sheet(
    path: Path, clips: "UInt8[np.ndarray, 'n t h w 3']", titles: Sequence[str], font: Path | None = None
) -> Path:
    """Write a PNG of all clips, up to five frames of each, spread evenly in time, at twice their size.

    font: TrueType file for the titles; Pillow's own, which has no Russian letters, if None. Raises MediaError
    if it cannot be read or the file cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    require(clips.ndim == 5 and len(clips) == len(titles) > 0, ShapeError,
            "a contact sheet needs clips [n, t, h, w, 3] and as many titles; got {} and {} titles.",
            list(clips.shape), len(titles))  # fmt: skip
    try:
        letters = ImageFont.load_default(12) if font is None else ImageFont.truetype(str(font), 13)
    except OSError as error:
        raise MediaError(f"{font} cannot be read as a font: {error}. Give a TrueType file.") from error
    n, t, h, w, _ = clips.shape
    cell_w, cell_h = _FRAMES * w * _SCALE + _GAP_PX, h * _SCALE + _TITLE_PX + _GAP_PX
    rows = -(-n // _COLUMNS)
    sheet = Image.new("RGB", (min(n, _COLUMNS) * cell_w + _GAP_PX, rows * cell_h + _GAP_PX), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (clip, title) in enumerate(zip(clips, titles, strict=True)):
        left = _GAP_PX + number % _COLUMNS * cell_w
        top = _GAP_PX + number // _COLUMNS * cell_h
        pen.text((left, top), title, fill="black", font=letters)
        shown = clip[np.linspace(0, t - 1, min(t, _FRAMES)).round().astype(int)]
        strip = Image.fromarray(np.concatenate(list(shown), axis=1))
        strip = strip.resize((strip.width * _SCALE, strip.height * _SCALE), Image.Resampling.NEAREST)
        sheet.paste(strip, (left, top + _TITLE_PX))
    with atomic_path(path, MediaError, overwrite=True) as partial:
        sheet.save(partial, format="PNG")
    return path
