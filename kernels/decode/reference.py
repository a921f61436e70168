"""Appending to a cache, the definition; attention over it is ``kernels.attention``'s."""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Append: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], None]


def append_plan(start: int | Tensor, batch: int, n: int, device: torch.device) -> Append:
    """What writes k and v [b, h_kv, n, d] into keys and values [b, h_kv, slots, d], from slot ``start`` of
    each row on; called with (k, v, keys, values).
    """
    if isinstance(start, int):

        def append(k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> None:
            keys.narrow(2, start, n).copy_(k)
            values.narrow(2, start, n).copy_(v)

        return append
    rows = torch.arange(batch, device=device)[:, None]
    slots = start[:, None] + torch.arange(n, device=device)

    def append_rows(k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> None:
        keys[rows, :, slots] = k.transpose(1, 2)
        values[rows, :, slots] = v.transpose(1, 2)

    return append_rows
