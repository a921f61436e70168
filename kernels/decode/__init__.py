"""Attention of a few new slots over a cache that takes their keys and values on the way."""

import torch
from torch import Tensor

from kinolenta.errors import ShapeError, require
from kinolenta.kernels.attention.mask import Kind, Mask
from kinolenta.kernels.attention.reference import reference_attention
from kinolenta.kernels.attention.sdpa import sdpa_attention, sdpa_window
from kinolenta.kernels.backends import resolve
from kinolenta.kernels.decode.reference import append

__all__ = ["MAX_WINDOW", "decode_attention"]

MAX_WINDOW = 64


def decode_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cache: tuple[Tensor, Tensor],
    *,
    mask: Mask,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Write k and v into the cache from each row's ``mask.start`` on, and attend; returns [b, h, n, d].

    q [b, h, n, d]; k, v [b, h_kv, n, d], the new slots; cache: keys and values [b, h_kv, slots, d], changed
    in place. What the cache holds behind the new slots makes no difference; with the sdpa backend and a
    start per row it must be finite.
    scale, backend: as in ``attention``. Batch-invariant are the triton backend, for windows of at most 64,
    and the sdpa backend with a start per row (a tensor) on a CPU: the bits of a row depend on that row alone,
    not on its neighbours nor on how many slots come at once.
    Raises ShapeError if the shapes do not fit, ConfigError if there is no such backend or it cannot run here.
    """
    keys, values = cache
    batch, heads, n, width = q.shape
    kv_heads, slots = keys.shape[1:3]
    fits = (
        keys.shape == values.shape == (batch, kv_heads, slots, width)
        and k.shape == v.shape == (batch, kv_heads, n, width)
        and heads % kv_heads == 0
    )
    if not fits or mask.checked_start + n > slots:
        raise ShapeError(
            f"decode_attention got q {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)} from slot "
            f"{mask.start} of a cache {list(keys.shape)}; it takes q [b, h, n, d], k and v [b, h_kv, n, d] "
            "and a cache [b, h_kv, slots, d] with h a multiple of h_kv and start + n <= slots."
        )
    if mask.rule.kind == Kind.PREFIX:
        prefix, start = (torch.as_tensor(slot, device=q.device) for slot in (mask.boundary, mask.start))
        require(
            bool((prefix <= start + n).all()),
            ShapeError,
            "prefix ends behind the last slot that the cache holds; run the whole prefix first.",
        )
    scale = width**-0.5 if scale is None else scale
    backend = resolve(backend, q.device, q.dtype, width)
    if backend == "triton" and n <= MAX_WINDOW:
        from kinolenta.kernels.decode.triton import triton_decode  # heavy, and absent on some machines

        return triton_decode(q, k, v, keys, values, mask, scale)
    append(k, v, keys, values, mask.start if mask.common_start is None else mask.common_start)
    if backend == "sdpa" and not isinstance(mask.start, int):
        return sdpa_window(q, keys, values, mask, scale)
    if isinstance(mask.start, int):  # only what is written is read: cheaper, and free of what lies behind
        keys, values = keys[:, :, : mask.start + n], values[:, :, : mask.start + n]
    if backend == "reference":
        return reference_attention(q, keys, values, mask, scale)
    if backend == "sdpa":
        return sdpa_attention(q, keys, values, mask, scale)
    from kinolenta.kernels.attention.triton import triton_attention

    return triton_attention(q, keys, values, mask, scale)  # a long prompt: the training kernel is made for it
