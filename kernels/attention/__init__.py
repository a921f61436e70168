"""Attention of a GPT over its strip: one public function, whatever does the work below it."""

import os

import torch.nn.functional as F
from torch import Tensor

from kinolenta.errors import ConfigError, ShapeError, require
from kinolenta.kernels.attention.mask import Causal
from kinolenta.kernels.attention.reference import reference_attention

__all__ = ["BACKENDS", "Causal", "attention"]

BACKENDS = ("reference", "sdpa")


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Causal, scale: float | None = None, backend: str = "auto"
) -> Tensor:
    """Attend from n queries to s slots under a mask; returns [b, h, n, d] in the type of q.

    q [b, h, n, d]; k, v [b, h_kv, s, d] with h a multiple of h_kv (grouped heads).
    scale: 1 / sqrt(d) unless given.
    backend: "reference" is the definition, "sdpa" is PyTorch's fused attention, "auto" is what the
    environment variable KINOLENTA_KERNELS says, or else the fastest that the device has.
    Raises ShapeError if the shapes do not fit, ConfigError if there is no such backend.
    """
    batch, heads, n, width = q.shape
    _, kv_heads, s, _ = k.shape
    fits = k.shape == v.shape == (batch, kv_heads, s, width) and heads % kv_heads == 0
    if not fits or mask.start + n > s:
        raise ShapeError(
            f"attention got q {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)} from slot {mask.start}; "
            "it takes q [b, h, n, d] and k, v [b, h_kv, s, d] with h a multiple of h_kv and start + n <= s."
        )
    backend = _resolve(backend)
    scale = width**-0.5 if scale is None else scale
    if backend == "reference":
        return reference_attention(q, k, v, mask, scale)
    grouped = heads != kv_heads
    if mask.is_plain(n, s):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=grouped)
    if mask.pad is None and n == 1 and mask.start + 1 == s:  # the last slot sees everything
        return F.scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=grouped)
    visible = mask.visible(n, s, q.device)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=scale, enable_gqa=grouped)


def _resolve(backend: str) -> str:
    if backend == "auto":
        backend = os.environ.get("KINOLENTA_KERNELS") or "sdpa"
    require(
        backend in BACKENDS,
        ConfigError,
        "there is no attention backend {!r}; choose one of auto, {}.",
        backend,
        ", ".join(BACKENDS),
    )
    return backend
