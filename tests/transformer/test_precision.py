"""Kinds of number that a transformer draws with."""

import pytest
import torch

from kinolenta.errors import ConfigError
from kinolenta.kernels.products import multiplies
from kinolenta.transformer.precision import with_precision
from kinolenta.transformer.stable import row_stable
from tests.transformer.tiny import random_codes, tiny_gpt

needs_bfloat16 = pytest.mark.skipif(not multiplies(torch.bfloat16), reason="no bfloat16 here")
TEXTS = [[5, 6, 7], [], [8] * 9]


@needs_bfloat16
@pytest.mark.parametrize("of_a_view", [False, True])
def test_bfloat16_is_near_float32_and_leaves_the_model_alone(of_a_view: bool) -> None:
    model = row_stable(tiny_gpt()) if of_a_view else tiny_gpt()
    rounded, stack = with_precision(model, "bfloat16")
    assert stack is None and rounded.kind.dtype == torch.bfloat16 and model.kind.dtype == torch.float32
    strip = model.layout.pack(TEXTS, random_codes(model, 3))
    with torch.no_grad():
        exact, near = model(strip), rounded(strip).float()
    assert not torch.equal(near, exact)
    assert float((near - exact).norm() / exact.norm()) < 0.05


@needs_bfloat16
def test_positions_far_out_are_not_rounded() -> None:
    rounded, _ = with_precision(tiny_gpt(), "bfloat16")
    places = torch.tensor([[[0, 900, 5, 7], [0, 901, 5, 7]]])
    exact_tables, near_tables = (model.rotary(places, places) for model in (tiny_gpt(), rounded))
    for exact, near in zip(exact_tables, near_tables, strict=True):
        assert near.dtype == torch.bfloat16
        torch.testing.assert_close(near.float(), exact, atol=2e-3, rtol=2**-8)


def test_a_processor_without_bfloat16_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    with pytest.raises(ConfigError, match=r"bfloat16 needs a processor .* choose float32"):
        with_precision(tiny_gpt(), "bfloat16")


def test_float32_is_float32_whatever_the_model_has() -> None:
    model = tiny_gpt()
    assert with_precision(model.bfloat16(), "float32")[0].kind.dtype == torch.float32
