"""Products whose rows do not depend on how many rows there are: a clip is the same alone or in a batch.

A CPU's matrix library picks its routine by the shapes of the operands, and routines differ in their last
bits; a draw that hangs on such a bit would depend on the neighbours. With weights stored input-major, one
routine serves 2 to 64 rows, with one thread or several, and it is the faster one from 4 rows on. Measured bit
for bit with MKL on AVX-512; elsewhere rows may still differ in their last bits.
"""

import copy

from torch import Tensor, nn

from kinolenta.transformer.gpt import GPT

MIN_ROWS = 2  # a single row takes a matrix-vector routine of its own


def input_major(weight: Tensor) -> Tensor:
    """The same [out, in] weight on a CPU, stored column by column; on other devices the weight itself."""
    return weight.t().contiguous().t() if weight.device.type == "cpu" else weight


def row_stable(model: GPT) -> GPT:
    """A view of the model for decoding: linear weights copied input-major, every other tensor shared."""
    shared: dict[int, Tensor] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for module in model.modules():
        if isinstance(module, nn.Linear):
            shared[id(module.weight)] = nn.Parameter(input_major(module.weight.detach()), requires_grad=False)
    return copy.deepcopy(model, shared)  # copies the modules only: it takes the tensors from ``shared``
