"""Attention, the definition: a plain softmax in float32; every other backend is held to it."""

import torch
from torch import Tensor

from kinolenta.kernels.attention.mask import Mask


def reference_attention(q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
    """softmax(scale * q k^T where visible) v, after Vaswani et al. 2017, arXiv:1706.03762, equation 1.

    q [b, h, n, d]; k, v [b, h_kv, s, d]: each key head serves h / h_kv neighbouring query heads.
    """
    exact = torch.promote_types(q.dtype, torch.float32)
    group = q.shape[1] // k.shape[1]
    keys = k.to(exact).repeat_interleave(group, dim=1)
    values = v.to(exact).repeat_interleave(group, dim=1)
    scores = scale * q.to(exact) @ keys.transpose(-1, -2)
    scores = scores.masked_fill(~mask.visible(q.shape[2], k.shape[2], q.device), float("-inf"))
    return (scores.softmax(-1) @ values).to(q.dtype)
