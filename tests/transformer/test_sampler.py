import math

import pytest
import torch

from kinolenta.errors import ConfigError, GenerationError
from kinolenta.transformer import SamplingConfig
from kinolenta.transformer.noise import gumbel
from kinolenta.transformer.sampler import draw, warp

FIRST = torch.zeros(1, dtype=torch.int64)
LOGITS = torch.tensor([1.0, 3.0, 0.0, 2.0, -1.0])


def test_draws_follow_the_softmax() -> None:
    draws = 20_000
    codes = draw(LOGITS.expand(draws, 5), gumbel(1, 0, torch.arange(draws), 5), SamplingConfig(), 0)
    expected = LOGITS.softmax(0) * draws
    chi_square = ((codes.bincount(minlength=5) - expected) ** 2 / expected).sum().item()
    assert chi_square < 18.5  # 4 degrees of freedom, p = 0.001


def test_temperature_sharpens_and_zero_is_greedy() -> None:
    noise = gumbel(1, 0, torch.arange(4000), 5)
    rows = LOGITS.expand(4000, 5)
    share = [
        (draw(rows, noise, SamplingConfig(temperature=t), 0) == 1).double().mean().item() for t in (2, 1, 0.3)
    ]
    assert share[0] < share[1] < share[2]
    assert (draw(rows, noise, SamplingConfig(temperature=0), 0) == 1).all()
    assert (draw(rows, None, SamplingConfig(temperature=0), 0) == 1).all()


def test_top_k_keeps_the_k_likeliest() -> None:
    assert warp(LOGITS, SamplingConfig(top_k=2)).isfinite().tolist() == [False, True, False, True, False]
    assert torch.equal(warp(LOGITS, SamplingConfig(top_k=5)), LOGITS)
    assert torch.equal(warp(LOGITS, SamplingConfig(top_k=500)), LOGITS)


def test_top_p_keeps_the_smallest_set_that_holds_p() -> None:
    probability = LOGITS.softmax(0)
    p = (probability[1] + probability[3] / 2).item()
    assert warp(LOGITS, SamplingConfig(top_p=p)).isfinite().tolist() == [False, True, False, True, False]
    assert warp(LOGITS, SamplingConfig(top_p=1e-6)).isfinite().sum() == 1
    assert torch.equal(warp(LOGITS, SamplingConfig(top_p=1.0)), LOGITS)


def test_top_p_looks_at_what_temperature_left() -> None:
    sampling = SamplingConfig(temperature=0.1, top_p=0.9)
    assert warp(LOGITS, sampling).isfinite().sum() == 1


def test_ruled_out_codes_are_never_drawn() -> None:
    noise = gumbel(2, 0, torch.arange(3000), 5)
    codes = draw(LOGITS.expand(3000, 5), noise, SamplingConfig(temperature=50, top_k=3), 0)
    assert sorted(codes.unique().tolist()) == [0, 1, 3]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_raise(temperature: float, value: float) -> None:
    logits = LOGITS.repeat(2, 1)
    logits[1, 2] = value
    with pytest.raises(GenerationError, match=r"logits of code 17 are not finite in 20\.0% of their values"):
        draw(logits, torch.zeros(2, 5), SamplingConfig(temperature=temperature), torch.tensor([3, 17]))


@pytest.mark.parametrize("row", [[1e37, 5e37, 2e37], [-4e37, -1e37, -2e37]], ids=str)
@pytest.mark.parametrize("top_p", [None, 0.5])
def test_scores_that_overflow_raise(row: list[float], top_p: float | None) -> None:
    coldest = SamplingConfig(temperature=1e-4, top_p=top_p)
    with pytest.raises(GenerationError, match=r"code 0 reach .*e\+37, too far for a temperature of 0\.0001"):
        draw(torch.tensor([row]), torch.zeros(1, 3), coldest, FIRST)


def test_nothing_left_to_draw_raises() -> None:
    with pytest.raises(GenerationError, match=r"not finite in 100.0%"):
        draw(torch.full((1, 5), -math.inf), None, SamplingConfig(), FIRST)
    some = torch.tensor([[-math.inf, 0.0, -math.inf, -math.inf, -math.inf]])
    assert draw(some, gumbel(0, 0, torch.arange(1), 5), SamplingConfig(), FIRST).item() == 1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"temperature": -0.1}, r"temperature is -0.1; it must lie in 0.0..100.0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_k": 0}, "top_k is 0; it must lie in 1..1000000"),
        ({"top_p": 0.0}, "top_p is 0.0; it must lie in 1e-06..1.0"),
        ({"top_p": True}, "top_p is True"),
    ],
)
def test_bad_options_are_refused(values: dict[str, float], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        SamplingConfig(**values)  # type: ignore[arg-type]
