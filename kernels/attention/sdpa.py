"""Attention by PyTorch's own fused routine: what CPUs use, and what our kernels are timed against."""

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from kinolenta.kernels.attention.mask import Causal, Mask

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]

FEWEST, MOST = 4, 64  # queries of one call, a multiple of the fewest
WIDEST, WHOLE = 80, 32  # wider heads take so many queries or a multiple: PyTorch deals them out by 32
STEP = 32  # slots that may be left out at once


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

    PyTorch takes another routine for one or two queries, its library another one for fewer than 4 or, of
    heads 8 wide, for what is left of fours; so their number is a multiple of 4 (of heads wider than 80 one of
    32; what is added is thrown away). Up to 191 it deals them out by 32, so more than 64 are never asked for
    at once. The only head of the only row would take all threads, so that row is asked for twice. Slots
    behind the last query are left out only where that keeps the bits (``_enough``). Compared bit for bit in
    tests/kernels/test_decode.py.
    """
    n = q.shape[2]
    fewest = FEWEST if q.shape[3] <= WIDEST else WHOLE
    added = -n % fewest  # 64 is a multiple: so the last call is full too
    s = _enough(mask.last_start + n, n + added, q, k)
    bias = mask.bias(n + added, s, q)
    lone = q.shape[0] == q.shape[1] == 1

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = k.narrow(2, 0, s), v.narrow(2, 0, s)
        if lone:
            q, k, v = (each.expand(2, -1, -1, -1) for each in (q, k, v))
        if added:
            q = F.pad(q, (0, 0, 0, added))
        attended = _pieces(q, k, v, bias, scale)
        attended = attended.narrow(2, 0, n) if added else attended
        return attended[:1] if lone else attended

    return attend


def _enough(stop: int, n: int, q: Tensor, k: Tensor) -> int:
    """How many slots n queries have to look at if nothing is visible from ``stop`` on."""
    slots = k.shape[2]
    few = -(-stop // STEP) * STEP
    # A trial in shorter numbers would hide much; a single head is a job for all threads, two are one each.
    exact = q.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if few >= slots or q.device.type != "cpu" or not exact or q.shape[1] == 1:
        return slots
    heads, threads = (q.shape[1], k.shape[1]), torch.get_num_threads()
    calls = {min(n, MOST), (n - 1) % MOST + 1}
    same = all(_keeps_bits(call, few, slots, heads, q.shape[3], threads) for call in calls)
    return few if same else slots


@cache
def _keeps_bits(n: int, few: int, slots: int, heads: tuple[int, int], width: int, threads: int) -> bool:
    """Whether a sum over the first slots is the sum over all of them, of which the others count nothing.

    A matrix library splits long sums, by their length and the processor; where it splits the first slots
    otherwise, the last bits differ. It chooses by shapes, so one trial tells: of queries that stand by
    themselves, as with added ones, and of those that stand beside keys.
    """
    beside, k, v = _random(heads, slots, width)
    bias = k.new_zeros(1, 1, n, slots)
    bias[..., few:] = -math.inf
    scale = width**-0.5
    q = beside[:, :n, : heads[0]].transpose(1, 2)
    for queries in (q, q.contiguous()):
        some = _pieces(queries, k[:, :, :few], v[:, :, :few], bias[..., :few], scale)
        if not torch.equal(some, _pieces(queries, k, v, bias, scale)):
            return False
    return True


@lru_cache(maxsize=1)
def _random(heads: tuple[int, int], slots: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries beside keys [1, n, h + h_kv, d], keys and values [1, h_kv, s, d], for trials."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, MOST, sum(heads), width), *[(1, heads[1], slots, width)] * 2]
    with torch.inference_mode(False):
        beside, k, v = (
            torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu") for shape in shapes
        )
    return beside, k, v


def _pieces(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
    grouped = q.shape[1] != k.shape[1]
    if q.shape[2] <= MOST:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale, enable_gqa=grouped)
    pieces = [
        F.scaled_dot_product_attention(some, k, v, attn_mask=seen, scale=scale, enable_gqa=grouped)
        for some, seen in zip(q.split(MOST, 2), bias.split(MOST, 2), strict=True)
    ]
    return torch.cat(pieces, 2)
