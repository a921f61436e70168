"""Attention among the codes of a latent frame and of a few before it.

Convolutions carry what a code says a place or two per layer; a thing that moves needs what was said of it one
frame ago, elsewhere. Invariant: nothing looks at later frames, and a window bounds what a stream has to keep.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from kinolenta.decoder.blocks import Past
from kinolenta.decoder.config import HEAD_DIM
from kinolenta.kernels.products import LaidOut, Linear, Product

REACH = 8  # places; farther ones share a bias


class FrameAttention(nn.Module):
    """Residual attention over all places of the last ``window`` latent frames; the identity at first.

    A learned bias for each head, distance in time, row and column stands for positions (after Raffel et al.
    2020, arXiv:1910.10683, section 2.1), so that the grid may have any size.
    """

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window, self.heads = window, channels // HEAD_DIM
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.bias_t = nn.Parameter(torch.zeros(self.heads, window))
        self.bias_h = nn.Parameter(torch.zeros(self.heads, 2 * REACH + 1))
        self.bias_w = nn.Parameter(torch.zeros(self.heads, 2 * REACH + 1))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self._laid_out = LaidOut(Linear), LaidOut(Linear)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """x [b, t, h, w, c]."""
        _, t, height, width, _ = x.shape
        qkv, out = (self.qkv, self.out) if past is None else self._developing()
        q, k, v = rearrange(qkv(self.norm(x)), "b t h w (n c) -> n b t h w c", n=3)
        if past is not None:
            seen = torch.stack((k, v))
            if self in past:
                seen = torch.cat((past[self], seen), dim=2)
            past[self] = seen[:, :, max(0, seen.shape[2] - self.window + 1) :]
            k, v = seen
        q, k, v = (rearrange(y, "b t h w (n d) -> b n (t h w) d", n=self.heads) for y in (q, k, v))
        bias = self._bias(t, k.shape[2] // (height * width), height, width)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype)[None])
        return x + out(rearrange(y, "b n (t h w) d -> b t h w (n d)", t=t, h=height, w=width))

    def _developing(self) -> list[Product]:
        """``qkv`` and ``out`` by weights that are laid out once."""
        linears = zip(self._laid_out, (self.qkv, self.out), strict=True)
        return [laid_out.of(linear.weight, linear.bias) for laid_out, linear in linears]

    def _bias(self, queries: int, keys: int, height: int, width: int) -> Tensor:
        """[heads, queries * h * w, keys * h * w], -inf outside of the window; the last frames coincide."""
        device = self.bias_t.device
        now = torch.arange(keys - queries, keys, device=device)
        ago = now[:, None] - torch.arange(keys, device=device)
        live = (ago >= 0) & (ago < self.window)
        time = self.bias_t[:, ago.clamp(0, self.window - 1)].masked_fill(~live, float("-inf"))
        rows = self._distances(height, self.bias_h)
        columns = self._distances(width, self.bias_w)
        bias = (
            time[:, :, None, None, :, None, None]
            + rows[:, None, :, None, None, :, None]
            + columns[:, None, None, :, None, None, :]
        )
        return bias.flatten(4, 6).flatten(1, 3)

    def _distances(self, side: int, table: Tensor) -> Tensor:
        """[heads, side, side]"""
        places = torch.arange(side, device=table.device)
        return table[:, (places[:, None] - places).clamp(-REACH, REACH) + REACH]
