"""Fused attention, forward: scores, mask, online softmax and weighted sum in one pass over the live blocks.

Saves the n x s scores, which never leave the chip (2 * n * s * heads numbers of traffic), after Dao et al.
2022, arXiv:2205.14135, and Milakov and Gimelshein 2018, arXiv:1805.02867. Accumulates in float32. Proven by
interpreter and by ahead-of-time compilation (docs/kernels.md); not yet run on a GPU.
"""

import triton
import triton.language as tl

from kinolenta.kernels.attention.triton_mask import is_full, is_visible, key_end, key_span

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def load_tile(
    base,  # pointer to a [rows, d] matrix whose last dimension is contiguous
    offs_row,
    stride_row,
    lo,
    hi,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BOUNDED: tl.constexpr,
):
    """[rows, BLOCK_D], zero from HEAD_DIM on and outside of rows [lo, hi), whose memory may hold anything."""
    offs_d = tl.arange(0, BLOCK_D)
    pointers = base + offs_row.to(tl.int64)[:, None] * stride_row + offs_d[None, :]
    if BOUNDED:
        mask = (offs_row[:, None] >= lo) & (offs_row[:, None] < hi)
        if HEAD_DIM != BLOCK_D:
            mask = mask & (offs_d[None, :] < HEAD_DIM)
        return tl.load(pointers, mask=mask, other=0.0)
    if HEAD_DIM != BLOCK_D:
        return tl.load(pointers, mask=offs_d[None, :] < HEAD_DIM, other=0.0)
    return tl.load(pointers)


@triton.jit
def narrow(x, DTYPE: tl.constexpr, UPCAST: tl.constexpr):
    """float32 x in a narrower type, rounded to the nearest; UPCAST: where the cast itself would truncate."""
    if UPCAST:
        bits = x.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -0x10000
        x = bits.to(tl.float32, bitcast=True)
    return x.to(DTYPE)


@triton.jit
def store_tile(
    base,
    offs_row,
    stride_row,
    limit,
    values,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Rows before ``limit``, and HEAD_DIM columns, rounded to the type of the matrix."""
    offs_d = tl.arange(0, BLOCK_D)
    pointers = base + offs_row.to(tl.int64)[:, None] * stride_row + offs_d[None, :]
    mask = (offs_row[:, None] < limit) & (offs_d[None, :] < HEAD_DIM)
    tl.store(pointers, narrow(values.to(tl.float32), base.dtype.element_ty, UPCAST), mask=mask)


@triton.jit
def product(a, b, UPCAST: tl.constexpr, PRECISION: tl.constexpr):
    """a @ b in float32. UPCAST: for the interpreter, which cannot multiply bfloat16; it changes no bit."""
    if UPCAST:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def softmax_step(scores, values, peak, total, acc, UPCAST: tl.constexpr, PRECISION: tl.constexpr):
    """Take a block of scores [BLOCK_Q, BLOCK_K], in units of log 2, into the running softmax.

    A row without a live score keeps its state bit for bit.
    """
    new_peak = tl.maximum(peak, tl.max(scores, 1))
    safe_peak = tl.where(new_peak == float("-inf"), 0.0, new_peak)
    weights = tl.exp2(scores - safe_peak[:, None])
    shrink = tl.exp2(peak - safe_peak)
    total = total * shrink + tl.sum(weights, 1)
    acc = acc * shrink[:, None] + product(narrow(weights, values.dtype, UPCAST), values, UPCAST, PRECISION)
    return new_peak, total, acc


@triton.jit
def attention_forward_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    o_ptr,
    lse_ptr,  # [b, h, n] float32, base-2 logarithm of the sum of exp
    rows_ptr,  # [b, 4] int32, see Mask.rows
    stride_qb,
    stride_qh,
    stride_qn,
    stride_kb,
    stride_kh,
    stride_ks,
    stride_vb,
    stride_vh,
    stride_vs,
    stride_ob,
    stride_oh,
    stride_on,
    heads,
    group,
    n,
    scale,
    RULE: tl.constexpr,
    SPANS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    UPCAST: tl.constexpr,
    PRECISION: tl.constexpr,
):
    pid_q = tl.num_programs(0) - 1 - tl.program_id(0)  # the last queries see most: longest programs first
    pid_b = tl.program_id(1) // heads
    pid_h = tl.program_id(1) % heads
    start = tl.load(rows_ptr + pid_b * 4)
    first = tl.load(rows_ptr + pid_b * 4 + 1)
    stop = tl.load(rows_ptr + pid_b * 4 + 2)
    boundary = tl.load(rows_ptr + pid_b * 4 + 3)
    q_base = q_ptr + pid_b.to(tl.int64) * stride_qb + pid_h.to(tl.int64) * stride_qh
    k_base = k_ptr + pid_b.to(tl.int64) * stride_kb + (pid_h // group).to(tl.int64) * stride_kh
    v_base = v_ptr + pid_b.to(tl.int64) * stride_vb + (pid_h // group).to(tl.int64) * stride_vh

    offs_q = pid_q * BLOCK_Q + tl.arange(0, BLOCK_Q)
    q = load_tile(q_base, offs_q, stride_qn, 0, n, HEAD_DIM, BLOCK_D, True)
    q_lo = start + pid_q * BLOCK_Q
    q_hi = start + tl.minimum(pid_q * BLOCK_Q + BLOCK_Q, n)
    k_end = key_end(q_hi, stop, boundary, RULE)
    peak = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    acc = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    done = 0
    for span in tl.static_range(SPANS):
        lo, hi = key_span(span, q_lo, q_hi, first, stop, boundary, RULE, BLOCK_K)
        block_hi = tl.where(lo < hi, tl.cdiv(hi, BLOCK_K), 0)  # an empty span may end anywhere
        for block in range(tl.maximum(lo // BLOCK_K, done), block_hi):
            offs_k = block * BLOCK_K + tl.arange(0, BLOCK_K)
            k = load_tile(k_base, offs_k, stride_ks, first, k_end, HEAD_DIM, BLOCK_D, not is_full(span, RULE))
            v = load_tile(v_base, offs_k, stride_vs, first, k_end, HEAD_DIM, BLOCK_D, not is_full(span, RULE))
            scores = product(q, tl.trans(k), UPCAST, PRECISION) * (scale * LOG2_E)
            if not is_full(span, RULE):
                live = is_visible((start + offs_q)[:, None], offs_k[None, :], first, stop, boundary, RULE)
                scores = tl.where(live, scores, float("-inf"))
            peak, total, acc = softmax_step(scores, v, peak, total, acc, UPCAST, PRECISION)
        done = tl.maximum(done, block_hi)

    empty = total == 0.0  # a query in a dead slot: its output is zero, and its weights in the backward pass
    total = tl.where(empty, 1.0, total)
    out = acc / total[:, None]
    lse = tl.where(empty, float("inf"), peak + tl.log2(total))
    o_base = o_ptr + pid_b.to(tl.int64) * stride_ob + pid_h.to(tl.int64) * stride_oh
    store_tile(o_base, offs_q, stride_on, n, out, HEAD_DIM, BLOCK_D, UPCAST)
    tl.store(lse_ptr + tl.program_id(1).to(tl.int64) * n + offs_q, lse, mask=offs_q < n)
