"""Latents <-> codes. A quantizer is any module with this interface; FSQ is the one in use."""

from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class Quantized(NamedTuple):
    """latents [..., code_dim] with a straight-through gradient, codes [...] int64, loss: scalar to be
    added.
    """

    latents: Tensor
    codes: Tensor
    loss: Tensor


class Quantizer(Protocol):
    """codebook_size codes of code_dim numbers each; ``lookup(quantizer(x).codes)`` equals
    ``quantizer(x).latents``.
    """

    codebook_size: int
    code_dim: int

    def __call__(self, latents: Tensor) -> Quantized: ...

    def lookup(self, codes: Tensor) -> Tensor: ...


class FSQ(nn.Module):
    """Finite scalar quantization (Mentzer et al. 2023, arXiv:2309.15505): each channel is rounded to a few
    levels.

    The codebook is the grid of all level combinations, so no code can die and there is no codebook loss. A
    code is a number in mixed radix, the first channel being the lowest digit. Latents are scaled to [-1, 1].
    """

    levels: Tensor
    radix: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.code_dim = len(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        radix = torch.cat([torch.ones(1, dtype=torch.int64), torch.tensor(levels[:-1], dtype=torch.int64)])
        self.register_buffer("radix", radix.cumprod(0), persistent=False)
        self.codebook_size = int(torch.tensor(levels).prod())

    def forward(self, latents: "Float[Tensor, '*batch c']") -> Quantized:
        # sigmoid(2x) covers [0, L-1] evenly for odd and even L alike, without the usual shift of even levels.
        span = (self.levels - 1).to(torch.float32)
        scaled = torch.sigmoid(2 * latents.float()) * span
        digits = torch.round(scaled)
        straight = scaled + (digits - scaled).detach()
        return Quantized(2 * straight / span - 1, self._pack(digits.detach().long()), latents.new_zeros(()))

    def lookup(self, codes: "Int[Tensor, '*batch']") -> "Float[Tensor, '*batch c']":
        digits = codes[..., None] // self.radix % self.levels
        return 2 * digits.float() / (self.levels - 1).float() - 1

    def _pack(self, digits: Tensor) -> Tensor:
        return (digits * self.radix).sum(dim=-1)
