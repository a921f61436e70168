"""Attention by PyTorch's own fused routine: what CPUs use, and what our kernels are timed against."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kinolenta.kernels.attention.mask import Causal, Mask

FEWEST, MOST = 4, 32  # queries of one call
MOST_KEYS, WIDEST = 384, 80  # keys of one call that may be left out, and the head width up to which
STEP = 16  # numbers in a vector register, which is how many keys are left out at a time


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
    never fewer than 4 (of heads wider than 80 always 32; the added ones are thrown away) nor more than 32 at
    once. Keys that no query sees are left out in whole vector registers, which leaves no trace as long as no
    call has more than 384: longer sums are split by their length. A row that could come to have more, or a
    cache whose slots do not fill registers, is looked at as a whole, always. Measured bit for bit on AVX-512
    (tests/kernels/test_decode.py).
    """
    n, s = q.shape[2], k.shape[2]
    fewest = FEWEST if q.shape[3] <= WIDEST else MOST
    padded = n + max(0, fewest - ((n - 1) % MOST + 1))  # the last call counts too
    bias = mask.bias(padded, s, q)
    q = q if padded == n else F.pad(q, (0, 0, 0, padded - n))
    fits = s % STEP == 0 and q.shape[3] <= WIDEST
    firsts = [first // STEP * STEP for first in mask.first_seen(q.shape[0])]
    short = [fits and s - first <= MOST_KEYS for first in firsts]
    if all(short):
        span = slice(min(firsts), min(s, -(-(mask.last_start + padded) // STEP) * STEP))
        return _pieces(q, k, v, bias, span, scale)[:, :, :n]
    if not any(short):
        return _pieces(q, k, v, bias, slice(0, s), scale)[:, :, :n]
    attended, bias = torch.empty_like(q), bias.expand(q.shape[0], -1, -1, -1)
    for kind in (False, True):
        rows = [row for row, is_short in enumerate(short) if is_short == kind]
        span = slice(min(firsts[row] for row in rows) if kind else 0, s)
        attended[rows] = _pieces(q[rows], k[rows], v[rows], bias[rows], span, scale)
    return attended[:, :, :n]


def _pieces(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, span: slice, scale: float) -> Tensor:
    k, v, bias = k[:, :, span], v[:, :, span], bias[..., span]
    grouped = q.shape[1] != k.shape[1]
    if q.shape[2] <= MOST:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale, enable_gqa=grouped)
    pieces = [
        F.scaled_dot_product_attention(some, k, v, attn_mask=seen, scale=scale, enable_gqa=grouped)
        for some, seen in zip(q.split(MOST, 2), bias.split(MOST, 2), strict=True)
    ]
    return torch.cat(pieces, 2)
