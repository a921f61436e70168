"""The bits of a row do not depend on how many rows there are. Measured on AVX-512; a CPU whose library does
otherwise fails here, and the promise of equal clips does not hold on it."""

import pytest
import torch
from torch import nn

from kinolenta.transformer.stable import SplitLinear, row_stable
from tests.transformer.tiny import random_codes, tiny_gpt

TEXTS = [[5, 6, 7], [], [8] * 9]
WIDTHS = [(256, 768), (256, 1408), (704, 256), (256, 4375), (512, 1536), (1344, 512), (2048, 768)]


@pytest.mark.parametrize("width", WIDTHS, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_row_of_a_product_is_the_same_among_2_to_1024_rows(width: tuple[int, int], threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        linear = stable(*width)
        x = torch.randn(1024, width[0], generator=torch.Generator().manual_seed(1))
        few = linear(x[:64])
        for rows in (2, 3, 4, 7, 16, 33, 64, 65, 100, 256, 512, 1024):
            got = linear(x[:rows])
            assert torch.equal(got[:64], few[:rows])
            assert torch.equal(linear(x[rows - 2 : rows]), got[-2:])
    finally:
        torch.set_num_threads(before)


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


def test_split_layer_is_the_layer() -> None:
    linear = stable(1500, 32)
    assert isinstance(linear, SplitLinear)
    x = torch.randn(5, 1500)
    torch.testing.assert_close(linear(x), x @ linear.weight.t(), atol=1e-3, rtol=1e-4)


def test_row_stable_view_computes_the_same_and_shares_all_but_linear_weights() -> None:
    model = tiny_gpt(d_ff=600)
    view = row_stable(model)
    strip = model.layout.pack(TEXTS, random_codes(model, 3))
    with torch.no_grad():
        torch.testing.assert_close(view(strip), model(strip), atol=1e-4, rtol=1e-4)
    assert view.text_table is model.text_table
    assert view.blocks[0].attention.qkv.weight.stride() == (1, 64 + 32)  # type: ignore[union-attr]
    assert isinstance(view.blocks[0].feed_forward.down, SplitLinear)  # type: ignore[union-attr]
    assert not isinstance(model.blocks[0].feed_forward.down, SplitLinear)  # type: ignore[union-attr]
    again = row_stable(view)  # nothing left to copy
    assert again.previous_in.weight.data_ptr() == view.previous_in.weight.data_ptr()


def stable(inputs: int, outputs: int) -> nn.Linear:
    """A layer as ``row_stable`` would leave it."""
    model = tiny_gpt()
    model.previous_in = nn.Linear(inputs, outputs, bias=False)
    with torch.no_grad():
        model.previous_in.weight.copy_(
            torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(0))
        )
    return row_stable(model).previous_in
