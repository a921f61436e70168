import math

import pytest
import torch

from kinolenta.errors import ConfigError
from kinolenta.transformer.noise import gumbel, philox

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [  # known answers published with Random123 for philox4x32-10
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]) -> None:
    got = philox([torch.tensor([word]) for word in counter], key)
    assert [int(word) for word in got] == list(words)


def test_philox_leaves_its_counters_alone_and_takes_any_shapes_that_fit() -> None:
    counter = [torch.arange(3), torch.arange(4)[:, None], torch.tensor(5), torch.tensor([7])]
    before = [word.clone() for word in counter]
    got = philox(counter, (1, 2))
    assert all(torch.equal(one, other) for one, other in zip(counter, before, strict=True))
    for row, column in ((0, 0), (3, 2)):
        single = philox([torch.tensor([word]) for word in (column, row, 5, 7)], (1, 2))
        assert [int(word[row, column]) for word in got] == [int(word) for word in single]


def test_gumbel_is_what_the_counter_says() -> None:
    seed, candidate, position, code = (5 << 32) + 9, 2, 41, 10
    noise = gumbel(seed, candidate, torch.tensor([7, position]), 13)
    word = int(philox([torch.tensor([c]) for c in (code // 4, position, candidate, 0)], (9, 5))[code % 4])
    uniform = ((word >> 9) + 0.5) * 2.0**-23
    assert noise.shape == (2, 13) and noise.dtype == torch.float32
    assert noise[1, code].item() == torch.tensor(-math.log(-math.log(uniform)), dtype=torch.float32).item()


def test_noise_of_a_place_does_not_depend_on_the_block_it_is_drawn_in() -> None:
    whole = gumbel(3, 1, torch.arange(20), 60)
    assert torch.equal(whole[5:9], gumbel(3, 1, torch.arange(5, 9), 60))
    assert torch.equal(whole[5:9, :37], gumbel(3, 1, torch.arange(5, 9), 37))


def test_every_part_of_the_name_of_a_stream_counts() -> None:
    positions = torch.arange(2)
    streams = [(0, 0), (1, 0), (0, 1), (1 << 32, 0), (2**63 - 1, 0)]
    blocks = [gumbel(seed, candidate, positions, 64) for seed, candidate in streams]
    rows = torch.cat(blocks)
    assert len(rows.unique(dim=0)) == 10


def test_moments_are_those_of_the_gumbel_distribution() -> None:
    noise = gumbel(11, 0, torch.arange(100), 2000).double()
    assert noise.isfinite().all()
    assert abs(noise.mean().item() - 0.57722) < 0.01
    assert abs(noise.var().item() - math.pi**2 / 6) < 0.02


@pytest.mark.parametrize("seed", [-1, 2**63, True, 1.0, "1", None])
def test_bad_seeds_are_refused(seed: object) -> None:
    with pytest.raises(ConfigError, match=r"seed is .*; it must be an integer in 0\.\.2\^63-1"):
        gumbel(seed, 0, torch.arange(1), 8)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="candidate is"):
        gumbel(0, 2**32, torch.arange(1), 8)
