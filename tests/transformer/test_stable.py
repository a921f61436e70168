"""The bits of a row do not depend on how many rows there are. A CPU whose library does otherwise fails here,
and the promise of equal clips does not hold on it."""

import copy
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kinolenta.kernels.products import multiplies
from kinolenta.transformer.stable import StableLinear, StableProduct, row_stable
from tests.transformer.tiny import random_codes, tiny_gpt

TEXTS = [[5, 6, 7], [], [8] * 9]
ROOT = Path(__file__).resolve().parents[2]
needs_onednn = pytest.mark.skipif(
    not multiplies(torch.float32), reason="without oneDNN lone rows are never taken"
)
WIDTHS = [(256, 768), (256, 1408), (704, 256), (256, 4375), (512, 1536), (1344, 512), (2048, 768)]


@pytest.mark.parametrize("width", WIDTHS, ids=str)
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_row_of_a_product_is_the_same_among_1_to_2048_rows(
    width: tuple[int, int], threads: int, dtype: torch.dtype
) -> None:
    if dtype == torch.bfloat16 and not multiplies(dtype):
        pytest.skip(f"this processor does not multiply {dtype}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check_rows(*width, dtype)
    finally:
        torch.set_num_threads(before)


# The last name is that of any processor: one without AVX-512 runs what it has.
@pytest.mark.parametrize(("processor", "named"), [("SSE41", "SSE4.1"), ("AVX2", "AVX2"), ("AVX512_CORE", "")])
def test_rows_are_the_same_on_older_processors(processor: str, named: str) -> None:
    code = "from tests.transformer.test_stable import *\nfor width in WIDTHS: check_rows(*width)"
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": processor, "ONEDNN_VERBOSE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.search(rf"cpu,isa:.*{named}\n", done.stdout), done.stdout[:500]


def test_lone_rows_are_never_taken_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinolenta.kernels.products.multiplies", lambda dtype: False)
    monkeypatch.setattr(StableProduct, "_try_lone_rows", lambda self: True)
    assert not StableProduct(torch.randn(96, 64)).takes_lone_rows()


@needs_onednn
def test_lone_rows_are_taken_only_where_a_trial_shows_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 64)
    multiply = StableProduct.of_rows

    def lone_rows_otherwise(self: StableProduct, x: torch.Tensor) -> torch.Tensor:
        rows.append(len(x))
        return multiply(self, x) * (1 + 1e-6 * (len(x) == 1))

    rows: list[int] = []
    product = StableProduct(torch.randn(96, 64))
    expected = multiply(product, torch.cat((x, x)))[:1]
    monkeypatch.setattr(StableProduct, "of_rows", lone_rows_otherwise)
    assert not product.takes_lone_rows() and rows == [2, 1, 1]
    assert torch.equal(product(x), expected) and rows[3:] == [2]
    assert not StableProduct(torch.randn(96, 64).bfloat16()).takes_lone_rows() and len(rows) == 4
    monkeypatch.setattr(StableProduct, "of_rows", multiply)
    if StableProduct(torch.randn(96, 64)).takes_lone_rows():
        assert torch.equal(StableProduct.of_rows(product, x), expected)


@needs_onednn
def test_the_trial_is_of_each_number_of_threads_and_of_sums_onto_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alike, onto_alike = True, True

    def of_rows(self: StableProduct, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1].expand(-1, 96) + (len(x) == 1 and not alike)

    def onto(self: StableProduct, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return y + of_rows(self, x) + (len(x) == 1 and not onto_alike)

    monkeypatch.setattr(StableProduct, "of_rows", of_rows)
    monkeypatch.setattr(StableProduct, "onto", onto)
    monkeypatch.setattr("kinolenta.transformer.stable.torch.get_num_threads", lambda: threads)
    product, threads = StableProduct(torch.randn(96, 64)), 1
    assert product.takes_lone_rows()
    threads, alike = 2, False
    assert not product.takes_lone_rows()
    threads, alike, onto_alike = 3, True, False
    assert not product.takes_lone_rows()
    threads = 1
    assert product.takes_lone_rows(), "it is not tried again"


def check_rows(inputs: int, outputs: int, dtype: torch.dtype = torch.float32) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(outputs, inputs, generator=generator).to(dtype)
    product = StableProduct(weight)
    x = torch.randn(2048, inputs, generator=generator).to(dtype)
    whole = product(x)
    exact = x.double() @ weight.double().t()  # sums are in float32, results rounded to the type
    torch.testing.assert_close(whole.double(), exact, atol=5e-7 * inputs, rtol=torch.finfo(dtype).eps)
    for rows in (1, 2, 3, 4, 5, 7, 9, 16, 33, 64, 65, 100, 256, 512, 1023, 2047):
        for begin in (0, 1, 2048 - rows):
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


def test_a_view_notices_that_its_weights_have_changed() -> None:
    model = tiny_gpt()
    view, x = row_stable(model), torch.randn(3, model.config.d_model)
    for _ in range(2):
        torch.testing.assert_close(view.previous_in(x), x @ model.previous_in.weight.t())
        with torch.no_grad():
            model.previous_in.weight += 1
    view.load_state_dict(tiny_gpt(n_layer=2).state_dict())
    torch.testing.assert_close(view.previous_in(x), x @ model.previous_in.weight.t())
    assert view.double().previous_in(x.double()).dtype == torch.float64


@pytest.mark.parametrize(
    "name", ["code_table.own", "previous_in.weight", "place_w", "kind", "code_head.by_digit"]
)
def test_tables_are_made_once_and_anew_when_a_weight_has_changed(name: str) -> None:
    view = row_stable(tiny_gpt())
    before = view.tables()
    assert all(one is other for one, other in zip(before, view.tables(), strict=True))
    with torch.no_grad():
        view.get_parameter(name).mul_(2.0)
    x = torch.randn(3, 32)
    inputs, head = view.tables()
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(inputs, view.code_inputs(), strict=True))
        torch.testing.assert_close(head(x), view.code_logits(x))
        kept = [torch.equal(a, b) for a, b in zip(before[0], inputs, strict=True)]
        assert not all(kept) or not torch.equal(head(x), before[1](x))


def test_a_view_can_be_pickled_and_copied() -> None:
    view, x = row_stable(tiny_gpt()), torch.randn(3, 32)
    expected = view.previous_in(x)
    view.tables()
    for other in (pickle.loads(pickle.dumps(view)), copy.deepcopy(view)):
        assert isinstance(other.previous_in, StableLinear)
        assert torch.equal(other.previous_in(x), expected)


def test_a_view_is_made_of_a_model_and_not_by_itself() -> None:
    view = row_stable(tiny_gpt())
    with pytest.raises(TypeError, match="build a GPT"):
        type(view)(view.config)
