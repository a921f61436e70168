"""Our attention for any transformers model: ``attn_implementation="kinolenta_triton"``.

Both halves are registered, the attention and the mask: with the first alone a model would get no mask at all,
and left-padded rows and static caches would silently attend to dead slots.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kinolenta.errors import ConfigError
from kinolenta.kernels.attention import Causal, attention
from kinolenta.kernels.backends import resolve

NAME = "kinolenta_triton"
# What transformers may pass on that changes no score; anything else that is not None goes to SDPA.
_HARMLESS = {"is_causal", "output_attentions", "output_hidden_states", "position_ids", "use_cache"}

_log = logging.getLogger(__name__)


def register_attention() -> str:
    """Register the kernels with transformers and return their name, "kinolenta_triton".

    Use it as ``from_pretrained(..., attn_implementation=name)`` or ``model.set_attn_implementation(name)``.
    Causal attention with left or right padding, dynamic and static caches and grouped heads runs in Triton;
    everything else (a CPU, dropout, sliding windows, packed rows, bidirectional attention) runs in
    PyTorch's SDPA, which is logged once for each reason. KINOLENTA_KERNELS chooses as it does everywhere.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _mask)
    return NAME


class _Described:
    """A mask on its way through a model; ``generate`` makes it early and takes it for a 4-D tensor."""

    ndim = 4

    def __init__(self, mask: Causal) -> None:
        self.mask = mask

    def contiguous(self) -> "_Described":
        return self


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Any = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: Tensor | _Described | None = None,
    **kwargs: Any,
) -> Any:
    """A description where the kernels have one, else the tensor that SDPA takes."""
    if isinstance(attention_mask, _Described):
        return attention_mask
    from transformers.masking_utils import causal_mask_function, sdpa_mask

    described: Causal | None = None
    if mask_function in (None, causal_mask_function) and not isinstance(kv_offset, Tensor) and kv_offset == 0:
        described = _describe(q_offset, kv_length, attention_mask)
    if described is not None:
        return _Described(described)
    return sdpa_mask(
        batch_size=batch_size,
        q_length=q_length,
        kv_length=kv_length,
        q_offset=q_offset,
        kv_offset=kv_offset,
        mask_function=mask_function or causal_mask_function,
        attention_mask=attention_mask,
        **kwargs,
    )


def _describe(start: int | Tensor, slots: int, live: Tensor | None) -> Causal | None:
    """Causal attention over rows whose live slots are one run each; None if they are not."""
    start = int(start)
    if live is None:
        return Causal(start=start)
    live = live[:, :slots].bool()
    pad, count, width = live.int().argmax(1), live.sum(1), live.shape[1]
    positions = torch.arange(width, device=live.device)
    run = (positions >= pad[:, None]) & (positions < (pad + count)[:, None])
    if not torch.equal(run, live):
        return None
    if int(count.min()) == width:
        return Causal(start=start)
    # What lies behind the mask's width is not written yet: causality hides it.
    stop = torch.where(pad + count == width, slots, pad + count)
    return Causal(start=start, pad=pad, length=stop)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """query [b, h, n, d]; key, value [b, h_kv, s, d]; returns [b, n, h, d], as transformers wants it."""
    obstacle = _obstacle(query, attention_mask, dropout, kwargs)
    if obstacle is None:
        out = attention(query, key, value, mask=attention_mask.mask, scale=scaling, backend="triton")
        return out.transpose(1, 2), None
    _announce(obstacle)
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if isinstance(attention_mask, _Described):
        attention_mask = attention_mask.mask.visible(query.shape[2], key.shape[2], query.device)
    result: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
    )
    return result


def _obstacle(query: Tensor, mask: Any, dropout: float, extras: dict[str, Any]) -> str | None:
    """Why the kernels cannot take this call, or None if they can."""
    if not isinstance(mask, _Described):
        return "the mask is not causal with one run of live slots a row"
    if dropout:
        return "dropout in attention"
    unknown = sorted(name for name, value in extras.items() if value is not None and name not in _HARMLESS)
    if unknown:
        return f"the model asks for {', '.join(unknown)}"
    try:
        backend = resolve("auto", query.device, query.dtype, query.shape[-1])
    except ConfigError as problem:
        return str(problem)
    return None if backend == "triton" else f"the attention backend here is {backend}"


@functools.cache
def _announce(obstacle: str) -> None:
    _log.warning("%s uses PyTorch's SDPA: %s.", NAME, obstacle)
