"""The bits of a row do not depend on how many rows there are. A CPU whose library does otherwise fails here,
and the promise of equal clips does not hold on it."""

import os
import subprocess
import sys

import pytest
import torch

from kinolenta.transformer.stable import StableLinear, product_of, row_stable
from tests.transformer.tiny import random_codes, tiny_gpt

TEXTS = [[5, 6, 7], [], [8] * 9]
WIDTHS = [(256, 768), (256, 1408), (704, 256), (256, 4375), (512, 1536), (1344, 512), (2048, 768)]


@pytest.mark.parametrize("width", WIDTHS, ids=str)
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_row_of_a_product_is_the_same_among_2_to_1024_rows(
    width: tuple[int, int], threads: int, dtype: torch.dtype
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check_rows(*width, dtype)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("processor", ["SSE41", "AVX2", "AVX512_CORE"])
def test_rows_are_the_same_on_older_processors(processor: str) -> None:
    code = "from tests.transformer.test_stable import *\nfor width in WIDTHS: check_rows(*width)"
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": processor}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def check_rows(inputs: int, outputs: int, dtype: torch.dtype = torch.float32) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=generator).to(dtype)
    product = product_of(weight)
    x = torch.randn(1024, inputs, generator=generator).to(dtype)
    whole = product(x)
    exact, eps = x.double() @ weight.double().t(), torch.finfo(dtype).eps
    torch.testing.assert_close(whole.double(), exact, atol=4 * inputs * eps, rtol=eps)
    for rows in (2, 3, 4, 5, 7, 9, 16, 33, 64, 65, 100, 256, 512, 1023):
        for begin in (0, 1, 1024 - rows):
            assert torch.equal(product(x[begin : begin + rows]), whole[begin : begin + rows])


@pytest.mark.parametrize("d_ff", [704, 700, 1344])
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_row_of_a_feed_forward_is_the_same_among_many(threads: int, d_ff: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        block = row_stable(tiny_gpt(d_ff=d_ff)).blocks[0].feed_forward  # type: ignore[union-attr]
        x = torch.randn(1023, 32, generator=torch.Generator().manual_seed(2))
        with torch.no_grad():
            few = torch.cat([block(some) for some in x.split(3)])  # type: ignore[operator]
            for rows in (65, 97, 128, 333, 512, 1023):
                assert torch.equal(block(x[:rows]), few[:rows])  # type: ignore[operator]
    finally:
        torch.set_num_threads(before)


def test_row_stable_view_computes_the_same_and_shares_its_tensors() -> None:
    model = tiny_gpt(d_ff=600)
    view = row_stable(model)
    strip = model.layout.pack(TEXTS, random_codes(model, 3))
    with torch.no_grad():
        torch.testing.assert_close(view(strip), model(strip), atol=1e-4, rtol=1e-4)
    shared = dict(model.named_parameters())
    assert all(shared[name] is tensor for name, tensor in view.named_parameters())
    layer = view.blocks[0].feed_forward.down  # type: ignore[union-attr]
    assert isinstance(layer, StableLinear)
    assert not isinstance(model.blocks[0].feed_forward.down, StableLinear)  # type: ignore[union-attr]
    assert row_stable(view) is view


def test_a_view_that_was_moved_since_is_made_anew() -> None:
    view = row_stable(tiny_gpt()).bfloat16()
    x = torch.randn(3, view.config.d_model).bfloat16()
    assert row_stable(view).previous_in(x).dtype == torch.bfloat16


def test_a_view_multiplies_by_the_weights_that_it_was_made_of() -> None:
    model = tiny_gpt()
    view, x = row_stable(model), torch.randn(3, model.config.d_model)
    before = view.previous_in(x)
    with torch.no_grad():
        model.previous_in.weight += 1
    assert torch.equal(view.previous_in(x), before)
    assert not torch.equal(row_stable(model).previous_in(x), before)
