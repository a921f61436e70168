"""The blocks as plain products over plain tensors: what cached decoding runs.

A pass over a few codes is so short that finding modules and their weights takes as long as the arithmetic.
Here the weights are found once, when a clip begins. The operations, and so the bits, are those of the blocks
of ``row_stable`` (tests/transformer/test_stack.py).
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn

from kinolenta.kernels.attention import Causal
from kinolenta.kernels.decode import decode_plan
from kinolenta.transformer.blocks import Block, LayerNorm
from kinolenta.transformer.gpt import GPT
from kinolenta.transformer.rotary import rotate
from kinolenta.transformer.stable import StableLinear, StableProduct, gated, twice

Weight = TypeVar("Weight")


class Layer(NamedTuple, Generic[Weight]):
    """Weights of a block: gains of its norms, and what ``layers_of`` made of the matrices."""

    attention_norm: Tensor
    qkv: Weight
    qk_norm: Tensor
    out: Weight
    feed_forward_norm: Tensor
    up: Weight
    down: Weight


class Stack(NamedTuple):
    """All blocks of a model, the last norm, and the numbers that they share."""

    layers: tuple[Layer[StableProduct], ...]
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
        rows, parts, decode = batch * n, (heads, self.kv_heads), None
        pair = twice if rows == 1 and not self._takes_lone_rows() else _as_it_is
        x = pair(x.reshape(rows, width))  # once here, and not in every product
        for layer, slots in zip(self.layers, cache, strict=True):
            qkv = layer.qkv.of_rows(_normed(x, layer.attention_norm, eps))
            qkv = qkv[:rows].view(batch, n, both + self.kv_heads, -1)
            normed = _normed(qkv, layer.qk_norm, eps)  # values too, in vain: a part would be copied first
            qk = rotate(normed.narrow(2, 0, both), cos, sin).transpose(1, 2)
            v = qkv.narrow(2, both, self.kv_heads).transpose(1, 2)
            q, k = qk.split(parts, 1)
            decode = decode_plan(q, k, v, slots, mask=mask) if decode is None else decode
            attended = decode(q, k, v, slots)
            x = layer.out.onto(x, pair(attended.transpose(1, 2).reshape(rows, -1)))
            gate, value = layer.up.of_rows(_normed(x, layer.feed_forward_norm, eps)).chunk(2, 1)
            x = layer.down.onto(x, gated(gate, value))
        return _normed(x[:rows], self.norm, eps).view(shape)

    def _takes_lone_rows(self) -> bool:
        return all(
            product.takes_lone_rows()
            for layer in self.layers
            for product in (layer.qkv, layer.out, layer.up, layer.down)
        )


def stack_of(model: GPT) -> Stack:
    """The blocks of a model; of one that ``row_stable`` gave, no copies of its weights."""
    norm: LayerNorm = model.norm
    layers = layers_of(
        model,
        lambda linear: linear.product if isinstance(linear, StableLinear) else StableProduct(linear.weight),
    )
    return Stack(layers, norm.weight, model.config.n_head, model.config.n_kv_head, norm.eps)


def layers_of(model: GPT, weight_of: Callable[[nn.Linear], Weight]) -> tuple[Layer[Weight], ...]:
    """The weights of every block, each matrix as ``weight_of`` its linear layer."""
    layers = []
    for module in model.blocks:
        block = cast(Block, module)
        attention, feed_forward = block.attention, block.feed_forward
        layers.append(
            Layer(
                block.attention_norm.weight,
                weight_of(attention.qkv),
                attention.qk_norm.weight,
                weight_of(attention.out),
                block.feed_forward_norm.weight,
                weight_of(feed_forward.up),
                weight_of(feed_forward.down),
            )
        )
    return tuple(layers)


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _normed(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    return torch.layer_norm(x, gain.shape, gain, None, eps, False)
