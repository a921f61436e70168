"""Which way is up: cameras store pictures as the sensor saw them, and say beside them how to turn them.

Read from the EXIF block here, because ``av`` gives only an angle, which cannot tell a mirrored picture.
"""

import struct

import numpy as np

from kinolenta.media.geometry import Frames

ORIENTATION_TAG = 0x0112
_HEAD_BYTES = 1_000_000
# EXIF orientation -> (swap rows and columns, then mirror left-right, then mirror top-bottom)
_STEPS = {
    1: (False, False, False), 2: (False, True, False), 3: (False, True, True), 4: (False, False, True),
    5: (True, False, False), 6: (True, True, False), 7: (True, True, True), 8: (True, False, True),
}  # fmt: skip


def upright(pixels: Frames, orientation: int) -> Frames:
    """Turn ``[H, W, 3]`` pixels as an EXIF orientation (1 to 8) says."""
    swap, mirror_x, mirror_y = _STEPS[orientation]
    if swap:
        pixels = pixels.transpose(1, 0, 2)
    return np.ascontiguousarray(pixels[:: -1 if mirror_y else 1, :: -1 if mirror_x else 1])


def from_rotation(degrees: float) -> int:
    """The EXIF orientation of a film's rotation, counted counter-clockwise; in quarters of a turn."""
    return {0: 1, 1: 8, 2: 3, 3: 6}[round(degrees / 90) % 4]


def from_exif(data: bytes) -> int:
    """The orientation that a JPEG, PNG, WebP or TIFF file states; 1 (upright) where it states none."""
    for start in _tiff_starts(data):
        orientation = _read_tag(data[start : start + _HEAD_BYTES])
        if orientation in _STEPS:
            return orientation
    return 1


def _tiff_starts(data: bytes) -> list[int]:
    """Offsets at which a TIFF structure, the body of an EXIF block, may begin."""
    if data[:4] in (b"II*\0", b"MM\0*"):
        return [0]
    if data[:2] == b"\xff\xd8":
        marker, skip, end = b"Exif\0\0", 6, _HEAD_BYTES
    elif data[:8] == b"\x89PNG\r\n\x1a\n":
        marker, skip, end = b"eXIf", 4, len(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        marker, skip, end = b"EXIF", 8, len(data)
    else:
        return []
    found = data.find(marker, 0, end)
    return [found + skip] if found >= 0 else []


def _read_tag(tiff: bytes) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 0
    try:
        (directory,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, directory)
        for index in range(count):
            tag, _, _, value = struct.unpack_from(order + "HHIH", tiff, directory + 2 + 12 * index)
            if tag == ORIENTATION_TAG:
                return int(value)
    except struct.error:  # cut off: the picture itself may still be whole
        return 0
    return 0
