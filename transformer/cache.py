"""Cached decoding: keys and values of everything before, so that a pass costs only its new codes.

Nothing is ever rolled back: a pass writes the slots of its window, and causality hides what lies after.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kinolenta.kernels.attention import Causal
from kinolenta.transformer.gpt import GPT, CodeInputs
from kinolenta.transformer.layout import Strip
from kinolenta.transformer.rotary import rotary_tables
from kinolenta.transformer.stable import MIN_ROWS, input_major


@dataclass(frozen=True, eq=False, kw_only=True)
class KVCache:
    """State of a batch of rows whose text ends at the same slot (``SequenceLayout.pack_prefill``).

    layers: keys and values of each layer, [b, h_kv, slots, d].
    pad: [b], dead slots at the start of each row.
    history: [b, h * w + num_codes], the codes so far after a frame of "none", so that column i is what
    stood one frame before the place of code i.
    cos, sin: rotary tables of the code slots. inputs, place_rows, head: tables of the model.
    """

    layers: list[tuple[Tensor, Tensor]]
    pad: Tensor
    history: Tensor
    cos: Tensor
    sin: Tensor
    inputs: CodeInputs
    place_rows: Tensor
    head: Tensor


def prefill(model: GPT, strip: Strip, num_codes: int) -> tuple[KVCache, Tensor]:
    """Run text and known codes in one pass; returns the cache and logits [b, codebook_size] of the next code.

    model: as ``row_stable`` gives it, if rows shall not depend on their neighbours in any bit.
    strip: from ``pack_prefill``; num_codes: how many codes the clip will have, known ones included.
    """
    config, layout = model.config, model.layout
    batch, device = strip.token_ids.shape[0], strip.token_ids.device
    shape = (config.n_layer, 2, batch, config.n_kv_head, layout.text_slots + num_codes, config.head_dim)
    memory = torch.zeros(shape, dtype=model.kind.dtype, device=device)
    indices = torch.arange(num_codes + 1, device=device)
    places = F.pad(layout.places(indices[:-1]), (1, 0))[None]  # text axis 0
    cos, sin = rotary_tables(places, model.frequencies)
    none = torch.full((batch, config.codes_per_frame), config.codebook_size, device=device)
    known = strip.token_ids.gather(1, layout.code_slots(strip)) - config.text_vocab_size
    unknown = none.new_zeros(batch, num_codes - strip.num_codes)
    cache = KVCache(
        layers=[(keys, values) for keys, values in memory.unbind()],
        pad=strip.text_start,
        history=torch.cat((none, known, unknown), 1),
        cos=cos,
        sin=sin,
        inputs=model.code_inputs(),
        place_rows=model.place_rows(indices),
        head=input_major(model.code_head()),
    )
    hidden = torch.empty(batch, config.d_model, dtype=memory.dtype, device=device)
    stops = [*range(MIN_ROWS, batch, MIN_ROWS), batch]  # few rows at a time, see kinolenta.transformer.stable
    for stop in stops:
        rows = slice(max(stop - MIN_ROWS, 0), stop)
        layers = [(keys[rows], values[rows]) for keys, values in cache.layers]
        hidden[rows] = model(strip.rows(rows), layers, cache.inputs)[:, -1]
    return cache, F.linear(hidden, cache.head)


def decode_step(model: GPT, cache: KVCache, codes: Tensor, index: int) -> Tensor:
    """Run a window of n >= 1 new codes [b, n] that stand at raster indices index .. index + n - 1.

    Returns logits [b, n, codebook_size] of the codes after them; a window may overwrite an earlier one.
    """
    stop, none = index + codes.shape[1], model.config.codes_per_frame
    cache.history[:, none + index : none + stop] = codes
    inputs = cache.inputs
    x = F.embedding(codes, inputs.code) + F.embedding(cache.history[:, index + 1 : stop + 1], inputs.previous)
    x = x + F.embedding(cache.place_rows[index + 1 : stop + 1], inputs.place)
    mask = Causal(start=model.layout.text_slots + index, pad=cache.pad)
    hidden = model.run_blocks(x, cache.cos[:, index:stop], cache.sin[:, index:stop], mask, cache.layers)
    return F.linear(hidden, cache.head)
