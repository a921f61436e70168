"""Layers of the VQGAN. Invariant: nothing looks at later frames, and normalisation never mixes frames.

Tensors are [b, t, h, w, c]; frames seen as [b * t, c, h, w] are in PyTorch's channels_last, the layout in
which convolutions are fast on a CPU, so moving between the two costs no copy.
"""

from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from kinolenta.kernels.products import LaidOut, Linear, Product, convolution_of

if TYPE_CHECKING:
    from jaxtyping import Float

Past = dict[nn.Module, Tensor]  # streaming state: what every layer that looks back has to keep


class CausalConv3d(nn.Module):
    """Convolution over (t, h, w) that sees the present and kernel_t - 1 earlier frames.

    Before the first frame stands the first frame itself: zeros there would tell the network where a clip
    starts and make long ones drift (Ge et al. 2022, arXiv:2204.03638). Space is padded with zeros.

    A kernel reaches in space or in time, never in both. So what runs is a convolution of pictures or a
    product of frames laid side by side: PyTorch has no fast routine for one of three axes on a CPU. A stream,
    which has a ``past``, is never trained through: it takes a weight that is laid out once.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel: tuple[int, int], stride: int = 1) -> None:
        super().__init__()
        kernel_t, kernel_s = kernel
        assert kernel_t == 1 or (kernel_s == 1 and stride == 1)
        self.lookback, self.stride, self.padding = kernel_t - 1, stride, kernel_s // 2
        self.conv = nn.Conv3d(channels_in, channels_out, (kernel_t, kernel_s, kernel_s))
        self.conv.weight = nn.Parameter(self.conv.weight.contiguous(memory_format=torch.channels_last_3d))
        spatial = partial(_spatial, stride=stride, padding=self.padding)
        self._laid_out = LaidOut(_temporal if self.lookback else spatial)

    def forward(self, x: "Float[Tensor, 'b t h w c']", past: Past | None = None) -> Tensor:
        weight, bias = self.conv.weight, self.conv.bias
        assert bias is not None
        if not self.lookback:
            pictures = rearrange(x, "b t h w c -> (b t) c h w")
            if past is None:
                y = F.conv2d(pictures, weight[:, :, 0], bias, self.stride, self.padding)
            else:
                y = self._laid_out.of(weight, bias)(pictures)
            return rearrange(y, "(b t) c h w -> b t h w c", b=len(x))
        if past is None:
            frames = x.shape[1]
            x = torch.cat([x[:, :1].expand(-1, self.lookback, -1, -1, -1), x], dim=1)
            beside = torch.cat([x[:, ago : ago + frames] for ago in range(self.lookback + 1)], dim=-1)
            return F.linear(beside, rearrange(weight, "o c t 1 1 -> o (t c)"), bias)
        assert x.shape[1] == 1  # a stream develops one latent frame at a time
        before = past.get(self)  # side by side already
        beside = torch.cat([x] * (self.lookback + 1) if before is None else [before, x], dim=-1)
        past[self] = beside[..., x.shape[-1] :]
        return self._laid_out.of(weight, bias)(beside)


def _spatial(weight: Tensor, bias: Tensor, *, stride: int, padding: int) -> Product:
    return convolution_of(weight[:, :, 0], bias, stride, padding)


def _temporal(weight: Tensor, bias: Tensor) -> Product:
    return Linear(rearrange(weight, "o c t 1 1 -> o (t c)"), bias)


class ResBlock(nn.Module):
    """Pre-norm residual block, factorised into a spatial and a causal temporal convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_space = nn.LayerNorm(channels)
        self.space = CausalConv3d(channels, channels, (1, 3))
        self.norm_time = nn.LayerNorm(channels)
        self.time = CausalConv3d(channels, channels, (3, 1))
        nn.init.zeros_(self.time.conv.weight)
        assert self.time.conv.bias is not None
        nn.init.zeros_(self.time.conv.bias)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        y = self.space(F.silu(self.norm_space(x)), past)
        return x + self.time(F.silu(self.norm_time(y)), past)


class Upsample(nn.Module):
    """Twice the height and width: one matrix per position, its output laid out as 2x2 places."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.expand = nn.Linear(channels_in, 4 * channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(self.expand(x), "b t h w (i j c) -> b t (h i) (w j) c", i=2, j=2)
