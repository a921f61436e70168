"""The video VQGAN: frames to codes and back, causal in time.

Invariant: the codes and frames of a prefix do not depend on what follows, so that a clip can be developed
while its later codes are still being drawn, and streamed output equals whole output.
"""

from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinolenta.decoder.attention import FrameAttention
from kinolenta.decoder.blocks import CausalConv3d, Past, ResBlock, Upsample
from kinolenta.decoder.config import VQGANConfig
from kinolenta.decoder.haar import HaarPatch
from kinolenta.decoder.quantizer import FSQ, Quantizer
from kinolenta.errors import ShapeError, require
from kinolenta.kernels.inference import inference

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class Reconstruction(NamedTuple):
    """frames [b, 3, T, H, W] in about [-1, 1], codes [b, t, h, w], loss: the quantizer's own."""

    frames: Tensor
    codes: Tensor
    loss: Tensor


class Encoder(nn.Module):
    """Haar patches [b, t, 2h, 2w, 192] to latents [b, t, h, w, code_dim]."""

    def __init__(self, config: VQGANConfig, code_dim: int) -> None:
        super().__init__()
        wide, deep = config.channels
        self.conv_in = CausalConv3d(HaarPatch.channels, wide, (1, 3))
        self.fine = nn.ModuleList(ResBlock(wide) for _ in range(config.encoder_blocks[0]))
        self.down = CausalConv3d(wide, deep, (1, 3), stride=2)
        self.coarse = nn.ModuleList(ResBlock(deep) for _ in range(config.encoder_blocks[1]))
        self.norm = nn.LayerNorm(deep)
        self.to_latents = nn.Linear(deep, code_dim)

    def forward(self, patches: Tensor) -> Tensor:
        if patches.shape[0] * patches.shape[1] == 1:  # a single picture would take another routine
            return self(patches.expand(2, -1, -1, -1, -1))[:1]
        x = self.conv_in(patches)
        for block in self.fine:
            x = block(x)
        x = self.down(x)
        for block in self.coarse:
            x = block(x)
        return self.to_latents(self.norm(x))


class Decoder(nn.Module):
    """Quantized latents [b, t, h, w, code_dim] to Haar patches [b, t, 2h, 2w, 192]."""

    def __init__(self, config: VQGANConfig, code_dim: int) -> None:
        super().__init__()
        wide, deep = config.channels
        self.conv_in = CausalConv3d(code_dim, deep, (1, 3))
        self.coarse = nn.ModuleList(ResBlock(deep) for _ in range(config.decoder_blocks[1]))
        window = config.decoder_attention
        self.attention = nn.ModuleList(FrameAttention(deep, window) for _ in self.coarse if window)
        self.up = Upsample(deep, wide)
        self.fine = nn.ModuleList(ResBlock(wide) for _ in range(config.decoder_blocks[0]))
        self.norm = nn.LayerNorm(wide)
        self.conv_out = CausalConv3d(wide, HaarPatch.channels, (1, 3))

    def forward(self, latents: Tensor, past: Past | None = None) -> Tensor:
        x = self.conv_in(latents, past)
        for block, attention in zip_longest(self.coarse, self.attention):
            x = block(x, past)
            x = x if attention is None else attention(x, past)
        x = self.up(x)
        for block in self.fine:
            x = block(x, past)
        return self.conv_out(F.silu(self.norm(x)), past)


class VideoVQGAN(nn.Module):
    """Causal 3-D VQGAN after Esser et al. 2021 (arXiv:2012.09841) and Yu et al. 2023 (arXiv:2310.05737,
    section 3).
    """

    quantizer: Quantizer

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config = config
        self.haar = HaarPatch()
        self.quantizer = FSQ(config.fsq_levels)
        self.encoder = Encoder(config, self.quantizer.code_dim)
        self.decoder = Decoder(config, self.quantizer.code_dim)

    def forward(self, frames: "Float[Tensor, 'b 3 T H W']") -> Reconstruction:
        """Encode, quantize and decode with a straight-through gradient; the training path."""
        self._check_frames(frames)
        quantized = self.quantizer(self.encoder(self.haar.patch(frames)))
        patches = self.decoder(quantized.latents)
        return Reconstruction(self.haar.unpatch(patches.float()), quantized.codes, quantized.loss)

    @inference
    def encode(self, frames: "Float[Tensor, 'b 3 T H W']") -> "Int[Tensor, 'b t h w']":
        """Frames in [-1, 1] to codes. T = 1 + time_stride * (t - 1); H and W are multiples of space_stride.

        Raises ShapeError that names the size wanted.
        """
        self._check_frames(frames)
        return self.quantizer(self.encoder(self.haar.patch(frames))).codes

    @inference
    def decode(self, codes: "Int[Tensor, 'b t h w']") -> "Float[Tensor, 'b 3 T H W']":
        """Codes to frames in [-1, 1]. Raises ShapeError if a code lies outside the codebook."""
        return self.stream().push(codes)

    def stream(self) -> "DecoderStream":
        """Begin a clip that is developed piece by piece; see DecoderStream."""
        return DecoderStream(self)

    def _check_frames(self, frames: Tensor) -> None:
        require(
            frames.ndim == 5 and frames.shape[1] == 3,
            ShapeError,
            "frames must be [batch, 3, T, H, W]; got {}.",
            list(frames.shape),
        )
        self.config.code_grid(*frames.shape[2:])


class DecoderStream:
    """Develops latent frames as they come: what the pieces give, joined, is the whole decode, bit for bit.

    Holds three latent frames of features per temporal convolution, whatever the length of the clip.
    """

    def __init__(self, vqgan: VideoVQGAN) -> None:
        self._vqgan = vqgan
        self._past: Past = {}
        self._size: torch.Size | None = None  # clips and places of the first push

    @inference
    def push(self, codes: "Int[Tensor, 'b t h w']") -> "Float[Tensor, 'b 3 T H W']":
        """The next t latent frames: 4 t frames, or 1 + 4 (t - 1) for the first push, in [-1, 1].

        Raises ShapeError if these are no codes, or not of as many clips and places as those before.
        """
        size = self._vqgan.quantizer.codebook_size
        require(
            codes.ndim == 4 and codes.numel() > 0 and not codes.is_floating_point(),
            ShapeError,
            "codes must be whole numbers [batch, t, h, w], at least one; got {} {}.",
            codes.dtype,
            list(codes.shape),
        )
        places = torch.Size((len(codes), *codes.shape[2:]))
        require(
            self._size in (None, places),
            ShapeError,
            "this stream develops codes [batch, h, w] = {}; got {}.",
            list(self._size or ()),
            list(places),
        )
        low, high = int(codes.min()), int(codes.max())
        require(
            low >= 0 and high < size,
            ShapeError,
            "codes range from {} to {}; this codebook holds 0 to {}.",
            low,
            high,
            size - 1,
        )
        # One latent frame at a time, however many are given: equal shapes, so equal bits.
        return torch.cat([self._develop(frame) for frame in codes.split(1, dim=1)], dim=2)

    def _develop(self, codes: Tensor) -> Tensor:
        patches = self._vqgan.decoder(self._vqgan.quantizer.lookup(codes), self._past)
        first, self._size = self._size is None, torch.Size((len(codes), *codes.shape[2:]))
        return self._vqgan.haar.unpatch(patches, first=first).clamp(-1, 1)
