"""Fused attention, backward: gradients from the saved output and log-sums, scores computed once more.

After Dao 2023, arXiv:2307.08691, section 3.1. One kernel for dq, a program per block of queries; one for dk
and dv, a program per block of keys, which also sums over the query heads that share them. No atomics: a
gradient is the same, bit for bit, at every run. Proven as the forward kernel is.
"""

import triton
import triton.language as tl

from kinolenta.kernels.attention.triton_forward import LOG2_E, load_tile, narrow, product, store_tile
from kinolenta.kernels.attention.triton_mask import is_full, is_visible, key_end, key_span, query_span


@triton.jit
def attention_delta_kernel(
    o_ptr,
    do_ptr,
    delta_ptr,  # [b, h, n] float32: sum over d of o * do
    stride_ob,
    stride_oh,
    stride_on,
    stride_db,
    stride_dh,
    stride_dn,
    heads,
    n,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_Q: tl.constexpr,
):
    pid_b = (tl.program_id(1) // heads).to(tl.int64)
    pid_h = (tl.program_id(1) % heads).to(tl.int64)
    offs_q = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)
    o_base = o_ptr + pid_b * stride_ob + pid_h * stride_oh
    do_base = do_ptr + pid_b * stride_db + pid_h * stride_dh
    o = load_tile(o_base, offs_q, stride_on, 0, n, HEAD_DIM, BLOCK_D, True).to(tl.float32)
    do = load_tile(do_base, offs_q, stride_dn, 0, n, HEAD_DIM, BLOCK_D, True).to(tl.float32)
    pointers = delta_ptr + tl.program_id(1).to(tl.int64) * n + offs_q
    tl.store(pointers, tl.sum(o * do, 1), mask=offs_q < n)


