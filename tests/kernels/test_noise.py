"""The noise kernel under the interpreter: the words and numbers of the definition."""

import sys

import pytest
import torch

from kinolenta.transformer.noise import gumbel

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux")


@pytest.mark.parametrize("seed", [0, 1, 16, 2**31, 2**32 - 1, (5 << 32) + 9, 2**63 - 1])
@pytest.mark.parametrize(("candidate", "codebook_size"), [(0, 4375), (255, 61), (2**32 - 1, 1024)])
def test_kernel_and_definition_agree_in_every_bit(seed: int, candidate: int, codebook_size: int) -> None:
    positions = torch.tensor([0, 1, 319, 65535])
    expected = gumbel(seed, candidate, positions, codebook_size, backend="reference")
    found = gumbel(seed, candidate, positions, codebook_size, backend="triton")
    assert found.shape == expected.shape and found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_positions_of_any_stride_are_taken() -> None:
    positions = torch.arange(0, 40, 2)[::3]
    expected = gumbel(7, 1, positions, 100, backend="reference")
    assert torch.equal(gumbel(7, 1, positions, 100, backend="triton"), expected)
