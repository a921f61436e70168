"""Products whose rows do not depend on how many rows there are: a clip is the same alone or in a batch, and
drawn one code at a time or many.

A CPU's matrix library picks its routine by the shapes of the operands, and routines differ in their last
bits; a draw that hangs on such a bit would depend on its neighbours. With weights stored input-major and at
most 512 inputs summed at once, one routine serves 2 to 1024 rows, and it is the faster one from 4 rows on.
Measured bit for bit with MKL on AVX-512 (tests/transformer/test_stable.py); elsewhere rows may still differ
in their last bits.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinolenta.transformer.blocks import FeedForward
from kinolenta.transformer.gpt import GPT

MIN_ROWS = 2  # a single row takes a matrix-vector routine of its own
MOST_INPUTS = 512
MOST_ELEMENTS = 32768  # PyTorch deals more among threads
PAIR = 32  # numbers in two of the widest vector registers, a step of PyTorch's loops


def input_major(weight: Tensor) -> Tensor:
    """The same [out, in] weight on a CPU, stored column by column; on other devices the weight itself."""
    return weight.t().contiguous().t() if weight.device.type == "cpu" else weight


def input_pieces(weight: Tensor) -> tuple[Tensor, ...]:
    """A weight [out, in] cut along its inputs into as few pieces of equal size as have at most 512."""
    pieces = -(-weight.shape[1] // MOST_INPUTS)
    return weight.split(-(-weight.shape[1] // pieces), 1)


class SplitLinear(nn.Linear):
    """A linear layer without bias that adds up its inputs in pieces of equal size, at most 512, in order."""

    def forward(self, x: Tensor) -> Tensor:
        weights = input_pieces(self.weight)
        first, *rest = zip(x.split(weights[0].shape[1], -1), weights, strict=True)
        y = F.linear(*first)
        for inputs, weight in rest:
            y += F.linear(inputs, weight)
        return y


def gated(gate: Tensor, value: Tensor) -> Tensor:
    """silu(gate) * value, halves of one tensor, [rows, width]; a row's bits do not depend on their number.

    The last numbers of a thread's share are rounded otherwise unless they fill a pair of vector registers;
    where shares would end anywhere, so few rows are taken at once that one thread does them.
    """
    if _even_shares(*gate.shape):
        return F.silu(gate) * value
    few = max(1, MOST_ELEMENTS // gate.shape[-1])
    out = torch.empty(value.shape, dtype=value.dtype, device=value.device)
    for some, factors, product in zip(gate.split(few), value.split(few), out.split(few), strict=True):
        torch.mul(F.silu(some), factors, out=product)
    return out


def _even_shares(rows: int, width: int) -> bool:
    """Whether threads would share [rows, width] in whole rows or register pairs, or one have it all."""
    shares = min(torch.get_num_threads(), -(-rows * width // MOST_ELEMENTS))
    pairs = width % PAIR == 0 and rows * width % (shares * PAIR) == 0
    return shares <= 1 or rows % shares == 0 or pairs


class PieceByPiece(FeedForward):
    """A feed-forward with ``gated`` for its activation."""

    def gated(self, gate: Tensor, value: Tensor) -> Tensor:
        return gated(gate, value)


def row_stable(model: GPT) -> GPT:
    """A view of the model for decoding: linear weights copied input-major, every other tensor shared."""
    shared: dict[int, Tensor] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        if isinstance(module, nn.Linear):
            shared[id(module.weight)] = nn.Parameter(input_major(module.weight.detach()), requires_grad=False)
    view = copy.deepcopy(model, shared)  # copies the modules only: it takes the tensors from ``shared``
    for module in view.modules():
        if isinstance(module, nn.Linear) and module.in_features > MOST_INPUTS:
            assert module.bias is None
            module.__class__ = SplitLinear
        if isinstance(module, FeedForward):
            module.__class__ = PieceByPiece
    return view
