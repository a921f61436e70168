"""Cached decoding: keys and values of everything before, so that a pass costs only its own codes.

Nothing is ever rolled back: a pass writes the slots of its window, and causality hides what lies after.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from kinolenta.kernels.attention import Causal
from kinolenta.kernels.products import Product
from kinolenta.transformer.config import GPTConfig
from kinolenta.transformer.gpt import GPT, CodeInputs
from kinolenta.transformer.graphs import GraphedStack, graphed
from kinolenta.transformer.int8 import Int8Stack
from kinolenta.transformer.layout import SequenceLayout, Strip
from kinolenta.transformer.stable import StableProduct, View
from kinolenta.transformer.stack import Stack, stack_of

ALIGNMENT = 16  # slots


@dataclass(frozen=True, eq=False, kw_only=True)
class KVCache:
    """State of a batch of clips, each with one row of keys and values or several (with text, without).

    Rows of copy c of clip i stand at c * clips + i; their text ends at the same slot
    (``SequenceLayout.pack_prefill``).
    layers: keys and values of each layer, [rows, h_kv, slots, d]. pad: [rows], dead slots at the start.
    history: [clips, 1 + num_codes], the codes so far after a "none". codes: the view of it without that.
    held: [num_codes], for each slot of the codes the column of ``history`` that it holds. earlier:
    [num_codes], for each code the column that holds what stood one frame earlier.
    cos, sin: rotary tables of the code slots, [num_codes, h + h_kv, d]. places: [num_codes, d_model], what
    the place of each code adds to the slot before it. inputs, head, stack: tables and weights of the model.
    """

    layers: list[tuple[Tensor, Tensor]]
    pad: Tensor
    history: Tensor
    codes: Tensor
    held: Tensor
    earlier: Tensor
    cos: Tensor
    sin: Tensor
    places: Tensor
    inputs: CodeInputs
    head: Product
    stack: Stack | GraphedStack | Int8Stack

    @property
    def copies(self) -> int:
        """Rows of each clip."""
        return len(self.pad) // len(self.history)

    def first_copies(self) -> "KVCache":
        """The same with only the first row of each clip."""
        clips = len(self.history)
        layers = [(keys[:clips], values[:clips]) for keys, values in self.layers]
        return replace(self, layers=layers, pad=self.pad[:clips])


def prefill(
    model: GPT, strip: Strip, copies: int = 1, stack: Int8Stack | None = None
) -> tuple[KVCache, Tensor]:
    """Run the texts; returns the cache and logits [rows, codebook_size] of the first code.

    Each text runs in one pass of its own, once for all rows that have it, and without the dead slots before
    it: no sum depends on another text.

    model: as ``row_stable`` gives it, if rows shall not depend on their neighbours in any bit.
    strip: from ``pack_prefill`` without codes, but with the order of those that the clips will have, the same
    for all; the clips' rows ``copies`` times over.
    stack: what the windows of codes run through, if not the model's own blocks.
    """
    config, layout = model.config, model.layout
    order = strip.order[0]
    num_codes = len(order)
    rows, device = strip.token_ids.shape[0], strip.token_ids.device
    shape = (
        config.n_layer,
        2,
        rows,
        config.n_kv_head,
        cache_slots(config, num_codes),
        config.head_dim,
    )
    memory = torch.zeros(shape, dtype=model.kind.dtype, device=device)
    aims = layout.places(order.roll(-1) - 1)  # the last slot is never run
    held = layout.held(torch.arange(num_codes, device=device))
    cos, sin = model.rotary(*(F.pad(places, (1, 0))[None] for places in (layout.places(order[held]), aims)))
    history = torch.zeros(rows // copies, 1 + num_codes, dtype=torch.int64, device=device)
    history[:, 0] = config.codebook_size
    if isinstance(model, View):
        inputs, head = model.tables()
    else:
        inputs, head = model.code_inputs(), StableProduct(model.code_head())
    cache = KVCache(
        layers=[(keys, values) for keys, values in memory.unbind()],
        pad=strip.text_start,
        history=history,
        codes=history[:, 1:],
        held=held + 1,
        earlier=_earlier(order, layout),
        cos=cos[0],
        sin=sin[0],
        places=F.embedding(model.place_rows(order), inputs.place),
        inputs=inputs,
        head=head,
        stack=graphed(stack_of(model), memory) if stack is None else stack,
    )
    hidden = torch.empty(rows, config.d_model, dtype=memory.dtype, device=device)
    first_with: dict[tuple[int, ...], int] = {}
    for row, start in enumerate(strip.text_start.tolist()):
        text, slots = strip.rows([row]).since(start), slice(start, layout.text_slots)
        same = first_with.setdefault(tuple(text.token_ids[0].tolist()), row)
        if same < row:
            memory[:, :, row, :, slots], hidden[row] = memory[:, :, same, :, slots], hidden[same]
        else:
            layers = [
                (keys[row : row + 1, :, start:], values[row : row + 1, :, start:])
                for keys, values in cache.layers
            ]
            hidden[row] = model(text, layers, cache.inputs)[0, -1]
    return cache, cache.head(hidden)


def cache_slots(config: GPTConfig, num_codes: int) -> int:
    """Slots of a row: its text and codes, and some more to fill whole vector registers."""
    return -(-(config.text_len + 2 + num_codes) // ALIGNMENT) * ALIGNMENT


def windows(table: Tensor, starts: Sequence[int], n: int) -> Tensor:
    """Rows start .. start + n - 1 of a table [num_codes, ...] for each clip: [clips, n, ...]. Of one clip
    these are a view.
    """
    if len(starts) == 1:
        return table[None, starts[0] : starts[0] + n]
    return torch.stack([table[start : start + n] for start in starts])


def own_windows(codes: Tensor, starts: Sequence[int], n: int) -> Tensor:
    """Codes number start .. start + n - 1 of each clip, out of codes [clips, num_codes]: [clips, n]. Of one
    clip these are a view.
    """
    if len(starts) == 1:
        return codes[:, starts[0] : starts[0] + n]
    return torch.stack([row[start : start + n] for row, start in zip(codes, starts, strict=True)])


def decode_window(model: GPT, cache: KVCache, starts: Sequence[int], n: int) -> Tensor:
    """Run the slots of codes number start .. start + n - 1 of each clip; without a gap they hold the codes
    of these numbers.

    Returns hidden states [rows, n, d_model], from which ``cache.head`` makes the logits of the codes number
    start + 1 .. start + n; so the last slot of all is never run. A window may overwrite an earlier one.
    """
    inputs, copies = cache.inputs, cache.copies
    nexts = [start + 1 for start in starts]
    x = F.embedding(cache.history.gather(1, windows(cache.held, starts, n)), inputs.code)
    x += F.embedding(cache.history.gather(1, windows(cache.earlier, nexts, n)), inputs.previous)
    x += windows(cache.places, nexts, n)
    cos, sin = windows(cache.cos, starts, n), windows(cache.sin, starts, n)
    start = torch.tensor(starts, device=x.device)
    if copies > 1:
        start, x = start.repeat(copies), x.repeat(copies, 1, 1)
        cos, sin = cos.repeat(copies, 1, 1, 1), sin.repeat(copies, 1, 1, 1)
    mask = Causal(start=start + model.layout.text_slots, pad=cache.pad)
    return cache.stack.run(x, cos, sin, mask, cache.layers)


def _earlier(order: Tensor, layout: SequenceLayout) -> Tensor:
    """For each code of the order 1 + the number of the one a frame earlier, if the code sees it; else 0."""
    per_frame = layout.config.codes_per_frame
    numbers = torch.arange(len(order), device=order.device)
    numbers_at = order.new_full((int(order.max()) + 1,), len(order))
    numbers_at[order] = numbers
    before = numbers_at[(order - per_frame).clamp(min=0)]
    return (before + 1).where((order >= per_frame) & (before < layout.seen(numbers)), 0)
