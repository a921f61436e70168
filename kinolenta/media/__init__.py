"""Pictures and films on disk to frames and back: the only user of FFmpeg (through ``av``) in the package.

Frames here are always uint8 RGB, ``[T, H, W, 3]``, upright and without alpha. Whatever is wrong with a file
comes out as ``MediaError`` with one sentence, and every output file is whole or absent.
"""

from kinolenta.media.geometry import check_policy, resample, resize
from kinolenta.media.reader import read_image, read_video
from kinolenta.media.writer import check_output, write

__all__ = ["check_output", "check_policy", "read_image", "read_video", "resample", "resize", "write"]
