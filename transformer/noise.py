"""Gumbel noise from a counter: the draw at a place depends on (seed, candidate, place) and on nothing else.

No generator state, so a clip is the same alone or in a batch, drawn in order or in parallel, on any device.
Philox4x32-10 after Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Random123).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kinolenta.errors import ConfigError, require
from kinolenta.kernels.backends import resolve

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
BLOCK = 16  # places whose noise is made at once; of more, what lies between would leave the caches


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four 32-bit words for four counter words and two key words; words are int64 tensors that broadcast.

    A product of two words wraps in int64, but its bits are right, and masks drop the sign.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        even, odd = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1 = (odd >> 32 & _WORD) ^ c1 ^ k0, odd & _WORD
        c2, c3 = (even >> 32 & _WORD) ^ c3 ^ k1, even & _WORD
        k0, k1 = k0 + _KEY_STEPS[0] & _WORD, k1 + _KEY_STEPS[1] & _WORD
    return c0, c1, c2, c3


def gumbel(
    seed: int, candidate: int, positions: Tensor, codebook_size: int, *, backend: str = "auto"
) -> Tensor:
    """Standard Gumbel noise, float32 [n, codebook_size], for the codes at raster positions [n] of one clip.

    Key: the seed's low and high word. Counter: (code // 4, position, candidate, 0); output word code % 4. The
    logarithms are taken in float64, so that rounding to float32 hides the difference between math libraries.
    backend: as in ``attention``; "triton" makes the same words on a GPU, the others are the definition.
    Raises ConfigError unless 0 <= seed < 2^63 and 0 <= candidate < 2^32, or if Triton cannot run here.
    """
    check_stream(seed, candidate)
    if resolve(backend, positions.device, torch.float32, 1) == "triton":
        from kinolenta.kernels.noise import triton_gumbel  # heavy, and absent on some machines

        return triton_gumbel(seed, candidate, positions, codebook_size)
    blocks = torch.arange((codebook_size + 3) // 4, device=positions.device)
    counter = (blocks, positions[:, None], torch.full_like(blocks, candidate), torch.zeros_like(blocks))
    words = torch.stack(philox(counter, (seed & _WORD, seed >> 32)), -1).flatten(1)[:, :codebook_size]
    uniform = ((words >> 9).double() + 0.5) * 2.0**-23  # inside (0, 1), never at its ends
    return uniform.log_().neg_().log_().neg_().float()


class NoiseWindow:
    """Gumbel noise of a few clips for codes that move forward; made once for each place, then dropped.

    Memory: a window of noise a clip and a little more, however long the clip is.
    """

    def __init__(
        self, streams: Sequence[tuple[int, int]], codebook_size: int, window: int, order: Tensor
    ) -> None:
        """streams: (seed, candidate) of each clip. window: how many codes one call may ask for. order: [n],
        the raster index of each code, which names its noise, on the device of the logits.
        """
        self.streams, self.order = streams, order
        self.slots = window + BLOCK
        self.made: list[int] | None = None  # one after the last code of each clip whose noise is at hand
        self.values = torch.zeros(len(streams), self.slots, codebook_size, device=order.device)

    def at(self, index: Tensor) -> Tensor:
        """Noise [b, n, codebook_size] of the codes index [b, n], n consecutive ones of each clip."""
        if self.made is None:
            self.made = index[:, 0].tolist()
        for row, last in enumerate(index[:, -1].tolist()):
            while self.made[row] <= last:
                stop = min(self.made[row] + BLOCK, len(self.order))
                some = torch.arange(self.made[row], stop, device=self.order.device)
                noise = gumbel(*self.streams[row], self.order[some], self.values.shape[-1])
                self.values[row, some % self.slots] = noise
                self.made[row] += BLOCK
        rows = torch.arange(len(index), device=index.device)[:, None]
        return self.values[rows, index % self.slots]


def check_stream(seed: object, candidate: object) -> None:
    """Raise ConfigError unless both are plain integers in range."""
    for name, value, bits in (("seed", seed, 63), ("candidate", candidate, 32)):
        valid = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**bits
        require(valid, ConfigError, "{} is {!r}; it must be an integer in 0..2^{}-1.", name, value, bits)
