"""Attention by PyTorch's own fused routine: what CPUs use, and what our kernels are timed against."""

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from kinolenta.kernels.attention.mask import Causal, Mask

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]

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


def sdpa_window(q: Tensor, k: Tensor, mask: Mask, scale: float) -> Attend:
    """``sdpa_attention`` of a few queries, the bits of each the same however many there are, on a CPU.

    Returns what attends, called with (q, k, v) shaped like these: the layers of a pass share one plan.

    PyTorch takes another routine for one or two queries and splits more than 32 differently; so there are
    never fewer than 4 (of heads wider than 80 always 32; the added ones are thrown away) nor more than 32 at
    once. Keys that no query sees are left out in whole vector registers, which leaves no trace as long as no
    call has more than 384: longer sums are split by their length. A row that could come to have more, or a
    cache whose slots do not fill registers, is looked at as a whole, always. Measured bit for bit on AVX-512
    (tests/kernels/test_decode.py).
    """
    n, s = q.shape[2], k.shape[2]
    fewest = FEWEST if q.shape[3] <= WIDEST else MOST
    added = max(0, fewest - ((n - 1) % MOST + 1))  # the last call counts too
    padded = n + added
    bias = mask.bias(padded, s, q)
    fits = s % STEP == 0 and q.shape[3] <= WIDEST
    firsts = [first // STEP * STEP for first in mask.first_seen(q.shape[0])]
    short = [fits and s - first <= MOST_KEYS for first in firsts]
    stop = min(s, -(-(mask.last_start + padded) // STEP) * STEP)
    if all(short) or not any(short):
        span = slice(min(firsts), stop) if all(short) else slice(0, s)
        seen = bias[..., span]

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q = F.pad(q, (0, 0, 0, added)) if added else q
            attended = _pieces(q, k[:, :, span], v[:, :, span], seen, scale)
            return attended[:, :, :n] if added else attended

        return attend
    bias = bias.expand(q.shape[0], -1, -1, -1)
    groups = []
    for kind in (False, True):
        rows = [row for row, is_short in enumerate(short) if is_short == kind]
        span = slice(min(firsts[row] for row in rows), stop) if kind else slice(0, s)
        groups.append((rows, span, bias[rows][..., span]))

    def attend_by_groups(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q = F.pad(q, (0, 0, 0, added)) if added else q
        attended = torch.empty_like(q)
        for rows, span, seen in groups:
            attended[rows] = _pieces(q[rows], k[rows, :, span], v[rows, :, span], seen, scale)
        return attended[:, :, :n]

    return attend_by_groups


def _pieces(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
    grouped = q.shape[1] != k.shape[1]
    if q.shape[2] <= MOST:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale, enable_gqa=grouped)
    pieces = [
        F.scaled_dot_product_attention(some, k, v, attn_mask=seen, scale=scale, enable_gqa=grouped)
        for some, seen in zip(q.split(MOST, 2), bias.split(MOST, 2), strict=True)
    ]
    return torch.cat(pieces, 2)
