"""Attention by PyTorch's own fused routine: what CPUs use, and what our kernels are timed against."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kinolenta.kernels.attention.mask import Causal, Mask

FEWEST, MOST = 4, 32  # queries of one call


def sdpa_attention(q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
    """``reference_attention`` by scaled_dot_product_attention, without a mask tensor where none is needed."""
    n, s, grouped = q.shape[2], k.shape[2], q.shape[1] != k.shape[1]
    if isinstance(mask, Causal) and mask.is_plain(n, s):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped)
    if isinstance(mask, Causal) and mask.is_last(n, s):
        return F.scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=grouped)
    visible = mask.visible(n, s, q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale, enable_gqa=grouped)


def sdpa_window(q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
    """``sdpa_attention`` of a few queries, the bits of each the same however many there are, on a CPU.

    PyTorch takes another routine for one or two queries and splits more than 32 differently; so there are
    never fewer than 4 (the added ones are thrown away) nor more than 32 at once, and every call looks at the
    whole cache under a mask. Measured bit for bit on AVX-512 (tests/kernels/test_decode.py).
    """
    n, s, grouped = q.shape[2], k.shape[2], q.shape[1] != k.shape[1]
    last = (n - 1) % MOST + 1  # queries of the last call
    padded = n + max(0, FEWEST - last)
    bias = mask.bias(padded, s, q)
    q = q if padded == n else F.pad(q, (0, 0, 0, padded - n))
    pieces = [
        F.scaled_dot_product_attention(some, k, v, attn_mask=seen, scale=scale, enable_gqa=grouped)
        for some, seen in zip(q.split(MOST, 2), bias.split(MOST, 2), strict=True)
    ]
    return (pieces[0] if len(pieces) == 1 else torch.cat(pieces, 2))[:, :, :n]
