"""Fused attention as PyTorch sees it: custom operators with their gradients, and the launches below them."""

import os
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor, library

from kinolenta.kernels.attention.mask import Mask
from kinolenta.kernels.attention.triton_backward import (
    attention_delta_kernel,
    attention_dkv_kernel,
    attention_dq_kernel,
)
from kinolenta.kernels.attention.triton_forward import attention_forward_kernel
from kinolenta.kernels.attention.triton_mask import key_span_count, query_span_count
from kinolenta.kernels.tiles import Tile, delta_tile, dkv_tile, dq_tile, forward_tile


def triton_attention(q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float) -> Tensor:
    """``reference_attention`` in Triton, forward and backward; output [b, h, n, d] in the type of q.

    q, k, v of one type: float32, bfloat16 or float16; d at most 128. Gradients are deterministic.
    """
    rows = mask.rows(q.shape[0], k.shape[2], q.device)
    return attention_forward(q, k, v, rows, [int(number) for number in mask.rule], scale)[0]


@library.custom_op("kinolenta::attention", mutates_args=())
def attention_forward(
    q: Tensor, k: Tensor, v: Tensor, rows: Tensor, rule: list[int], scale: float
) -> tuple[Tensor, Tensor]:
    """Output [b, h, n, d] and base-2 log-sums [b, h, n] in float32."""
    q, k, v = row_contiguous(q), row_contiguous(k), row_contiguous(v)
    batch, heads, n, d = q.shape
    out = _like(q)
    log_sums = q.new_empty(batch, heads, n, dtype=torch.float32)
    tile = forward_tile(q.dtype, d, gpu_backend())
    attention_forward_kernel[(triton.cdiv(n, tile.block_q), batch * heads)](
        *(q, k, v, out, log_sums, rows),
        *(*q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *out.stride()[:3]),
        *(heads, heads // k.shape[1], n, scale),
        SPANS=key_span_count(rule),
        **constants(q.dtype, d, rule, tile, gpu_backend()),
    )
    return out, log_sums


@attention_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, rule: list[int], scale: float) -> tuple[Tensor, Tensor]:
    return _like(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@library.custom_op("kinolenta::attention_backward", mutates_args=())
def attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    log_sums: Tensor,
    rows: Tensor,
    rule: list[int],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v in their types."""
    grad, q, k, v = row_contiguous(grad), row_contiguous(q), row_contiguous(k), row_contiguous(v)
    batch, heads, n, d = q.shape
    kv_heads, s = k.shape[1:3]
    delta = torch.empty_like(log_sums)
    dq, dk, dv = _like(q), _like(k), _like(k)
    tile = dq_tile(q.dtype, d, gpu_backend())
    shared, blocks = constants(q.dtype, d, rule, tile, gpu_backend()), triton.cdiv(n, tile.block_q)
    attention_delta_kernel[(blocks, batch * heads)](
        *(out, grad, delta, *out.stride()[:3], *grad.stride()[:3], heads, n),
        **{name: shared[name] for name in ("HEAD_DIM", "BLOCK_D", "BLOCK_Q")},
        num_warps=delta_tile(q.dtype, d, gpu_backend()).num_warps,
    )
    strides = (*q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *grad.stride()[:3])
    attention_dq_kernel[(blocks, batch * heads)](
        *(q, k, v, grad, dq, log_sums, delta, rows, *strides, *dq.stride()[:3]),
        *(heads, heads // kv_heads, n, scale),
        SPANS=key_span_count(rule),
        **shared,
    )
    tile = dkv_tile(q.dtype, d, gpu_backend())
    attention_dkv_kernel[(triton.cdiv(s, tile.block_k), batch * kv_heads)](
        *(q, k, v, grad, dk, dv, log_sums, delta, rows, *strides, *dk.stride()[:3]),
        *(kv_heads, heads // kv_heads, n, s, scale),
        SPANS=query_span_count(rule),
        **constants(q.dtype, d, rule, tile, gpu_backend()),
    )
    return dq, dk, dv


@attention_backward.register_fake
def _(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    log_sums: Tensor,
    rows: Tensor,
    rule: list[int],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return _like(q), _like(k), _like(k)


def _save(ctx, inputs, output) -> None:
    q, k, v, rows, rule, scale = inputs
    out, log_sums = output
    ctx.save_for_backward(q, k, v, out, log_sums, rows)
    ctx.rule, ctx.scale = rule, scale
    ctx.mark_non_differentiable(log_sums)


def _differentiate(ctx, grad: Tensor, _: Tensor | None):
    q, k, v, out, log_sums, rows = ctx.saved_tensors
    gradients = attention_backward(grad, q, k, v, out, log_sums, rows, ctx.rule, ctx.scale)
    return *gradients, None, None, None


attention_forward.register_autograd(_differentiate, setup_context=_save)


def constants(dtype: torch.dtype, head_dim: int, rule: list[int], tile: Tile, backend: str) -> dict[str, Any]:
    """The compile-time arguments that the kernels share, and the options of their launch.

    float32 products are three of TF32 on NVIDIA's GPUs, whose tensor cores know no others, and true ones on
    AMD's.
    """
    return {
        "RULE": tuple(rule),
        "HEAD_DIM": head_dim,
        "BLOCK_D": max(16, triton.next_power_of_2(head_dim)),
        "BLOCK_Q": tile.block_q,
        "BLOCK_K": tile.block_k,
        "UPCAST": interpreted() and dtype == torch.bfloat16,
        "PRECISION": "tf32x3" if dtype == torch.float32 and backend == "cuda" else "ieee",
        "num_warps": tile.num_warps,
        "num_stages": tile.num_stages,
    }


def gpu_backend() -> str:
    """ "cuda" or "hip", whichever PyTorch was built for; tiles and precision differ."""
    return "cuda" if torch.version.hip is None else "hip"


@cache
def interpreted() -> bool:
    """Whether kernels run in Triton's interpreter, on the CPU; Triton reads the variable once, too."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def row_contiguous(x: Tensor) -> Tensor:
    """The tensor with a last dimension that is contiguous, which loads of whole rows need."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _like(x: Tensor) -> Tensor:
    """[b, h, n, d] laid out as [b, n, h, d], so that joining the heads afterwards copies nothing."""
    batch, heads, n, d = x.shape
    return x.new_empty(batch, n, heads, d).transpose(1, 2)
