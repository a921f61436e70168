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
BLOCK = 64  # places whose noise is made at once; of fewer, one thread does most of it alone


def philox(counter: Sequence[Tensor], key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four 32-bit words for four counter words and two key words; words are int64 tensors that broadcast.

    A product of two words wraps in int64, but its bits are right, and masks drop the sign. After each round
    ``even`` holds words 2 and 0, after the next 0 and 2 again, and ``odd`` the others; there are ten.
    """
    word0, word1, word2, word3 = torch.broadcast_tensors(*counter)
    even, odd = torch.stack((word0, word2)), torch.stack((word1, word3))
    multipliers = torch.tensor(_MULTIPLIERS, device=even.device).view(2, *[1] * word0.ndim)
    product = torch.empty_like(even)
    (k0, k1), (step0, step1) = key, _KEY_STEPS
    for _ in range(_ROUNDS):
        torch.mul(even, multipliers, out=product)
        torch.bitwise_right_shift(product, 32, out=even)
        even[0].bitwise_xor_(odd[1]).bitwise_xor_(k1)
        even[1].bitwise_xor_(odd[0]).bitwise_xor_(k0)
        even.bitwise_and_(_WORD)
        odd, product, multipliers = product, odd, multipliers.flip(0)
        k0, k1, step0, step1 = k1 + step1 & _WORD, k0 + step0 & _WORD, step1, step0
    odd.bitwise_and_(_WORD)
    return even[0], odd[0], even[1], odd[1]


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
    uniform = torch.empty(len(positions), len(blocks), 4, dtype=torch.float64, device=positions.device)
    for number, word in enumerate(philox(counter, (seed & _WORD, seed >> 32))):
        uniform[..., number] = word.bitwise_right_shift_(9)
    noise = uniform.flatten(1)[:, :codebook_size]
    noise.add_(0.5).mul_(2.0**-23)  # inside (0, 1), never at its ends
    return noise.log_().neg_().log_().float().neg_()


class NoiseWindow:
    """Gumbel noise of a few clips for codes that move forward; made once for each place, then dropped.

    A step back, as when a window grows near the end of a clip, makes the clip's noise from there on anew.
    Memory: two windows of noise a clip and a little more, however long the clip is.
    """

    def __init__(
        self, streams: Sequence[tuple[int, int]], codebook_size: int, window: int, order: Tensor
    ) -> None:
        """streams: (seed, candidate) of each clip. window: how many codes one call may ask for. order: [n],
        the raster index of each code, which names its noise, on the device of the logits.
        """
        self.streams, self.order = streams, order
        self.values = torch.zeros(len(streams), 2 * window + BLOCK, codebook_size, device=order.device)
        self.begin: list[int] = []  # of each clip, the code whose noise stands first
        self.made: list[int] = []  # one after the last code whose noise is at hand

    def at(self, firsts: Sequence[int], n: int) -> Tensor:
        """Noise [b, n, codebook_size] of codes number first .. first + n - 1 of each clip; to be used before
        the next call.
        """
        if not self.begin:
            self.begin, self.made = list(firsts), list(firsts)
        found = []
        for row, (first, values) in enumerate(zip(firsts, self.values, strict=True)):
            if first < self.begin[row]:
                self.begin[row] = self.made[row] = first
            while self.made[row] < first + n:
                self._make_more(row, first)
            found.append(values.narrow(0, first - self.begin[row], n))
        return found[0][None] if len(found) == 1 else torch.stack(found)

    def _make_more(self, row: int, first: int) -> None:
        """Noise of the next BLOCK codes of a clip, and those before ``first`` may go."""
        values, begin, made = self.values[row], self.begin[row], self.made[row]
        if made + BLOCK - begin > len(values):  # no room; what is still asked for goes to the front
            kept = min(first, made)
            values[: made - kept] = values[kept - begin : made - begin]
            begin = self.begin[row] = kept
        names = self.order[made : made + BLOCK]
        values[made - begin :][: len(names)] = gumbel(*self.streams[row], names, values.shape[1])
        self.made[row] += BLOCK


def check_stream(seed: object, candidate: object) -> None:
    """Raise ConfigError unless both are plain integers in range."""
    for name, value, bits in (("seed", seed, 63), ("candidate", candidate, 32)):
        valid = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**bits
        require(valid, ConfigError, "{} is {!r}; it must be an integer in 0..2^{}-1.", name, value, bits)
