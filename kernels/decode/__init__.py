"""Attention of a few new slots over a cache that takes their keys and values on the way."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from kinolenta.errors import ShapeError, require
from kinolenta.kernels.attention.mask import Kind, Mask
from kinolenta.kernels.attention.reference import reference_attention
from kinolenta.kernels.attention.sdpa import Attend, sdpa_attention, sdpa_window
from kinolenta.kernels.backends import resolve
from kinolenta.kernels.decode.reference import append_plan

__all__ = ["MAX_WINDOW", "decode_attention", "decode_plan"]

MAX_WINDOW = 64
Decode: TypeAlias = Callable[[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]], Tensor]


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
    return decode_plan(q, k, v, cache, mask=mask, scale=scale, backend=backend)(q, k, v, cache)


def decode_plan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cache: tuple[Tensor, Tensor],
    *,
    mask: Mask,
    scale: float | None = None,
    backend: str = "auto",
) -> Decode:
    """``decode_attention`` for tensors like these, called with (q, k, v, cache): checked and laid out once
    for all layers of a pass. Arguments and errors are those of ``decode_attention``.
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

        return lambda q, k, v, cache: triton_decode(q, k, v, *cache, mask, scale)
    append = append_plan(mask.start if mask.common_start is None else mask.common_start, batch, n, q.device)
    attend = _attend(q, keys, mask, scale, backend)

    def decode(q: Tensor, k: Tensor, v: Tensor, cache: tuple[Tensor, Tensor]) -> Tensor:
        append(k, v, *cache)
        return attend(q, *cache)

    return decode


def _attend(q: Tensor, keys: Tensor, mask: Mask, scale: float, backend: str) -> Attend:
    """Attention over a cache that holds the new slots already."""
    if backend == "sdpa" and not isinstance(mask.start, int):
        return sdpa_window(q, keys, mask, scale)
    attention = reference_attention if backend == "reference" else sdpa_attention
    if backend == "triton":  # a long prompt: the training kernel is made for it
        from kinolenta.kernels.attention.triton import triton_attention

        attention = triton_attention
    if not isinstance(mask.start, int):
        return lambda q, keys, values: attention(q, keys, values, mask, scale)
    stop = mask.start + q.shape[2]  # only what is written is read: cheaper, and free of what lies behind
    return lambda q, keys, values: attention(q, keys[:, :, :stop], values[:, :, :stop], mask, scale)
