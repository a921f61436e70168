"""Model folders: what is saved comes back, and whatever does not fit is named."""

import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from kinolenta.checkpoint import (
    ModelIndex,
    count_parameters,
    load_index,
    load_into,
    load_trainer_state,
    load_weights,
    save_index,
    save_trainer_state,
    save_weights,
)
from kinolenta.config import Config
from kinolenta.errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Sizes(Config):
    width: int = 4
    rates: tuple[float, ...] = (0.5, 1.0)


class Net(nn.Module):
    """Tied weights and a counting buffer: the two things that plain saving gets wrong."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width, bias=False)
        self.second.weight = self.first.weight
        self.norm = nn.BatchNorm1d(width)


def header_of(path: Path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write_raw(path: Path, header: str, payload: bytes) -> None:
    text = header.encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + payload)


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float16, torch.bfloat16])
def test_weights_come_back_as_fp32(tmp_path: Path, dtype: torch.dtype | None) -> None:
    net = Net()
    save_weights(tmp_path, Sizes(width=4), net.state_dict(), dtype)
    config, state = load_weights(tmp_path, Sizes)
    assert config == Sizes(width=4)
    for name, tensor in net.state_dict().items():
        wanted = tensor.to(dtype).float() if dtype and tensor.is_floating_point() else tensor
        assert torch.equal(state[name], wanted) and state[name].dtype == wanted.dtype
    other = Net()
    load_into(other, state)
    assert torch.equal(other.second.weight, state["first.weight"])
    assert count_parameters(tmp_path) == sum(tensor.numel() for tensor in net.state_dict().values())


def test_files_have_the_permissions_that_the_user_set(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        save_weights(tmp_path, Sizes(), Net().state_dict())
    finally:
        os.umask(old)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o644}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def test_missing_extra_and_misshapen_tensors_are_named() -> None:
    net = Net()
    state = dict(net.state_dict())
    before = {name: tensor.clone() for name, tensor in state.items()}
    with pytest.raises(CheckpointError, match=r"model.safetensors has no tensor 'first.bias' \(1 of 8"):
        load_into(net, {name: tensor for name, tensor in state.items() if name != "first.bias"})
    with pytest.raises(CheckpointError, match=r"holds a tensor 'third\.bias' that the model does not have"):
        load_into(net, state | {"third.bias": torch.zeros(4)})
    with pytest.raises(CheckpointError, match=r"'first.bias' has shape \[1, 4\]; the model wants \[4\]"):
        load_into(net, state | {"first.bias": torch.zeros(1, 4)})
    with pytest.raises(CheckpointError, match=r"'first\.bias' is torch.int64"):
        load_into(net, state | {"first.bias": torch.zeros(4, dtype=torch.int64)})
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused_both_ways(tmp_path: Path, value: float) -> None:
    bad = {"a": torch.tensor([0.0, value])}
    with pytest.raises(CheckpointError, match="'a' holds NaN or infinite"):
        save_weights(tmp_path / "saved", Sizes(), bad)
    assert not (tmp_path / "saved").exists()
    save_weights(tmp_path, Sizes(), {"a": torch.zeros(2)})
    save_trainer_state(tmp_path / "model.safetensors", bad, {})
    with pytest.raises(CheckpointError, match=r"model\.safetensors: tensor 'a' holds NaN"):
        load_weights(tmp_path, Sizes)


def test_overflow_while_narrowing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="infinite"):
        save_weights(tmp_path, Sizes(), {"a": torch.tensor([1e30])}, torch.float16)


def test_double_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"torch\.float64"):
        save_weights(tmp_path, Sizes(), {"a": torch.zeros(2, dtype=torch.float64)})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"widht": 4}', "no option 'widht'. Did you mean 'width'"),
        ('{"width": "4"}', "must be int"),
        ('{"width": 4, "width": 5}', "repeats the key 'width'"),
        ("[" * 100_000, "not valid JSON"),
        ("[1]", "must be a JSON object"),
        (" " * 1_000_001, "too large"),
        ("\xff", "not valid JSON"),
    ],
)
def test_damaged_config_is_refused(tmp_path: Path, content: str, words: str) -> None:
    save_weights(tmp_path, Sizes(), {"a": torch.zeros(2)})
    (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=words) as caught:
        load_weights(tmp_path, Sizes)
    assert "config.json" in str(caught.value) or "Sizes" in str(caught.value)


def test_damaged_weights_are_refused_by_name(tmp_path: Path) -> None:
    save_weights(tmp_path, Sizes(), {"a": torch.arange(4.0), "b": torch.zeros(2)})
    path = tmp_path / "model.safetensors"
    good = path.read_bytes()
    header, payload = header_of(path)
    first, second = json.dumps({"a": header["a"]})[1:-1], json.dumps({"b": header["b"]})[1:-1]
    overlap = json.dumps({"a": header["a"], "b": {**header["b"], "data_offsets": [0, 8]}})
    attacks: dict[str, bytes | tuple[str, bytes]] = {
        "empty": b"",
        "cut inside the length": good[:5],
        "cut inside the header": good[:40],
        "cut inside the numbers": good[:-3],
        "bytes after the end": good + b"\0",
        "not safetensors": b"PK\x03\x04" + bytes(100),
        "a pickle": b"\x80\x04\x95" + bytes(100),
        "header too large": (2**40).to_bytes(8, "little") + b"{}",
        "deep nesting": ("[" * 100_000, b""),
        "a repeated name": (f"{{{first}, {first}, {second}}}", payload),
        "overlapping numbers": (overlap, payload),
        "a list": ("[]", payload),
        "metadata of another kind": ('{"__metadata__": 3}', b""),
    }
    for name, attack in attacks.items():
        if isinstance(attack, bytes):
            path.write_bytes(attack)
        else:
            write_raw(path, *attack)
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            load_weights(tmp_path, Sizes)
        assert name
    path.unlink()
    with pytest.raises(CheckpointError, match="No such file"):
        load_weights(tmp_path, Sizes)
    os.mkfifo(path)
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_weights(tmp_path, Sizes)


def test_model_index_round_trip_and_refusals(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"is not a model folder: it has no model_index\.json"):
        load_index(tmp_path)
    index = ModelIndex(fps=8.0, kinds={"decoder": "VideoVQGAN"})
    save_index(tmp_path, index)
    assert load_index(tmp_path) == index
    values = index.to_dict() | {"format_version": 99}
    (tmp_path / "model_index.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"model_index\.json.*format version 99"):
        load_index(tmp_path)


def test_trainer_state_comes_back_in_its_own_dtypes(tmp_path: Path) -> None:
    shared = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    tensors = {
        "weight": shared,
        "view": shared[1:3].t(),
        "half": shared.bfloat16(),
        "rng": torch.Generator().manual_seed(1).get_state(),
        "step": torch.tensor(7),
        "loss": torch.tensor(float("nan"), dtype=torch.float64),
    }
    values = {"step": 7, "best": None, "order": [3, 1, 2], "nested": {"а": 1.5}}
    path = tmp_path / "run" / "state.safetensors"
    save_trainer_state(path, tensors, values)
    got, got_values = load_trainer_state(path)
    assert got_values == values and got.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert got[name].dtype == tensor.dtype
        assert torch.equal(got[name], tensor) or name == "loss"


def test_trainer_state_replaces_sweeps_and_survives_a_failed_write(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_trainer_state(path, {"a": torch.zeros(1)}, {"step": 1})
    (tmp_path / ".state.safetensors.0123.partial").write_bytes(b"left by a kill")
    save_trainer_state(path, {"a": torch.ones(1)}, {"step": 2})
    assert [other.name for other in tmp_path.iterdir()] == ["state.safetensors"]
    with pytest.raises(CheckpointError, match="not plain JSON"):
        save_trainer_state(path, {"a": torch.ones(1)}, {"step": object()})
    with pytest.raises(CheckpointError, match="not plain JSON"):
        save_trainer_state(path, {"a": torch.ones(1)}, {"loss": float("nan")})
    assert load_trainer_state(path)[1] == {"step": 2}


def test_model_weights_are_not_a_trainer_state(tmp_path: Path) -> None:
    save_weights(tmp_path, Sizes(), {"a": torch.zeros(2)})
    with pytest.raises(CheckpointError, match="is not a training state"):
        load_trainer_state(tmp_path / "model.safetensors")
