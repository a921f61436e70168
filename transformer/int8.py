"""The blocks with products in whole numbers: windows of codes in less time, drawn by a slightly other model.

Weights are rounded to int8 with a scale for each output, inputs likewise with one for each row as it comes
(vector-wise quantization, Dettmers et al. 2022, arXiv:2208.07339). A sum of integers is the same in any
order, and all else works on one row at a time, so rows do not depend on how many there are: parallel decoding
draws what sequential decoding draws, here too.

To scale and to round are many small operations, which cost more than the products save unless compiled into
one with their neighbours. torch.compile does that, once for any number of rows from 2 on (a lone one is run
twice), and needs a C++ compiler.
"""

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kinolenta.errors import ConfigError, require
from kinolenta.kernels.attention import Causal
from kinolenta.kernels.decode import decode_plan
from kinolenta.transformer.gpt import GPT
from kinolenta.transformer.stable import twice
from kinolenta.transformer.stack import Layer, layers_of

LARGEST = 127
SMALLER = 63  # of weights, where a processor adds products in pairs of 16 bits
LEAST = 1e-8  # of a scale's numerator: rows and columns of zeros stay zeros
MOST_ROWS = 1 << 16
MOST_GRAPHS = 64  # of a process: one for each shape of weights and number of threads

_log = logging.getLogger(__name__)


class Int8Weight(NamedTuple):
    """values: int8 [in, out], stored output by output. scale: float32 [out]."""

    values: Tensor
    scale: Tensor


