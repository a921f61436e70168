"""The blocks as plain products over plain tensors: what cached decoding runs.

A pass over a few codes is so short that finding modules and their weights takes as long as the arithmetic.
Here the weights are found once, when a clip begins. The operations, and so the bits, are those of the blocks
of ``row_stable`` (tests/transformer/test_stack.py).
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor

from kinolenta.kernels.attention import Causal
from kinolenta.kernels.decode import decode_plan
from kinolenta.transformer.blocks import Block, LayerNorm
from kinolenta.transformer.gpt import GPT
from kinolenta.transformer.rotary import rotate
from kinolenta.transformer.stable import gated, input_pieces


class Layer(NamedTuple):
    """Weights of a block; products in pieces [inputs, outputs] whose results are added up in order."""

    attention_norm: Tensor
    qkv: tuple[Tensor, ...]
    qk_norm: Tensor
    out: tuple[Tensor, ...]
    feed_forward_norm: Tensor
    up: tuple[Tensor, ...]
    down: tuple[Tensor, ...]


class Stack(NamedTuple):
    """All blocks of a model, the last norm, and the numbers that they share."""

    layers: tuple[Layer, ...]
    norm: Tensor
    heads: int
    kv_heads: int
    eps: float

    def run(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Causal, cache: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """``GPT.run_blocks`` over a cache: x [b, n, d] to hidden states of the same shape."""
        batch, n, width = shape = x.shape
        heads, both, eps = self.heads, self.heads + self.kv_heads, self.eps
        x, decode = x.reshape(-1, width), None
        for layer, slots in zip(self.layers, cache, strict=True):
            qkv = _product(_normed(x, layer.attention_norm, eps), layer.qkv)
            qkv = qkv.view(batch, n, both + self.kv_heads, -1)
            qk = rotate(_normed(qkv.narrow(2, 0, both), layer.qk_norm, eps), cos, sin).transpose(1, 2)
            v = qkv.narrow(2, both, self.kv_heads).transpose(1, 2).to(qk.dtype)
            q, k = qk.narrow(1, 0, heads), qk.narrow(1, heads, self.kv_heads)
            decode = decode_plan(q, k, v, slots, mask=mask) if decode is None else decode
            attended = decode(q, k, v, slots)
            x = x + _product(attended.transpose(1, 2).reshape(x.shape[0], -1), layer.out)
            up = _product(_normed(x, layer.feed_forward_norm, eps), layer.up)
            half = up.shape[1] // 2
            x = x + _product(gated(up.narrow(1, 0, half), up.narrow(1, half, half)), layer.down)
        return _normed(x, self.norm, eps).view(shape)


def stack_of(model: GPT) -> Stack:
    """The blocks of a model that ``row_stable`` gave; views of its weights, no copies."""
    layers = []
    for module in model.blocks:
        block = cast(Block, module)
        attention, feed_forward = block.attention, block.feed_forward
        linears = (attention.qkv, attention.out, feed_forward.up, feed_forward.down)
        qkv, out, up, down = (tuple(w.t() for w in input_pieces(linear.weight)) for linear in linears)
        layers.append(
            Layer(
                block.attention_norm.weight,
                qkv,
                attention.qk_norm.weight,
                out,
                block.feed_forward_norm.weight,
                up,
                down,
            )
        )
    norm: LayerNorm = model.norm
    return Stack(tuple(layers), norm.weight, model.config.n_head, model.config.n_kv_head, norm.eps)


def _normed(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    return torch.layer_norm(x, gain.shape, gain, None, eps, False)


def _product(x: Tensor, pieces: tuple[Tensor, ...]) -> Tensor:
    if len(pieces) == 1:
        return torch.mm(x, pieces[0])
    begin = pieces[0].shape[0]
    y = torch.mm(x.narrow(1, 0, begin), pieces[0])
    for weight in pieces[1:]:
        y += torch.mm(x.narrow(1, begin, weight.shape[0]), weight)
        begin += weight.shape[0]
    return y
