"""Sizes of the video VQGAN and the laws between pixels and codes."""

import math
from dataclasses import dataclass

from kinolenta.config import Config
from kinolenta.errors import ConfigError, ShapeError, require

HEAD_DIM = 64  # of attention in the decoder


@dataclass(frozen=True, kw_only=True)
class VQGANConfig(Config):
    """Causal 3-D VQGAN with strides time_stride x space_stride x space_stride.

    patch: side of the space-time Haar block that replaces the first and last layers; the remaining factor
    space_stride / patch is one strided convolution. channels: widths at the patch grid and at the code grid.
    decoder_attention: latent frames that attention in the decoder sees, the present one included; 0: no
    attention. fsq_levels: steps of each latent channel; their product is the codebook size.
    """

    time_stride: int = 4
    space_stride: int = 8
    patch: int = 4
    channels: tuple[int, ...] = (128, 192)
    encoder_blocks: tuple[int, ...] = (2, 2)
    decoder_blocks: tuple[int, ...] = (3, 3)
    decoder_attention: int = 0
    fsq_levels: tuple[int, ...] = (7, 5, 5, 5, 5)
    size: int = 64
    fps: float = 8.0

    def __post_init__(self) -> None:
        require(
            self.time_stride == self.patch == 4,
            ConfigError,
            "time_stride and patch must be 4; got {} and {}.",
            self.time_stride,
            self.patch,
        )
        require(
            self.space_stride == 2 * self.patch,
            ConfigError,
            "space_stride must be {}; got {}.",
            2 * self.patch,
            self.space_stride,
        )
        for name in ("channels", "encoder_blocks", "decoder_blocks"):
            values = getattr(self, name)
            require(
                len(values) == 2 and all(1 <= value <= 2048 for value in values),
                ConfigError,
                "{} must be two numbers between 1 and 2048; got {}.",
                name,
                list(values),
            )
        require(
            0 <= self.decoder_attention <= 64
            and (self.decoder_attention == 0 or self.channels[1] % HEAD_DIM == 0),
            ConfigError,
            "decoder_attention must be 0 to 64, and with it channels[1] a multiple of {}; got {} and {}.",
            HEAD_DIM,
            self.decoder_attention,
            self.channels[1],
        )
        require(
            1 <= len(self.fsq_levels) <= 16 and all(2 <= level <= 64 for level in self.fsq_levels),
            ConfigError,
            "fsq_levels must be 1 to 16 numbers between 2 and 64; got {}.",
            list(self.fsq_levels),
        )
        require(
            self.codebook_size <= 1 << 18,
            ConfigError,
            "fsq_levels make {} codes; at most 262144 are allowed.",
            self.codebook_size,
        )
        require(
            self.size >= self.space_stride and self.size % self.space_stride == 0,
            ConfigError,
            "size must be a multiple of {}; got {}.",
            self.space_stride,
            self.size,
        )
        require(0 < self.fps <= 240, ConfigError, "fps must be above 0 and at most 240; got {}.", self.fps)

    @property
    def codebook_size(self) -> int:
        return math.prod(self.fsq_levels)

    def num_latent_frames(self, num_frames: int, what: str = "clip has") -> int:
        """t for T = 1 + time_stride * (t - 1): the first frame is a latent frame of its own.

        Raises ShapeError for another T, which begins with ``what``.
        """
        remainder = (num_frames - 1) % self.time_stride
        if num_frames < 1 or remainder:
            low = max(1, num_frames - remainder)
            raise ShapeError(
                f"{what} {num_frames} frames; this model takes 1 + a multiple of {self.time_stride}. "
                f"Use {low} or {low + self.time_stride} frames."
            )
        return 1 + (num_frames - 1) // self.time_stride

    def num_frames(self, num_latent_frames: int) -> int:
        """T of a clip of t latent frames."""
        return 1 + self.time_stride * (num_latent_frames - 1)

    def code_grid(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """(t, h, w) of a clip in pixels. Raises ShapeError that names the size wanted."""
        stride = self.space_stride
        if height < stride or width < stride or height % stride or width % stride:
            wanted = [max(stride, round(side / stride) * stride) for side in (height, width)]
            raise ShapeError(
                f"frames are {width}x{height} px; both sides must be multiples of {stride}. "
                f"Resize to {wanted[1]}x{wanted[0]}."
            )
        return self.num_latent_frames(num_frames), height // stride, width // stride
