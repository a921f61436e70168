"""Attention of a GPT over its strip: one public function, whatever does the work below it."""

from torch import Tensor

from kinolenta.errors import ShapeError
from kinolenta.kernels.attention.mask import Causal, Column, Mask, Neighbourhood, Prefix, Row
from kinolenta.kernels.attention.reference import reference_attention
from kinolenta.kernels.attention.sdpa import sdpa_attention
from kinolenta.kernels.backends import BACKENDS, resolve

__all__ = ["BACKENDS", "Causal", "Column", "Mask", "Neighbourhood", "Prefix", "Row", "attention"]


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Mask, scale: float | None = None, backend: str = "auto"
) -> Tensor:
    """Attend from n queries to s slots under a mask; returns [b, h, n, d] in the type of q.

    q [b, h, n, d]; k, v [b, h_kv, s, d] with h a multiple of h_kv (grouped heads); one type and device.
    scale: 1 / sqrt(d) unless given.
    backend: "reference" is the definition, "sdpa" is PyTorch's fused attention, "triton" the kernels here;
    "auto" is what the environment variable KINOLENTA_KERNELS says, or else the fastest that the device has:
    triton on a GPU of compute capability 8.0 or newer, sdpa elsewhere.
    Raises ShapeError if the shapes do not fit, ConfigError if there is no such backend or it cannot run here.
    """
    batch, heads, n, width = q.shape
    _, kv_heads, s, _ = k.shape
    fits = k.shape == v.shape == (batch, kv_heads, s, width) and heads % kv_heads == 0
    if not fits or mask.checked_start + n > s:
        raise ShapeError(
            f"attention got q {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)} from slot {mask.start}; "
            "it takes q [b, h, n, d] and k, v [b, h_kv, s, d] with h a multiple of h_kv and start + n <= s."
        )
    if not q.dtype == k.dtype == v.dtype:
        raise ShapeError(f"attention got q, k, v of types {q.dtype}, {k.dtype}, {v.dtype}; they must be one.")
    scale = width**-0.5 if scale is None else scale
    backend = resolve(backend, q.device, q.dtype, width)
    if backend == "reference":
        return reference_attention(q, k, v, mask, scale)
    if backend == "sdpa":
        return sdpa_attention(q, k, v, mask, scale)
    from kinolenta.kernels.attention.triton import triton_attention  # heavy, and absent on some machines

    return triton_attention(q, k, v, mask, scale)
