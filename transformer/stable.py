"""Products whose rows do not depend on how many rows there are: a clip is the same alone or in a batch, and
drawn one code at a time or many.

A CPU's matrix library picks its routine by the shapes of the operands and by who made the processor, and
routines differ in their last bits; a draw that hangs on such a bit would depend on its neighbours. oneDNN
generates its code for a weight that was laid out beforehand, and sums up the inputs in one order for any
number of rows from 2 on; a lone row is multiplied twice unless a trial shows the same order. Compared bit for
bit among 2048 rows, as it generates code for SSE 4.1, AVX2, AVX-512 and AVX-512 with bfloat16
(tests/transformer/test_stable.py).
"""

import copy
from collections.abc import Hashable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinolenta.kernels.products import LaidOut, Linear, Product, state_of
from kinolenta.transformer.blocks import FeedForward
from kinolenta.transformer.config import GPTConfig
from kinolenta.transformer.gpt import GPT, CodeInputs

MOST_ELEMENTS = 32768  # PyTorch deals more among threads
TRIAL_OUTPUTS = 256  # at least so many sums are compared
PAIR = 64  # of the smallest numbers in two of the widest registers, a step of PyTorch's loops


class StableProduct(Linear):
    """What multiplies x [..., in] by a weight [out, in], and gives [..., out].

    On a CPU with oneDNN the weight is laid out anew, a copy; elsewhere this is F.linear, and rows may depend
    on their number in their last bits.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self._outputs, self._width = weight.shape
        self._alike: dict[int, bool] = {}  # by number of threads

    def __call__(self, x: Tensor) -> Tensor:
        if x.numel() != self._width or self.takes_lone_rows():
            return self.of_rows(x)
        return self.of_rows(twice(x.reshape(1, self._width)))[:1].view(*x.shape[:-1], -1)

    of_rows = Linear.__call__  # of two rows or more, or where lone ones are taken

    def takes_lone_rows(self) -> bool:
        """Whether a row by itself gives the bits that it gives among others.

        On some processors a lone row takes a matrix-vector routine, on others it does not. oneDNN chooses by
        shapes, so one trial tells, of more rows where there are few outputs; shorter numbers would hide much
        of a difference.
        """
        threads = torch.get_num_threads()
        if threads not in self._alike:
            exact = self._multiply is not None and self._weight.dtype == torch.float32
            self._alike[threads] = exact and self._try_lone_rows()
        return self._alike[threads]

    def _try_lone_rows(self) -> bool:
        generator = torch.Generator().manual_seed(0)
        rows = max(2, TRIAL_OUTPUTS // self._outputs)
        x = torch.randn(rows, self._width, generator=generator, dtype=torch.float32, device="cpu")
        y = self.of_rows(x)
        alone = [
            (self.of_rows(row), self.onto(one, row)) for one, row in zip(y.split(1), x.split(1), strict=True)
        ]
        lone, onto = (torch.cat(rows) for rows in zip(*alone, strict=True))
        return torch.equal(lone, y) and torch.equal(onto, self.onto(y, x))


def twice(x: Tensor) -> Tensor:
    """A lone row [1, ...] and the same once more; more rows as they are."""
    return x if len(x) > 1 else torch.cat((x, x))


class StableLinear(nn.Linear):
    """A linear layer without bias, a ``StableProduct`` of its weight, laid out anew when that has changed."""

    _laid_out: LaidOut[StableProduct] | None = None

    @property
    def product(self) -> StableProduct:
        if self._laid_out is None:
            self._laid_out = LaidOut(StableProduct)
        return self._laid_out.of(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.product(x)


def gated(gate: Tensor, value: Tensor) -> Tensor:
    """silu(gate) * value, halves of one tensor, [rows, width]; a row's bits do not depend on their number.

    The last numbers of a thread's share are rounded otherwise unless they fill a pair of vector registers;
    where shares would end anywhere, so few rows are taken at once that one thread does them.
    """
    if _even_shares(*gate.shape):
        return F.silu(gate).mul_(value)
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


class View(GPT):
    """A model for decoding; see ``row_stable``. What it makes of its tables is kept until one changes."""

    _made: tuple[Hashable, CodeInputs, Product] | None = None

    def __init__(self, config: GPTConfig) -> None:
        raise TypeError("A View is what row_stable makes of a GPT; build a GPT and call that.")

    def tables(self) -> tuple[CodeInputs, Product]:
        """``code_inputs``, and the product with ``code_head``."""
        named = self.named_parameters()
        made_of = tuple(state_of(weight) for name, weight in named if not name.startswith("blocks."))
        if self._made is None or self._made[0] != made_of:
            with torch.no_grad():
                self._made = made_of, self.code_inputs(), StableProduct(self.code_head())
        return self._made[1:]

    def __getstate__(self) -> dict[str, Any]:
        """Without what oneDNN laid out, which can be neither pickled nor copied."""
        return {name: value for name, value in self.__dict__.items() if name != "_made"}


class PieceByPiece(FeedForward):
    """A feed-forward with ``gated`` for its activation."""

    def gated(self, gate: Tensor, value: Tensor) -> Tensor:
        return gated(gate, value)


def row_stable(model: GPT) -> View:
    """A view of the model for decoding: its tensors are shared, and its linear layers multiply by
    ``StableProduct``s of their weights, which are copies. A view is its own view.
    """
    if isinstance(model, View):
        return model
    shared: dict[int, Any] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    view = copy.deepcopy(model, shared)  # copies the modules only: it takes the tensors from ``shared``
    for module in view.modules():
        if isinstance(module, nn.Linear):
            assert module.bias is None
            module.__class__ = StableLinear
        elif isinstance(module, FeedForward):
            module.__class__ = PieceByPiece
    view.__class__ = View
    return cast(View, view)
