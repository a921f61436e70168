"""Appending to a cache, the definition; attention over it is ``kernels.attention``'s."""

import torch
from torch import Tensor


def append(k: Tensor, v: Tensor, keys: Tensor, values: Tensor, start: int | Tensor) -> None:
    """Write k and v [b, h_kv, n, d] into the cache [b, h_kv, slots, d] from slot ``start`` of each row on."""
    n = k.shape[2]
    if isinstance(start, int):
        keys[:, :, start : start + n] = k
        values[:, :, start : start + n] = v
        return
    rows = torch.arange(k.shape[0], device=k.device)[:, None]
    slots = start[:, None] + torch.arange(n, device=k.device)
    keys[rows, :, slots] = k.transpose(1, 2)
    values[rows, :, slots] = v.transpose(1, 2)