class Int8Stack(NamedTuple):
    """``Stack`` with rounded weights; ``run`` is its ``run``."""

    layers: tuple[Layer[Int8Weight], ...]
    norm: Tensor
    heads: int
    kv_heads: int
    eps: float

    def run(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Causal, cache: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """x [b, n, d] to hidden states of the same shape, in inference mode."""
        with torch._dynamo.config.patch(recompile_limit=MOST_GRAPHS):
            return self._run(x, cos, sin, mask, cache)

    def _run(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Causal, cache: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        before, between, after = _compiled()
        batch, n, width = shape = x.shape
        both, layers = self.heads + self.kv_heads, self.layers
        rows, decode = batch * n, None
        x, cos, sin = (twice(each.flatten(0, 1)) for each in (x, cos, sin))
        qk, v = before(x, layers[0], cos, sin, both, self.eps)
        for number, (layer, slots) in enumerate(zip(layers, cache, strict=True)):
            qk, v = (heads[:rows].unflatten(0, (batch, n)).transpose(1, 2) for heads in (qk, v))
            q, k = qk.narrow(1, 0, self.heads), qk.narrow(1, self.heads, self.kv_heads)
            decode = decode_plan(q, k, v, slots, mask=mask) if decode is None else decode
            attended = twice(decode(q, k, v, slots).transpose(1, 2).reshape(rows, -1).contiguous())
            if number + 1 < len(layers):
                x, qk, v = between(x, attended, layer, layers[number + 1], cos, sin, both, self.eps)
            else:
                x = after(x, attended, layer, self.eps)
        return F.layer_norm(x[:rows], (width,), self.norm, None, self.eps).view(shape)


@torch.inference_mode()
def int8_stack_of(model: GPT) -> Int8Stack:
    """The blocks of a model that ``row_stable`` gave, rounded, and compiled if this process has not yet.

    Compiling takes about half a minute; PyTorch keeps the result on the disk for the next process. It is for
    the number of threads that PyTorch has now: set another one before. A processor on which int8 does not pay
    is named in the log. Raises ConfigError for weights that are not float32 on a CPU, or where nothing can be
    compiled.
    """
    kind = model.kind
    require(
        kind.dtype == torch.float32 and kind.device.type == "cpu",
        ConfigError,
        "int8 is for float32 weights on a CPU; these are {} on {}.",
        kind.dtype,
        kind.device.type,
    )
    _warn_of(torch.backends.cpu.get_cpu_capability())
    largest = largest_weight()
    layers = tuple(
        layer._replace(
            attention_norm=layer.attention_norm.detach(),
            qk_norm=layer.qk_norm.detach(),
            feed_forward_norm=layer.feed_forward_norm.detach(),
        )
        for layer in layers_of(model, lambda linear: _rounded(linear.weight, largest))
    )
    config, norm = model.config, model.norm
    found = Int8Stack(layers, norm.weight.detach(), config.n_head, config.n_kv_head, norm.eps)
    try:
        with torch._dynamo.config.patch(recompile_limit=MOST_GRAPHS):
            _warm_up(found, model.config.head_dim)
    except (torch._dynamo.exc.TorchDynamoException, OSError, RuntimeError) as error:
        reason = next(line for line in (*str(error).splitlines(), repr(error)) if line.strip())
        raise ConfigError(
            f"int8 needs torch.compile and a C++ compiler such as g++, and cannot be here; it says: {reason}"
        ) from error
    return found


@functools.cache
def _warn_of(capability: str) -> None:
    """Say once that a processor has no fast int8: below AVX-512 PyTorch does not hand it to oneDNN."""
    if capability == "AVX2":
        _log.warning(
            "int8 takes many times as long as float32 on this processor, for without AVX-512 PyTorch "
            "multiplies int8 number by number; choose float32."
        )


def largest_weight() -> int:
    """127, or 63 where sums of products overflow: processors without VNNI add pairs of them in 16 bits."""
    most = torch.full((4, 64), LARGEST, dtype=torch.int8)
    sums = torch._int_mm(most, -most.t())
    return LARGEST if bool((sums == -64 * LARGEST**2).all()) else SMALLER


def _rounded(weight: Tensor, largest: int) -> Int8Weight:
    """Of a weight [out, in]."""
    weight = weight.detach()
    scale = weight.abs().amax(1).clamp(min=LEAST) / largest
    return Int8Weight((weight / scale[:, None]).round().to(torch.int8).t(), scale)


def _product(x: Tensor, weight: Int8Weight) -> Tensor:
    largest = x.abs().amax(-1, keepdim=True).clamp(min=LEAST)
    rounded = (x * (LARGEST / largest)).round().to(torch.int8)
    return torch._int_mm(rounded, weight.values).float() * (largest / LARGEST) * weight.scale


def _before(
    x: Tensor, layer: Layer[Int8Weight], cos: Tensor, sin: Tensor, both: int, eps: float
) -> tuple[Tensor, Tensor]:
    """Turned queries and keys [rows, h + h_kv, d] of x [rows, d_model], and values [rows, h_kv, d]."""
    width = layer.qk_norm.shape[0]
    qkv = _product(F.layer_norm(x, (x.shape[-1],), layer.attention_norm, None, eps), layer.qkv)
    qkv = qkv.view(x.shape[0], -1, width)
    qk = F.layer_norm(qkv[:, :both], (width,), layer.qk_norm, None, eps)
    first, second = qk.chunk(2, -1)
    return qk * cos + torch.cat((second, first), -1) * sin, qkv[:, both:]


def _after(x: Tensor, attended: Tensor, layer: Layer[Int8Weight], eps: float) -> Tensor:
    """The rest of the block."""
    x = x + _product(attended, layer.out)
    up = _product(F.layer_norm(x, (x.shape[-1],), layer.feed_forward_norm, None, eps), layer.up)
    gate, value = up.chunk(2, -1)
    return x + _product(F.silu(gate) * value, layer.down)


def _between(
    x: Tensor,
    attended: Tensor,
    layer: Layer[Int8Weight],
    following: Layer[Int8Weight],
    cos: Tensor,
    sin: Tensor,
    both: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The rest of a block, and the beginning of the one after it."""
    x = _after(x, attended, layer, eps)
    return x, *_before(x, following, cos, sin, both, eps)


@functools.cache
def _compiled() -> tuple[Callable[..., Any], ...]:
    """``_before``, ``_between`` and ``_after``, each in one piece."""
    return tuple(torch.compile(part, fullgraph=True) for part in (_before, _between, _after))


def _warm_up(stack: Int8Stack, head_dim: int) -> None:
    """Compile with a number of rows that is said to be any."""
    before, between, after = _compiled()
    first, last, both = stack.layers[0], stack.layers[-1], stack.heads + stack.kv_heads
    x, cos, sin = torch.zeros(6, stack.norm.shape[0]), *torch.zeros(2, 6, both, head_dim)

    def any_rows(*tensors: Tensor) -> None:
        for tensor in tensors:
            torch._dynamo.mark_dynamic(tensor, 0, min=2, max=MOST_ROWS)

    any_rows(x, cos, sin)
    before(x, first, cos, sin, both, stack.eps)
    attended = torch.zeros(6, stack.heads * head_dim)
    any_rows(attended)
    x, _, _ = between(x, attended, first, last, cos, sin, both, stack.eps)
    any_rows(x)
    after(x, attended, last, stack.eps)
