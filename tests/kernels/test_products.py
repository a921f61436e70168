"""Weights laid out beforehand: PyTorch's own results, made anew whenever a weight has changed."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

from kinolenta.kernels import products
from kinolenta.kernels.products import LaidOut, Linear, convolution_of


@pytest.fixture(params=["oneDNN", "without"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without":
        monkeypatch.setattr(products, "multiplies", lambda dtype: False)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (3, 1)])
def test_convolutions_of_every_size_are_pytorchs(kernel: int, padding: int, stride: int) -> None:
    weight, bias = torch.randn(6, 5, kernel, kernel), torch.randn(6)
    convolve = convolution_of(weight, bias, stride, padding)
    for shape in ((1, 5, 8, 8), (3, 5, 8, 8), (2, 5, 7, 12), (1, 5, 8, 8)):
        x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(convolve(x), F.conv2d(x, weight, bias, stride, padding))


@pytest.mark.parametrize("biased", [False, True])
def test_linear_maps_are_pytorchs(biased: bool) -> None:
    weight, bias = torch.randn(7, 5), torch.randn(7) if biased else None
    for shape in ((1, 5), (2, 3, 5)):
        x = torch.randn(shape)
        torch.testing.assert_close(Linear(weight, bias)(x), F.linear(x, weight, bias))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(256, 704), (704, 256)], ids=str)
def test_a_product_onto_something_is_their_sum_bit_for_bit(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    product = Linear(torch.randn(shape).to(dtype))
    for rows in (2, 7, 64, 300):
        x, y = torch.randn(rows, shape[1]).to(dtype), torch.randn(rows, shape[0]).to(dtype)
        before = y.clone()
        assert torch.equal(product.onto(y, x), y + product(x)) and torch.equal(y, before)


def test_what_is_laid_out_follows_its_weights_and_its_copies_theirs() -> None:
    weight, bias, x = torch.nn.Parameter(torch.randn(7, 5)), torch.nn.Parameter(torch.randn(7)), torch.ones(5)
    laid_out = LaidOut(Linear)
    assert laid_out.of(weight, bias) is laid_out.of(weight, bias)
    for changed in (weight, bias):
        with torch.no_grad():
            changed.add_(1)
        torch.testing.assert_close(laid_out.of(weight, bias)(x), F.linear(x, weight, bias))
    for other in (copy.deepcopy(laid_out), pickle.loads(pickle.dumps(laid_out))):
        torch.testing.assert_close(other.of(-weight, bias)(x), F.linear(x, -weight, bias))
