"""Split-KV attention of a short window over a cache, which also appends the window's keys and values.

Fuses append, scores, mask, softmax and weighted sum; a token's step reads each live block of the cache once
(Flash-Decoding: Dao et al. 2023). Proven by interpreter and by ahead-of-time compilation (docs/kernels.md);
not yet run on a GPU.

Invariant: one row's bits depend on that row alone. Tiles of queries, blocks of keys and splits of the cache
have fixed sizes and stand at fixed slots; there is one loop body, compiled once whatever the window's length;
a block or split without a live pair leaves a row's state as it is, bit for bit.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor, library

from kinolenta.errors import ShapeError, require
from kinolenta.kernels.attention.mask import Mask
from kinolenta.kernels.attention.triton import constants, gpu_backend, row_contiguous
from kinolenta.kernels.attention.triton_forward import (
    LOG2_E,
    load_tile,
    narrow,
    product,
    softmax_step,
    store_tile,
)
from kinolenta.kernels.attention.triton_mask import ROW, is_visible, key_end, key_span, key_span_count
from kinolenta.kernels.tiles import DECODE_SPLIT, decode_tile


@triton.jit(do_not_specialize=["n", "splits"])
def decode_split_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    keys_ptr,
    values_ptr,
    acc_ptr,  # [b * h_kv, splits, tiles * BLOCK_Q, BLOCK_D] float32
    sums_ptr,  # [b * h_kv, splits, tiles * BLOCK_Q, 2] float32: peak, total
    rows_ptr,  # [b, 4] int32, see Mask.rows
    stride_qb,
    stride_qh,
    stride_qn,
    stride_kb,  # of k and v
    stride_kh,
    stride_kn,
    stride_cb,  # of the cache
    stride_ch,
    stride_cs,
    kv_heads,
    group,
    n,
    splits,
    scale,
    RULE: tl.constexpr,
    SPANS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SPLIT: tl.constexpr,
    UPCAST: tl.constexpr,
    PRECISION: tl.constexpr,
):
    pid_tile = tl.program_id(0)
    pid_split = tl.program_id(1)
    pid_b = tl.program_id(2) // kv_heads
    pid_h = tl.program_id(2) % kv_heads
    start = tl.load(rows_ptr + pid_b * 4)
    first = tl.load(rows_ptr + pid_b * 4 + 1)
    stop = tl.load(rows_ptr + pid_b * 4 + 2)
    boundary = tl.load(rows_ptr + pid_b * 4 + 3)
    new_offset = pid_b.to(tl.int64) * stride_kb + pid_h.to(tl.int64) * stride_kh
    old_offset = pid_b.to(tl.int64) * stride_cb + pid_h.to(tl.int64) * stride_ch
    split_lo = pid_split * SPLIT
    split_hi = split_lo + SPLIT

    if pid_tile == 0:  # nobody reads these slots from the cache in this launch: no race
        for piece in range(tl.cdiv(n, BLOCK_Q)):
            offs_n = piece * BLOCK_Q + tl.arange(0, BLOCK_Q)
            new_k = load_tile(k_ptr + new_offset, offs_n, stride_kn, 0, n, HEAD_DIM, BLOCK_D, True)
            new_v = load_tile(v_ptr + new_offset, offs_n, stride_kn, 0, n, HEAD_DIM, BLOCK_D, True)
            # A slot of another split goes to split_hi, where nothing is stored.
            inside = (offs_n < n) & (start + offs_n >= split_lo) & (start + offs_n < split_hi)
            offs_slot = tl.where(inside, start + offs_n, split_hi)
            store_tile(
                keys_ptr + old_offset, offs_slot, stride_cs, split_hi, new_k, HEAD_DIM, BLOCK_D, UPCAST
            )
            store_tile(
                values_ptr + old_offset, offs_slot, stride_cs, split_hi, new_v, HEAD_DIM, BLOCK_D, UPCAST
            )

    # A tile's rows are pairs (query, head of the group), the queries in order.
    offs_m = pid_tile * BLOCK_Q + tl.arange(0, BLOCK_Q)
    offs_q = offs_m // group
    offs_d = tl.arange(0, BLOCK_D)
    head = (pid_h * group + offs_m % group).to(tl.int64)
    pointers = q_ptr + pid_b.to(tl.int64) * stride_qb + head[:, None] * stride_qh
    pointers += offs_q.to(tl.int64)[:, None] * stride_qn + offs_d[None, :]
    q = tl.load(pointers, mask=(offs_q[:, None] < n) & (offs_d[None, :] < HEAD_DIM), other=0.0)
    q_lo = start + pid_tile * BLOCK_Q // group
    q_hi = start + tl.minimum((pid_tile * BLOCK_Q + BLOCK_Q - 1) // group + 1, n)
    k_end = key_end(q_hi, stop, boundary, RULE)
    peak = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    acc = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    for block in range(tl.maximum(first, split_lo) // BLOCK_K, tl.cdiv(tl.minimum(k_end, split_hi), BLOCK_K)):
        needed = True
        if RULE[0] >= ROW:
            needed = False
            for span in tl.static_range(SPANS):
                lo, hi = key_span(span, q_lo, q_hi, first, stop, boundary, RULE, BLOCK_K)
                needed = needed | ((lo < hi) & (lo < (block + 1) * BLOCK_K) & (hi > block * BLOCK_K))
        offs_k = block * BLOCK_K + tl.arange(0, BLOCK_K)
        offs_n = offs_k - start
        # A dead block is walked through with every load masked off: no byte is read, and a branch here would
        # keep the compiler from loading blocks ahead.
        old_end = tl.where(needed, tl.minimum(start, k_end), 0)
        new_end = tl.where(needed, tl.minimum(n, k_end - start), 0)
        k = load_tile(keys_ptr + old_offset, offs_k, stride_cs, first, old_end, HEAD_DIM, BLOCK_D, True)
        v = load_tile(values_ptr + old_offset, offs_k, stride_cs, first, old_end, HEAD_DIM, BLOCK_D, True)
        new_k = load_tile(k_ptr + new_offset, offs_n, stride_kn, 0, new_end, HEAD_DIM, BLOCK_D, True)
        new_v = load_tile(v_ptr + new_offset, offs_n, stride_kn, 0, new_end, HEAD_DIM, BLOCK_D, True)
        k = tl.where((offs_n >= 0)[:, None], new_k, k)
        v = tl.where((offs_n >= 0)[:, None], new_v, v)
        scores = product(q, tl.trans(k), UPCAST, PRECISION) * (scale * LOG2_E)
        live = is_visible((start + offs_q)[:, None], offs_k[None, :], first, stop, boundary, RULE)
        scores = tl.where(live, scores, float("-inf"))
        peak, total, acc = softmax_step(scores, v, peak, total, acc, UPCAST, PRECISION)

    row = (tl.program_id(2) * splits + pid_split).to(tl.int64) * (tl.num_programs(0) * BLOCK_Q) + offs_m
    tl.store(acc_ptr + row[:, None] * BLOCK_D + offs_d[None, :], acc)
    tl.store(sums_ptr + row * 2, peak)
    tl.store(sums_ptr + row * 2 + 1, total)


@triton.jit(do_not_specialize=["n", "splits"])
def decode_join_kernel(
    acc_ptr,
    sums_ptr,
    o_ptr,
    stride_ob,
    stride_oh,
    stride_on,
    kv_heads,
    group,
    n,
    splits,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Join the splits of each row, first to last; an empty split changes nothing."""
    pid_b = tl.program_id(1) // kv_heads
    pid_h = tl.program_id(1) % kv_heads
    offs_m = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    offs_d = tl.arange(0, BLOCK_D)
    size = tl.num_programs(0) * BLOCK_Q
    base = (tl.program_id(1) * splits).to(tl.int64) * size
    peak = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    for split in range(splits):
        peak = tl.maximum(peak, tl.load(sums_ptr + (base + split * size + offs_m) * 2))
    peak = tl.where(peak == float("-inf"), 0.0, peak)
    total = tl.zeros([BLOCK_Q], tl.float32)
    acc = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    for split in range(splits):
        row = base + split * size + offs_m
        weight = tl.exp2(tl.load(sums_ptr + row * 2) - peak)
        total += weight * tl.load(sums_ptr + row * 2 + 1)
        acc += weight[:, None] * tl.load(acc_ptr + row[:, None] * BLOCK_D + offs_d[None, :])
    out = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    offs_q = (offs_m // group).to(tl.int64)
    head = (pid_h * group + offs_m % group).to(tl.int64)
    pointers = o_ptr + pid_b.to(tl.int64) * stride_ob + head[:, None] * stride_oh
    pointers += offs_q[:, None] * stride_on + offs_d[None, :]
    mask = (offs_q[:, None] < n) & (offs_d[None, :] < HEAD_DIM)
    tl.store(pointers, narrow(out, o_ptr.dtype.element_ty, UPCAST), mask=mask)


def triton_decode(
    q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor, mask: Mask, scale: float
) -> Tensor:
    """Append k and v to the cache and attend; shapes as in ``decode_attention``."""
    require(
        keys.stride() == values.stride() and keys.stride(-1) == 1,
        ShapeError,
        "keys and values must be laid out alike, their last dimension contiguous; strides are {} and {}.",
        keys.stride(),
        values.stride(),
    )
    rows = mask.rows(q.shape[0], keys.shape[2], q.device)
    return decode(q, k, v, keys, values, rows, [int(number) for number in mask.rule], scale)


@library.custom_op("kinolenta::decode_attention", mutates_args=("keys", "values"))
def decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    rows: Tensor,
    rule: list[int],
    scale: float,
) -> Tensor:
    """Output [b, h, n, d] in the type of q."""
    q, k, v = row_contiguous(q), row_contiguous(k), row_contiguous(v)
    if v.stride() != k.stride():
        k, v = k.contiguous(), v.contiguous()
    batch, heads, n, d = q.shape
    kv_heads, slots = keys.shape[1:3]
    group, tile = heads // kv_heads, decode_tile(q.dtype, d, gpu_backend())
    shared = constants(q.dtype, d, rule, tile, gpu_backend())
    tiles, splits = triton.cdiv(n * group, tile.block_q), triton.cdiv(slots, DECODE_SPLIT)
    acc = q.new_empty(batch * kv_heads, splits, tiles * tile.block_q, shared["BLOCK_D"], dtype=torch.float32)
    sums = acc.new_empty(*acc.shape[:3], 2)
    out = q.new_empty(batch, n, heads, d).transpose(1, 2)
    decode_split_kernel[(tiles, splits, batch * kv_heads)](
        *(q, k, v, keys, values, acc, sums, rows),
        *(*q.stride()[:3], *k.stride()[:3], *keys.stride()[:3]),
        *(kv_heads, group, n, splits, scale),
        SPANS=key_span_count(rule),
        SPLIT=DECODE_SPLIT,
        **shared,
    )
    decode_join_kernel[(tiles, batch * kv_heads)](
        *(acc, sums, out, *out.stride()[:3], kv_heads, group, n, splits),
        **{name: shared[name] for name in ("HEAD_DIM", "BLOCK_D", "BLOCK_Q", "UPCAST")},
    )
    return out


@decode.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keys: Tensor,
    values: Tensor,
    rows: Tensor,
    rule: list[int],
    scale: float,
) -> Tensor:
    return q.new_empty(q.shape[0], q.shape[2], q.shape[1], q.shape[3]).transpose(1, 2)
