"""What a training step computes with, and where it is refused."""

from pathlib import Path

import pytest
import torch

from kinolenta.errors import ConfigError
from kinolenta.training import decoder, dtype
from kinolenta.training.transformer import TransformerTrainConfig, train
from tests.training.test_loop import small_config as small_clips_config
from tests.training.test_loop import small_store
from tests.training.test_transformer_training import small_config as small_codes_config
from tests.training.test_transformer_training import small_shard


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
    with pytest.raises(ConfigError, match=r"AVX-512.*choose dtype float32, or resume"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    dtype.forward_in("float32")


@pytest.mark.parametrize("stage", ["transformer", "decoder"])
def test_a_step_is_in_these_numbers(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []

    class Forward:
        def __init__(self, name: str) -> None:
            self.name = name

        def __enter__(self) -> None:
            entered.append(self.name)

        def __exit__(self, *raised: object) -> None:
            pass

    monkeypatch.setattr(f"kinolenta.training.{stage}.forward_in", Forward)
    if stage == "transformer":
        small_shard(tmp_path / "codes")
        train(small_codes_config(tmp_path, steps=2, dtype="bfloat16"), tmp_path / "run")
    else:
        small_store(tmp_path / "clips")
        config = small_clips_config(tmp_path, dtype="bfloat16")
        decoder.train(config, tmp_path, tmp_path / "run")
        assert config.total_steps == 6
    assert entered == ["bfloat16"] * (2 if stage == "transformer" else 6)
