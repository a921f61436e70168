"""Gumbel noise from Philox counters in Triton: a GPU draws with the words that a CPU draws with.

``kinolenta.transformer.noise`` has the definition. Proven by interpreter and by ahead-of-time compilation
(docs/kernels.md); not yet run on a GPU.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256  # blocks of four codes, one Philox counter each, that a program draws for one place
WARPS = 4


def triton_gumbel(seed: int, candidate: int, positions: Tensor, codebook_size: int) -> Tensor:
    """``gumbel`` of checked arguments: float32 [n, codebook_size] for positions int64 [n]."""
    stream = torch.tensor([seed, candidate], device=positions.device)
    out = torch.empty(len(positions), codebook_size, device=positions.device)
    grid = (len(positions), triton.cdiv(codebook_size, 4 * BLOCK))
    with torch.cuda.device_of(positions):
        gumbel_kernel[grid](stream, positions.contiguous(), out, codebook_size, BLOCK=BLOCK, num_warps=WARPS)
    return out


@triton.jit
def gumbel_kernel(stream_ptr, positions_ptr, out_ptr, codebook_size, BLOCK: tl.constexpr):
    """Noise of the codes of one place, BLOCK counters a program. stream: (seed, candidate), int64."""
    place = tl.program_id(0)
    block = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    zero = tl.zeros((BLOCK,), tl.uint32)
    position = zero + tl.load(positions_ptr + place).to(tl.uint32)
    candidate = zero + tl.load(stream_ptr + 1).to(tl.uint32)
    seed = tl.load(stream_ptr).to(tl.uint64)
    w0, w1, w2, w3 = tl.philox(seed, block.to(tl.uint32), position, candidate, zero)
    row_ptr = out_ptr + place.to(tl.int64) * codebook_size
    _store(row_ptr, 4 * block, w0, codebook_size)
    _store(row_ptr, 4 * block + 1, w1, codebook_size)
    _store(row_ptr, 4 * block + 2, w2, codebook_size)
    _store(row_ptr, 4 * block + 3, w3, codebook_size)


@triton.jit
def _store(row_ptr, code, word, codebook_size):
    """Logarithms in float64, so that rounding to float32 hides the difference between math libraries."""
    uniform = ((word >> 9).to(tl.float64) + 0.5) * (1.0 / 8388608)
    noise = -tl.log(-tl.log(uniform))
    tl.store(row_ptr + code, noise.to(tl.float32), mask=code < codebook_size)