@triton.jit
def attention_dq_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    do_ptr,
    dq_ptr,
    lse_ptr,
    delta_ptr,
    rows_ptr,
    stride_qb,
    stride_qh,
    stride_qn,
    stride_kb,
    stride_kh,
    stride_ks,
    stride_vb,
    stride_vh,
    stride_vs,
    stride_db,
    stride_dh,
    stride_dn,
    stride_gb,  # of dq
    stride_gh,
    stride_gn,
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
    pid_q = tl.num_programs(0) - 1 - tl.program_id(0)
    pid_b = tl.program_id(1) // heads
    pid_h = tl.program_id(1) % heads
    start = tl.load(rows_ptr + pid_b * 4)
    first = tl.load(rows_ptr + pid_b * 4 + 1)
    stop = tl.load(rows_ptr + pid_b * 4 + 2)
    boundary = tl.load(rows_ptr + pid_b * 4 + 3)
    q_base = q_ptr + pid_b.to(tl.int64) * stride_qb + pid_h.to(tl.int64) * stride_qh
    do_base = do_ptr + pid_b.to(tl.int64) * stride_db + pid_h.to(tl.int64) * stride_dh
    k_base = k_ptr + pid_b.to(tl.int64) * stride_kb + (pid_h // group).to(tl.int64) * stride_kh
    v_base = v_ptr + pid_b.to(tl.int64) * stride_vb + (pid_h // group).to(tl.int64) * stride_vh

    offs_q = pid_q * BLOCK_Q + tl.arange(0, BLOCK_Q)
    q = load_tile(q_base, offs_q, stride_qn, 0, n, HEAD_DIM, BLOCK_D, True)
    do = load_tile(do_base, offs_q, stride_dn, 0, n, HEAD_DIM, BLOCK_D, True)
    row = tl.program_id(1).to(tl.int64) * n + offs_q
    lse = tl.load(lse_ptr + row, mask=offs_q < n, other=float("inf"))
    delta = tl.load(delta_ptr + row, mask=offs_q < n, other=0.0)
    q_lo = start + pid_q * BLOCK_Q
    q_hi = start + tl.minimum(pid_q * BLOCK_Q + BLOCK_Q, n)
    k_end = key_end(q_hi, stop, boundary, RULE)
    dq = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    done = 0
    for span in tl.static_range(SPANS):
        lo, hi = key_span(span, q_lo, q_hi, first, stop, boundary, RULE, BLOCK_K)
        block_hi = tl.where(lo < hi, tl.cdiv(hi, BLOCK_K), 0)  # an empty span may end anywhere
        for block in range(tl.maximum(lo // BLOCK_K, done), block_hi):
            offs_k = block * BLOCK_K + tl.arange(0, BLOCK_K)
            k = load_tile(k_base, offs_k, stride_ks, first, k_end, HEAD_DIM, BLOCK_D, not is_full(span, RULE))
            v = load_tile(v_base, offs_k, stride_vs, first, k_end, HEAD_DIM, BLOCK_D, not is_full(span, RULE))
            weights = tl.exp2(product(q, tl.trans(k), UPCAST, PRECISION) * (scale * LOG2_E) - lse[:, None])
            if not is_full(span, RULE):
                live = is_visible((start + offs_q)[:, None], offs_k[None, :], first, stop, boundary, RULE)
                weights = tl.where(live, weights, 0.0)
            to_weights = product(do, tl.trans(v), UPCAST, PRECISION)
            to_scores = weights * (to_weights - delta[:, None])
            dq += product(narrow(to_scores, k.dtype, UPCAST), k, UPCAST, PRECISION)
        done = tl.maximum(done, block_hi)
    dq_base = dq_ptr + pid_b.to(tl.int64) * stride_gb + pid_h.to(tl.int64) * stride_gh
    store_tile(dq_base, offs_q, stride_gn, n, dq * scale, HEAD_DIM, BLOCK_D, UPCAST)


@triton.jit
def attention_dkv_kernel(
    q_ptr,
    k_ptr,
    v_ptr,
    do_ptr,
    dk_ptr,
    dv_ptr,
    lse_ptr,
    delta_ptr,
    rows_ptr,
    stride_qb,
    stride_qh,
    stride_qn,
    stride_kb,
    stride_kh,
    stride_ks,
    stride_vb,
    stride_vh,
    stride_vs,
    stride_db,
    stride_dh,
    stride_dn,
    stride_gb,  # of dk and dv
    stride_gh,
    stride_gs,
    kv_heads,
    group,
    n,
    s,
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
    pid_k = tl.program_id(0)  # the first keys are seen by most queries: longest programs first
    pid_b = tl.program_id(1) // kv_heads
    pid_h = tl.program_id(1) % kv_heads
    start = tl.load(rows_ptr + pid_b * 4)
    first = tl.load(rows_ptr + pid_b * 4 + 1)
    stop = tl.load(rows_ptr + pid_b * 4 + 2)
    boundary = tl.load(rows_ptr + pid_b * 4 + 3)
    k_base = k_ptr + pid_b.to(tl.int64) * stride_kb + pid_h.to(tl.int64) * stride_kh
    v_base = v_ptr + pid_b.to(tl.int64) * stride_vb + pid_h.to(tl.int64) * stride_vh

    offs_k = pid_k * BLOCK_K + tl.arange(0, BLOCK_K)
    k_end = key_end(start + n, stop, boundary, RULE)
    k = load_tile(k_base, offs_k, stride_ks, first, k_end, HEAD_DIM, BLOCK_D, True)
    v = load_tile(v_base, offs_k, stride_vs, first, k_end, HEAD_DIM, BLOCK_D, True)
    k_lo = tl.maximum(pid_k * BLOCK_K, first)
    k_hi = tl.minimum(pid_k * BLOCK_K + BLOCK_K, stop)
    q_end = tl.where(k_lo < k_hi, tl.minimum(start + n, stop), start)  # dead keys are seen by nobody
    dk = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    for member in range(group):
        head = pid_h * group + member
        q_base = q_ptr + pid_b.to(tl.int64) * stride_qb + head.to(tl.int64) * stride_qh
        do_base = do_ptr + pid_b.to(tl.int64) * stride_db + head.to(tl.int64) * stride_dh
        row_base = (pid_b * kv_heads * group + head).to(tl.int64) * n
        done = 0
        for span in range(SPANS):
            lo, hi = query_span(span, k_lo, k_hi, start, q_end, boundary, RULE)
            block_hi = tl.where(lo < hi, tl.cdiv(hi - start, BLOCK_Q), 0)
            for block in range(tl.maximum((lo - start) // BLOCK_Q, done), block_hi):
                offs_q = block * BLOCK_Q + tl.arange(0, BLOCK_Q)
                q = load_tile(q_base, offs_q, stride_qn, 0, n, HEAD_DIM, BLOCK_D, True)
                do = load_tile(do_base, offs_q, stride_dn, 0, n, HEAD_DIM, BLOCK_D, True)
                lse = tl.load(lse_ptr + row_base + offs_q, mask=offs_q < n, other=float("inf"))
                delta = tl.load(delta_ptr + row_base + offs_q, mask=offs_q < n, other=0.0)
                scores = product(k, tl.trans(q), UPCAST, PRECISION) * (scale * LOG2_E)  # [BLOCK_K, BLOCK_Q]
                live = is_visible((start + offs_q)[None, :], offs_k[:, None], first, stop, boundary, RULE)
                weights = tl.where(live, tl.exp2(scores - lse[None, :]), 0.0)
                dv += product(narrow(weights, do.dtype, UPCAST), do, UPCAST, PRECISION)
                to_weights = product(v, tl.trans(do), UPCAST, PRECISION)
                to_scores = weights * (to_weights - delta[None, :])
                dk += product(narrow(to_scores, q.dtype, UPCAST), q, UPCAST, PRECISION)
            done = tl.maximum(done, block_hi)
    offset = pid_b.to(tl.int64) * stride_gb + pid_h.to(tl.int64) * stride_gh
    store_tile(dk_ptr + offset, offs_k, stride_gs, s, dk * scale, HEAD_DIM, BLOCK_D, UPCAST)
    store_tile(dv_ptr + offset, offs_k, stride_gs, s, dv, HEAD_DIM, BLOCK_D, UPCAST)
