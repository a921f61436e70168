"""What a training step computes with, and where it is refused."""

from pathlib import Path

import pytest
import torch

from kinolenta.errors import ConfigError
from kinolenta.training import dtype
from kinolenta.training.transformer import TransformerTrainConfig, train


@pytest.mark.parametrize("name", ["float16", "", None, 32])
def test_other_numbers_are_refused(name: object) -> None:
    with pytest.raises(ConfigError, match="dtype must be float32 or bfloat16; got "):
        dtype.check_dtype(name)


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_products_are_in_these_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtype, "multiplies", lambda kind: True)
    x = torch.ones(2, 2)
    for _ in range(2):  # once a step
        with dtype.forward_in(name):
            assert str((x @ x).dtype) == f"torch.{name}"
    assert (x @ x).dtype == torch.float32


def test_bfloat16_is_refused_where_it_would_be_multiplied_number_by_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dtype, "multiplies", lambda kind: False)
    config = TransformerTrainConfig(codes="none", dev_codes="none", batch=1, steps=1, dtype="bfloat16")
    with pytest.raises(ConfigError, match=r"AVX-512.*train with --set dtype=float32\."):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    dtype.forward_in("float32")
