"""Attention by PyTorch's own fused routine: what CPUs use, and what our kernels are timed against."""

import torch.nn.functional as F
from torch import Tensor

from kinolenta.kernels.attention.mask import Causal, Mask


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
    """``reference_attention`` by scaled_dot_product_attention, without a mask tensor where none is needed."""
    n, s, grouped = q.shape[2], k.shape[2], q.shape[1] != k.shape[1]
    if isinstance(mask, Causal) and mask.is_plain(n, s):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped)
    if isinstance(mask, Causal) and mask.is_last(n, s):
        return F.scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=grouped)
    visible = mask.visible(n, s, q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale, enable_gqa=grouped)
